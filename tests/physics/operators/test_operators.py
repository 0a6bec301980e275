"""One battery for every operator: adjoint, linearity, dense oracle, batches, pickling, precision; and its controls."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from infield import InfieldError
from infield.core._deepinv import deepinv
from infield.core.grid import Axis, Grid, PointSet
from infield.physics.cm21.interferometer import independent_modes
from infield.physics.operators.base import LinearOperator
from infield.physics.operators.composition import Scale, compose
from infield.physics.operators.convolution import Convolution
from infield.physics.operators.fourier import FourierSampling
from infield.physics.operators.least_squares import LeastSquaresMixin, null_projection
from infield.physics.operators.rebuilt import _fixed
from infield.physics.operators.registry import build_operator
from infield.physics.operators.sensors import Mask
from infield.testing import check_operator

TOLERANCE = 1e-10


@dataclass
class Case:
    """An operator as a file describes it, and the same map as a matrix built without it."""

    id: str
    description: dict
    arrays: dict
    grid: Grid | PointSet
    channels: int
    dense: np.ndarray = field(repr=False)

    def build(self):
        return build_operator(self.description, self.arrays, self.grid, self.channels)


# --- matrices, each from its definition ---


def dft(shape: tuple[int, ...]) -> np.ndarray:
    """Centred orthonormal DFT: frequency and position count from n // 2."""

    def along(n):
        i = np.arange(n) - n // 2
        return np.exp(-2j * np.pi * np.outer(i, i) / n) / np.sqrt(n)

    return reduce(np.kron, [along(n) for n in shape])


def real_matrix(complex_matrix: np.ndarray, channels: int = 2) -> np.ndarray:
    """A complex map as one of (real, imaginary) stacks; with one channel the field is real."""
    real, imaginary = complex_matrix.real, complex_matrix.imag
    return np.block([[real, -imaginary], [imaginary, real]])[:, : channels * complex_matrix.shape[1]]


def visibility_matrix(shape: tuple[int, int, int], cells: int, stretch: int) -> np.ndarray:
    """Sums over the sky, channel means, and sums over the channels of each stretch, from their definitions."""
    nx, ny, depth = shape
    channels = depth // cells

    def along(modes, n, length):
        return np.exp(-2j * np.pi * np.outer(modes, np.arange(n)) / n) / np.sqrt(length)

    means = np.kron(np.eye(channels), np.full((1, cells), 1 / cells))
    if stretch:
        means = np.kron(np.eye(channels // stretch), along(np.arange(stretch), stretch, stretch)) @ means
    sky = np.kron(along(np.arange(nx), nx, nx), along(np.arange(ny // 2 + 1), ny, ny))
    return np.kron(sky, means)


def convolution_matrix(shape: tuple[int, ...], kernel: np.ndarray, boundary: str) -> np.ndarray:
    matrix = np.zeros((np.prod(shape), np.prod(shape)))
    for i in np.ndindex(*shape):
        for j in np.ndindex(*kernel.shape):
            source = tuple(a - (b - k // 2) for a, b, k in zip(i, j, kernel.shape, strict=True))
            if boundary == "periodic":
                source = tuple(s % n for s, n in zip(source, shape, strict=True))
            elif any(not 0 <= s < n for s, n in zip(source, shape, strict=True)):
                continue
            matrix[np.ravel_multi_index(i, shape), np.ravel_multi_index(source, shape)] += kernel[j]
    return matrix


def gaussian_matrix(grid: Grid, width: float, boundary: str) -> np.ndarray:
    distance = grid.points()[:, None] - grid.points()[None]
    if boundary == "periodic":  # the sum over images, along each axis
        images = torch.arange(-30, 31)[:, None] * torch.tensor(grid.lengths)
        profiles = torch.exp(-0.5 * (distance[..., None, :] + images) ** 2 / width**2).sum(-2)
        weight = profiles.prod(-1).numpy()
        return weight / weight.sum(1, keepdims=True)
    weight = torch.exp(-0.5 * (distance**2).sum(-1) / width**2).numpy()
    far = [np.arange(-200, 201) * h for h in grid.spacing]
    return weight / np.prod([np.exp(-0.5 * d**2 / width**2).sum() for d in far])


def interpolation_matrix(grid: Grid, coordinates: np.ndarray) -> np.ndarray:
    """By scipy; a periodic axis is closed by repeating its first point and wrapping the coordinates by hand."""
    values, knots, coordinates = np.eye(grid.size).reshape(*grid.shape, grid.size), [], coordinates.copy()
    for i, axis in enumerate(grid.axes):
        knots.append(list(axis.coordinates))
        if axis.periodic:
            knots[-1].append(axis.coordinates[-1] + axis.spacing)
            values = np.concatenate([values, np.take(values, [0], axis=i)], axis=i)
            period = axis.spacing * axis.size
            while (low := coordinates[:, i] < knots[-1][0]).any():
                coordinates[low, i] += period
            while (high := coordinates[:, i] > knots[-1][-1]).any():
                coordinates[high, i] -= period
    return RegularGridInterpolator(knots, values, method="linear")(coordinates)


# --- the cases ---


def cases() -> list[Case]:
    rng = np.random.default_rng(0)
    found = []

    def add(id, description, arrays, grid, channels, dense):
        found.append(
            Case(f"{id}-{'x'.join(map(str, grid.shape))}-c{channels}", description, arrays, grid, channels, dense)
        )

    def per_channel(channels, matrix):
        return np.kron(np.eye(channels), matrix)

    shapes = [((7,), 1), ((8,), 3), ((5, 6), 1), ((4, 7), 2), ((3, 4, 5), 1), ((2, 5, 3), 2)]
    for shape, channels in shapes:
        grid = Grid.regular(shape, tuple(1.0 + i for i in range(len(shape))))
        space = rng.random(shape) > 0.4
        add(
            "mask",
            {"name": "mask", "arrays": {"mask": "m"}},
            {"m": space},
            grid,
            channels,
            per_channel(channels, np.diag(space.ravel().astype(float))),
        )
        sampled = np.diag(space.ravel().astype(float))
        for complex_channels in (1, 2):
            add(
                "fourier",
                {"name": "fourier", "arrays": {"mask": "m"}},
                {"m": space},
                grid,
                complex_channels,
                real_matrix(sampled @ dft(shape), complex_channels),
            )
        for boundary, size in itertools.product(("periodic", "zero"), (2, 3)):
            kernel = rng.normal(size=tuple(min(size, n) for n in shape))
            description = {"name": "convolution", "arrays": {"kernel": "k"}, "parameters": {"boundary": boundary}}
            dense = convolution_matrix(shape, kernel, boundary)
            add(f"{boundary}{size}", description, {"k": kernel}, grid, channels, per_channel(channels, dense))
        for boundary in ("periodic", "zero"):
            even = Grid.regular(shape, 1.0, periodic=boundary == "periodic")
            description = {"name": "convolution", "parameters": {"gaussian_width": 0.2, "boundary": boundary}}
            dense = gaussian_matrix(even, 0.2, boundary)
            add(f"gaussian-{boundary}", description, {}, even, channels, per_channel(channels, dense))
        for periodic in (False, True):
            domain = Grid.regular(shape, tuple(1.0 + i for i in range(len(shape))), periodic=periodic)
            places = rng.uniform(0, 1, (6, len(shape))) * [a.coordinates[-1] for a in domain.axes]
            places[0] = [a.coordinates[-1] for a in domain.axes]  # on the rim, and below a sensor given twice
            places[1] = places[2]
            places = places + rng.integers(-2, 3, places.shape) * domain.lengths if periodic else places
            add(
                "wrapped-points" if periodic else "points",
                {"name": "points", "arrays": {"coordinates": "xy"}},
                {"xy": places},
                domain,
                channels,
                per_channel(channels, interpolation_matrix(domain, places)),
            )
    uneven = Grid((Axis("y", (0.0, 0.5, 2.0, 2.25)), Axis("x", (0.0, 0.1, 1.0, 1.5, 1.75), periodic=True)))
    places = rng.uniform(0, 1.75, (5, 2))
    dense = per_channel(2, interpolation_matrix(uneven, places))
    add("uneven-points", {"name": "points", "arrays": {"coordinates": "xy"}}, {"xy": places}, uneven, 2, dense)

    scattered = PointSet(tuple(map(tuple, rng.random((9, 2)))), names=("y", "x"))
    indices = np.array([4, 0, 8, 4])
    dense = per_channel(2, np.eye(9)[indices])
    add("indices", {"name": "points", "arrays": {"indices": "i"}}, {"i": indices}, scattered, 2, dense)
    dense = per_channel(1, np.eye(12)[indices])
    add("indices", {"name": "points", "arrays": {"indices": "i"}}, {"i": indices}, Grid.regular((3, 4)), 1, dense)
    mask = rng.random((2, 4, 5)) > 0.5
    dense = np.diag(mask.ravel().astype(float))
    add("channel-mask", {"name": "mask", "arrays": {"mask": "m"}}, {"m": mask}, Grid.regular((4, 5)), 2, dense)

    for shape in ((5, 6), (4, 7), (5, 3), (4, 6)):
        grid, coils = Grid.regular(shape), 3
        maps = rng.normal(size=(coils, *shape)) + 1j * rng.normal(size=(coils, *shape))
        sampled = rng.random(shape) > 0.4
        each = [np.diag(sampled.ravel()) @ dft(shape) @ np.diag(s.ravel()) for s in maps]
        description = {"name": "multicoil-mri", "arrays": {"coil_maps": "s", "mask": "m"}}
        add("multicoil", description, {"s": maps, "m": sampled}, grid, 2, real_matrix(np.concatenate(each)))
        arrays = {"m": sampled.astype(np.float64)}
        description = {"name": "deepinv:MRI", "arrays": {"mask": "m"}}
        add("deepinv-mri", description, arrays, grid, 2, real_matrix(each[0] @ np.diag(1 / maps[0].ravel())))

    shape, coils = (3, 5, 4), 2
    maps = rng.normal(size=(coils, *shape)) + 1j * rng.normal(size=(coils, *shape))
    for name, sampled in (("slices", rng.random(shape) > 0.4), ("slices-one-mask", rng.random(shape[1:]) > 0.4)):
        transform = np.kron(np.eye(3), dft(shape[1:]))
        seen = np.diag(np.broadcast_to(sampled, shape).ravel())
        each = np.concatenate([seen @ transform @ np.diag(s.ravel()) for s in maps])
        description = {"name": "multicoil-mri-slices", "arrays": {"coil_maps": "s", "mask": "m"}}
        add(name, description, {"s": maps, "m": sampled}, Grid.regular(shape), 2, real_matrix(each))

    for shape, cells, stretch, fwhm in (
        ((4, 6, 6), 1, 0, None),
        ((5, 4, 8), 2, 4, None),
        ((4, 5, 12), 2, 3, None),
        ((3, 3, 4), 1, 2, 2.5),
        ((6, 4, 3), 1, 0, 1.5),
    ):
        grid, (nx, ny, depth) = Grid.regular(shape, tuple(float(n) for n in shape), periodic=True), shape
        mask = (rng.random((nx, ny // 2 + 1, depth // cells)) > 0.4) & independent_modes(nx, ny).numpy()[..., None]
        beam, arrays = np.ones(shape), {"m": mask}
        if fwhm is not None:
            arrays["w"] = fwhm + 0.1 * np.arange(depth)
            r2 = np.add.outer((np.arange(nx) - nx // 2) ** 2, (np.arange(ny) - ny // 2) ** 2)
            beam = 0.5 ** (4 * r2[..., None] / arrays["w"] ** 2)
        parameters = {"channel_cells": cells, "delay_channels": stretch}
        roles = {"mask": "m"} if fwhm is None else {"mask": "m", "beam_fwhm": "w"}
        description = {"name": "interferometer", "parameters": parameters, "arrays": roles}
        dense = visibility_matrix(shape, cells, stretch) @ np.diag(beam.ravel())
        add(f"telescope-{cells}-{stretch}", description, arrays, grid, 1, real_matrix(mask.ravel()[:, None] * dense, 1))

    grid = Grid.regular((5, 7))
    mask, kernel, scale = rng.random((5, 7)) > 0.5, rng.normal(size=(3, 3)), rng.normal(size=(2, 1, 1))
    arrays = {"m": mask, "k": kernel, "k4": kernel[None, None], "scale": scale}
    picking = {"name": "mask", "arrays": {"mask": "m"}}
    blurring = {"name": "convolution", "arrays": {"kernel": "k"}}
    scaling = {"name": "affine", "arrays": {"scale": "scale"}}
    masked, blurred = np.diag(mask.ravel().astype(float)), convolution_matrix((5, 7), kernel, "periodic")
    scaled = np.kron(np.diag(scale.ravel()), np.eye(35))
    add("affine", scaling, arrays, grid, 2, scaled)
    composed = {"name": "compose", "operators": [picking, blurring, scaling]}
    add("compose", composed, arrays, grid, 2, per_channel(2, masked @ blurred) @ scaled)
    summed = {"name": "sum", "weights": [2.0, -0.5], "operators": [blurring, picking]}
    add("sum", summed, arrays, grid, 2, per_channel(2, 2.0 * blurred - 0.5 * masked))
    beside = {"name": "stack", "operators": [blurring, picking]}
    add("stack", beside, arrays, grid, 2, np.vstack([per_channel(2, blurred), per_channel(2, masked)]))
    named = {"name": "deepinv:BlurFFT", "arrays": {"filter": "k4"}}
    add("deepinv-blur", named, arrays, grid, 2, per_channel(2, blurred))
    named = {"name": "deepinv:Inpainting", "arrays": {"mask": "m"}}
    add("deepinv-inpainting", named, arrays, grid, 2, per_channel(2, masked))
    through = {"name": "fourier", "arrays": {"mask": "m"}}
    sampled_blurred = real_matrix(masked @ dft((5, 7)), 1) @ blurred
    add("blur-fourier", {"name": "compose", "operators": [through, blurring]}, arrays, grid, 1, sampled_blurred)
    return found


CASES = cases()
SAMPLING = ("mask", "channel-mask", "fourier", "blur-fourier", "multicoil", "compose", "telescope")
every_operator = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


# --- the checks; each gives a relative error ---


def fields(A, batch: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, A.channels, *A.grid.shape, generator=generator, dtype=torch.float64)


def data(A, batch: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, *A.data_shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def adjoint_error(A, draws: int = 5) -> float:
    """The worst of the draws, each against the norms of what is multiplied: signed errors cannot cancel."""
    x, y = fields(A, draws), data(A, draws)
    Ax, Aty = A.A(x), A.A_adjoint(y)
    difference = (Ax * y).flatten(1).sum(1) - (x * Aty).flatten(1).sum(1)
    scale = Ax.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1) + x.flatten(1).norm(dim=1) * Aty.flatten(1).norm(dim=1)
    return (difference.abs() / scale).max().item()


def linearity_error(A) -> float:
    u, v = fields(A, 2, seed=2), fields(A, 2, seed=3)
    return relative(A.A(1.5 * u - 0.3 * v), 1.5 * A.A(u) - 0.3 * A.A(v))


def batch_error(A) -> float:
    """Row i of a batch against the same field alone."""
    x, y = fields(A, 3), data(A, 3)
    forward = [relative(A.A(x)[i : i + 1], A.A(x[i : i + 1])) for i in range(3)]
    backward = [relative(A.A_adjoint(y)[i : i + 1], A.A_adjoint(y[i : i + 1])) for i in range(3)]
    return max(forward + backward)


def dense_error(A, matrix: np.ndarray) -> float:
    """Both directions against a matrix."""
    x, y, M = fields(A, 2), data(A, 2), torch.from_numpy(matrix)
    forward = relative(A.A(x).flatten(1), x.flatten(1) @ M.T)
    return max(forward, relative(A.A_adjoint(y).flatten(1), y.flatten(1) @ M))


@every_operator
def test_battery(case):
    """Adjoint, linearity, derivatives, batches, precisions and description: the checks that others have for theirs."""
    check_operator(case.build(), description=case.description, arrays=case.arrays, pickled=False)


@every_operator
def test_dense_oracle(case):
    A = case.build()
    assert dense_error(A, case.dense) < TOLERANCE
    assert A.A(fields(A, 2)).shape == (2, *A.data_shape)


@every_operator
def test_pickling(case):
    A = case.build()
    B = pickle.loads(pickle.dumps(A))
    x, y = fields(A, 2), data(A, 2)
    assert torch.equal(A.A(x), B.A(x)) and torch.equal(A.A_adjoint(y), B.A_adjoint(y))
    assert (B.name, B.grid, B.data_shape) == (A.name, A.grid, A.data_shape)
    assert (A.observed is None and B.observed is None) or torch.equal(A.observed, B.observed)
    half = pickle.loads(pickle.dumps(A.to(torch.float32)))
    assert half.A(x.float()).dtype == torch.float32


@pytest.mark.parametrize("case", [case for case in CASES if case.id.startswith(SAMPLING)], ids=lambda case: case.id)
def test_unobserved_data_are_zero_and_do_not_matter(case):
    A = case.build()
    assert A.observed.shape == A.data_shape and A.observed.dtype == torch.bool
    assert (A.A(fields(A, 2))[:, ~A.observed] == 0).all()
    assert (case.dense[~A.observed.numpy().ravel()] == 0).all()
    y = data(A, 2)
    spoiled = torch.where(A.observed, y, torch.nan)
    assert torch.equal(A.A_adjoint(spoiled), A.A_adjoint(torch.where(A.observed, y, 0.0)))


def pseudo_inverse_error(A, matrix: np.ndarray) -> float:
    """A^+ of data that the operator can make, so that conjugate gradients and a closed form mean the same."""
    M, y = torch.from_numpy(matrix), A.A(fields(A, 2))
    return relative(A.A_dagger(y).flatten(1), y.flatten(1) @ torch.linalg.pinv(M, rtol=1e-6).T)


def proximal_error(A, matrix: np.ndarray, gamma: float = 3.0) -> float:
    """(gamma A^T A + I)^-1 (gamma A^T y + z)."""
    M, y, z = torch.from_numpy(matrix), data(A, 2), fields(A, 2, seed=4)
    y = y if A.observed is None else torch.where(A.observed, y, 0.0)
    right = gamma * y.flatten(1) @ M + z.flatten(1)
    exact = torch.linalg.solve(gamma * M.T @ M + torch.eye(M.shape[1]), right.T).T
    return relative(A.prox_l2(z, y, gamma).flatten(1), exact)


@every_operator
def test_pseudo_inverse_and_proximal_step(case):
    A = case.build()
    if not isinstance(A, LeastSquaresMixin):  # deepinv's own
        return
    conditions = torch.linalg.svdvals(torch.from_numpy(case.dense))
    seen = conditions[conditions > 1e-6 * conditions[0]]
    if seen[0] / seen[-1] < 100:  # conjugate gradients square it
        assert pseudo_inverse_error(A, case.dense) < 1e-6
    assert proximal_error(A, case.dense) < 1e-7


def test_closed_forms_take_no_iterations_and_survive_a_change_of_scale():
    grid, scale = Grid.regular((5, 6), periodic=True), torch.full((2, 1, 1), 3.0, dtype=torch.float64)
    mask = torch.rand((5, 6), generator=torch.Generator().manual_seed(0)) > 0.5
    for outer in (
        Mask(grid, 2, mask),
        FourierSampling(grid, 2, mask),
        Convolution(grid, 2, torch.rand(3, 3, dtype=torch.float64)),
    ):
        A = compose(outer, Scale(grid, 2, scale))
        dense = torch.stack([A.A(e[None])[0].flatten() for e in torch.eye(60).double().reshape(60, 2, 5, 6)], dim=1)
        calls = []
        outer_A = outer.A
        outer.A = lambda x, outer_A=outer_A, calls=calls: calls.append(1) or outer_A(x)
        assert proximal_error(A, dense.numpy()) < 1e-12
        assert pseudo_inverse_error(A, dense.numpy()) < 1e-12
        assert len(calls) <= 4  # two make data
        x = fields(A, 2)
        null = null_projection(A, x)
        assert relative(A.A(x - null), A.A(x)) < 1e-12 and A.A(null).abs().max() < 1e-12
        assert relative(null_projection(A, null), null) < 1e-12 if null.norm() > 1e-9 else True


def test_rows_that_are_not_orthonormal_are_not_taken_for_such():
    grid = Grid.regular((3, 4))
    twice = build_operator({"name": "points", "arrays": {"indices": "i"}}, {"i": np.array([1, 5, 1])}, grid, 1)
    once = build_operator({"name": "points", "arrays": {"indices": "i"}}, {"i": np.array([1, 5])}, grid, 1)
    assert once.row_power == 1 and twice.row_power is None
    assert FourierSampling(grid, 1, torch.ones(3, 4, dtype=torch.bool)).row_power is None
    uneven = compose(once, Scale(grid, 1, torch.rand(1, 3, 4, dtype=torch.float64) + 1))
    assert uneven.row_power is None and uneven.factor is None


# --- shapes that nobody thought of ---


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    channels=st.integers(1, 3),
    name=st.sampled_from(["mask", "fourier", "kernel", "gaussian", "points"]),
    boundary=st.sampled_from(["periodic", "zero"]),
    seed=st.integers(0, 99),
)
def test_adjoint_on_any_shape(shape, channels, name, boundary, seed):
    rng = np.random.default_rng(seed)
    grid = Grid.regular(shape, periodic=boundary == "periodic")
    mask, parameters = rng.random(shape) > 0.3, {"boundary": boundary}
    mask.flat[0] = True
    description, arrays = {
        "mask": ({"name": "mask", "arrays": {"mask": "a"}}, mask),
        "fourier": ({"name": "fourier", "arrays": {"mask": "a"}}, mask),
        "kernel": (
            {"name": "convolution", "arrays": {"kernel": "a"}, "parameters": parameters},
            rng.normal(size=tuple(rng.integers(1, n + 1) for n in shape)),
        ),
        "gaussian": ({"name": "convolution", "parameters": {"gaussian_width": 0.3, **parameters}}, mask),
        "points": (
            {"name": "points", "arrays": {"coordinates": "a"}},
            rng.random((4, len(shape))) * [axis.coordinates[-1] for axis in grid.axes],
        ),
    }[name]
    channels = min(channels, 2) if name == "fourier" else channels
    A = build_operator(description, {"a": arrays}, grid, channels)
    assert adjoint_error(A) < TOLERANCE and linearity_error(A) < TOLERANCE


# --- controls: the same checks reject what is wrong ---


class TransposeWithoutConjugate(Convolution):
    def A_adjoint(self, y):
        return self.A(y)


class NonlinearMask(Mask):
    def A(self, x):
        return super().A(x.abs())


class BatchCentred(Mask):
    def A(self, x):
        return super().A(x - x.mean(0, keepdim=True))


class WronglyShifted(FourierSampling):
    """fftshift and ifftshift exchanged: right for even sizes, wrong for odd ones, and its adjoint is its adjoint."""

    def A(self, x):
        k = torch.fft.ifftshift(
            torch.fft.fft(torch.fft.fftshift(torch.complex(x[:, 0], x[:, 1]), -1), norm="ortho"), -1
        )
        return self._sampled(torch.stack([k.real, k.imag], 1))

    def A_adjoint(self, y):
        y = self._sampled(y)
        x = torch.fft.ifftshift(
            torch.fft.ifft(torch.fft.fftshift(torch.complex(y[:, 0], y[:, 1]), -1), norm="ortho"), -1
        )
        return torch.stack([x.real, x.imag], 1)


class ImaginaryPartKept(FourierSampling):
    """The adjoint of a real field that forgets to be real: a modulus in place of the real part."""

    def A_adjoint(self, y):
        self.channels = 2
        x = super().A_adjoint(y).norm(dim=1, keepdim=True)
        self.channels = 1
        return x


def test_controls_are_rejected():
    grid = Grid.regular((7,))
    everything = torch.ones(7, dtype=torch.bool)
    kernel = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)
    assert adjoint_error(Convolution(grid, 1, kernel)) < TOLERANCE
    assert adjoint_error(TransposeWithoutConjugate(grid, 1, kernel)) > 1e-3
    assert adjoint_error(ImaginaryPartKept(grid, 1, everything)) > 1e-3
    assert linearity_error(NonlinearMask(grid, 1, everything)) > 1e-3
    assert batch_error(BatchCentred(grid, 1, everything)) > 1e-3
    for n, wrong in ((8, False), (7, True)):
        A = WronglyShifted(Grid.regular((n,)), 2, torch.ones(n, dtype=torch.bool))
        assert adjoint_error(A) < TOLERANCE  # which is why the battery has a dense oracle
        assert (dense_error(A, real_matrix(dft((n,)))) > 1e-3) == wrong


def test_a_signed_average_would_miss_a_wrong_adjoint():
    class SignFlipping(Mask):
        def A_adjoint(self, y):
            return y * torch.tensor([1.5, 0.5, 1.5, 0.5]).repeat(len(y))[: len(y)].reshape(-1, 1, 1)

    A = SignFlipping(Grid.regular((6,)), 1, torch.ones(6, dtype=torch.bool))
    assert adjoint_error(A, draws=4) > 1e-2


def test_plain_torch_would_lose_the_imaginary_part():
    case = next(case for case in CASES if case.id.startswith("multicoil"))
    A, x = case.build(), fields(case, 1)
    expected = A.A(x)
    with pytest.warns(UserWarning, match="imaginary"):
        A.image_side = A.image_side.to(torch.float32).to(torch.complex64)
    assert relative(A.A(x), expected) > 0.1


# --- they run in deepinv's own algorithms ---


def well_posed(name: str) -> LinearOperator:
    rng = np.random.default_rng(3)
    grid = Grid.regular((5, 6))
    arrays = {
        "m": np.ones((5, 6)),
        "s": 0.3 + rng.random((3, 5, 6)) + 1j * rng.random((3, 5, 6)),
        "k": np.array([[0.0, 0.1, 0], [0.2, 1.0, 0.1], [0, 0.1, 0]]),
        "xy": rng.random((90, 2)),
    }
    description = {
        "points": {"name": "points", "arrays": {"coordinates": "xy"}},
        "convolution": {"name": "convolution", "arrays": {"kernel": "k"}},
        "fourier": {"name": "fourier", "arrays": {"mask": "m"}},
        "multicoil-mri": {"name": "multicoil-mri", "arrays": {"coil_maps": "s", "mask": "m"}},
        "deepinv:MRI": {"name": "deepinv:MRI", "arrays": {"mask": "m"}},
    }[name]
    return build_operator(description, arrays, grid, 2)


@pytest.mark.parametrize("name", ["points", "convolution", "fourier", "multicoil-mri", "deepinv:MRI"])
def test_deepinv_pseudoinverse(name):
    A = well_posed(name)
    x = fields(A, 2)
    assert relative(A.A_dagger(A.A(x), solver="lsqr", max_iter=400, tol=1e-12), x) < 1e-5


@pytest.mark.parametrize("name", ["convolution", "multicoil-mri"])
def test_deepinv_optimiser_finds_the_ridge_solution(name):
    A = well_posed(name)
    y = A.A(fields(A, 1)) + 0.1 * data(A, 1)
    n = fields(A, 1).numel()
    M = A.A(torch.eye(n, dtype=torch.float64).reshape(n, *A.img_size)).flatten(1).T
    expected = torch.linalg.solve(M.T @ M + 0.5 * torch.eye(n, dtype=torch.float64), M.T @ y.flatten())
    gradient_descent = deepinv.optim.GD(
        data_fidelity=deepinv.optim.L2(),
        prior=deepinv.optim.Tikhonov(),
        lambda_reg=0.5,
        stepsize=1.0 / torch.linalg.norm(M, 2).item() ** 2,
        max_iter=2000,
        early_stop=False,
    )
    assert relative(gradient_descent(y, A).flatten(), expected) < 1e-4


def test_tomography_of_deepinv_runs_in_both_precisions_with_an_exact_adjoint():
    """deepinv's own adjoint is of float32 and refuses other data."""
    description = {"name": "deepinv:Tomography", "parameters": {"angles": 5, "img_width": 8, "normalize": False}}
    A = build_operator(description, {}, Grid.regular((8, 8)), 1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((3, 1, 8, 8), generator=generator, dtype=torch.float64)
    y = torch.randn((3, *A.data_shape), generator=generator, dtype=torch.float64)
    torch.testing.assert_close((A.A(x) * y).sum(), (x * A.A_adjoint(y)).sum(), rtol=1e-12, atol=0)
    z = x.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(A.A(z), z, y)[0], A.A_adjoint(y))
    single = A.to(torch.float32)
    torch.testing.assert_close(
        single.A_adjoint(y.float()).double(), A.to(torch.float64).A_adjoint(y), rtol=1e-4, atol=1e-4
    )


def test_one_sensor_is_enough_and_none_is_too_few():
    grid = Grid.regular((4, 4))
    description = {"name": "points", "arrays": {"coordinates": "at"}}
    operator = build_operator(description, {"at": np.array([[1 / 3, 2 / 3]])}, grid, 1)
    assert float(operator.A(torch.arange(16.0).reshape(1, 1, 4, 4))) == pytest.approx(6)
    with pytest.raises(InfieldError, match="found no sensor, expected the coordinates of at least one"):
        build_operator(description, {"at": np.empty((0, 2))}, grid, 1)


def test_fingerprints_of_earlier_files_hold():
    """Their fields are fractions of (i + start / 4) times the golden ratio, which files rely on."""
    expected = [[0.7725424859373686, 0.3905764746872635], [0.008610463437158, 0.6266444521870529]]
    np.testing.assert_allclose(_fixed((2, 2), 1), expected, atol=1e-12)
