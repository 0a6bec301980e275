"""Darcy flow: exact solutions, smooth and with jumps, gradients, iterations, other people's pairs; and controls."""

from __future__ import annotations

import itertools
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core.grid import Axis, Grid
from infield.physics.operators.registry import build_operator
from infield.physics.operators.sensors import PointSensors
from infield.physics.pde.darcy import Darcy
from infield.physics.pde.darcy_solver import DarcySolver, Stencil
from infield.physics.pde.dirichlet import interior
from infield.physics.pde.elliptic import Poisson


def rectangle(n: int, ndim: int = 2) -> Grid:
    axes = []
    for name, length in zip("zyx"[-ndim:], (0.5, 1.0, 1.5)[-ndim:], strict=True):
        size = round(length * n) + 1
        axes.append(Axis(name, tuple(0.2 + length * i / (size - 1) for i in range(size)), "m"))
    return Grid(tuple(axes))


def coordinates(grid: Grid) -> torch.Tensor:
    """From the corner, one row an axis."""
    return torch.stack([x - x.min() for x in grid.points().T.reshape(grid.ndim, *grid.shape)])


def smooth_log(grid: Grid, batch: int, seed: int = 0, strength: float = 1.0) -> torch.Tensor:
    """The same random functions on every grid: a few waves."""
    generator = torch.Generator().manual_seed(seed)
    x, fields = coordinates(grid), torch.zeros(batch, 1, *grid.shape, dtype=torch.float64)
    for _ in range(8):
        weights = torch.randn(batch, grid.ndim, generator=generator, dtype=torch.float64) * 4
        phase = torch.rand(batch, *(1,) * grid.ndim, generator=generator, dtype=torch.float64) * 2 * torch.pi
        fields[:, 0] += torch.cos(torch.tensordot(weights, x, 1) + phase)
    return strength * fields


def binary(field: torch.Tensor) -> torch.Tensor:
    return torch.where(field > 0, 12.0, 3.0)


def order(errors: list[float]) -> float:
    return min(math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors))


# --- against solutions known beforehand ---


def manufactured(grid: Grid) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """log a, u and f for a = exp(c . x), u a product of sines: f = -(c . grad u + Laplacian u) a."""
    x = coordinates(grid)
    slopes, waves = [0.8, -1.5, 1.1][: grid.ndim], [torch.pi / row.max() for row in x]
    sines = [torch.sin(k * row) for k, row in zip(waves, x, strict=True)]
    u, log_a = math.prod(sines), sum(c * row for c, row in zip(slopes, x, strict=True))
    f = sum(k**2 for k in waves) * u
    for i, (c, k) in enumerate(zip(slopes, waves, strict=True)):
        f = f - c * k * torch.cos(k * x[i]) * math.prod(sines[:i] + sines[i + 1 :])
    return log_a, u, f * log_a.exp()


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("coefficient", ["log", "value"])
def test_second_order_for_a_smooth_coefficient(coefficient, ndim):
    errors, wrong = [], []
    for n in (8, 16, 32):
        grid = rectangle(n, ndim)
        log_a, u, f = manufactured(grid)
        field = log_a if coefficient == "log" else log_a.exp()
        A = build_operator(
            {"name": "darcy", "parameters": {"coefficient": coefficient}, "arrays": {"forcing": "f"}},
            {"f": f.numpy()},
            grid,
            1,
        )
        errors.append((A.A(field[None, None])[0, 0] - u).abs().max().item())
        wrong.append((A.A(1.1 * field[None, None])[0, 0] - u).abs().max().item())
    assert 1.9 < order(errors) < 2.3
    assert order(wrong) < 1.0


def layered(n: int, contrast: float) -> tuple[Grid, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two layers that meet at x = 1/2, midway between points. u = phi(x) sin(pi y) with a flux a phi' = x - c that does
    not jump; c such that phi vanishes on both sides.
    """
    grid = Grid.regular((n, n))
    y, x = coordinates(grid)
    a = torch.where(x < 0.5, 1.0, contrast).double()
    c = (1 / 8 + 3 / 8 / contrast) / (1 / 2 + 1 / 2 / contrast)
    half = 1 / 8 - c / 2
    phi = torch.where(x < 0.5, x**2 / 2 - c * x, half + (x**2 / 2 - c * x - half) / contrast)
    return grid, a, phi * torch.sin(torch.pi * y), (torch.pi**2 * a * phi - 1) * torch.sin(torch.pi * y)


class ArithmeticFaces(DarcySolver):
    def faces(self, a):
        return [(low + high) / 2 / h**2 for (low, high), h in zip(self._sides(a), self.spacing, strict=True)]


def with_equation(A: Darcy, equation: type[DarcySolver]) -> Darcy:
    """The same operator with another equation in it."""
    other = type("Other", (Darcy,), {"equation": property(lambda self: equation(**vars(Darcy.equation.fget(self))))})
    A.__class__ = other
    return A


@pytest.mark.parametrize("contrast", [4.0, 100.0])
def test_second_order_across_a_jump(contrast):
    errors, arithmetic = [], []
    for n in (16, 32, 64):
        grid, a, u, f = layered(n, contrast)
        A = Darcy(grid, f, "value")
        errors.append((A.A(a[None, None])[0, 0] - u).abs().max().item() / u.abs().max().item())
        A = with_equation(A, ArithmeticFaces)
        arithmetic.append((A.A(a[None, None])[0, 0] - u).abs().max().item() / u.abs().max().item())
    assert 1.9 < order(errors) < 2.3
    assert order(arithmetic) < 1.3 and arithmetic[-1] > 5 * errors[-1]


@pytest.mark.parametrize("shape", [(3,), (8,), (5, 7), (3, 4), (4, 5, 3)])
def test_against_a_dense_matrix(shape):
    grid = Grid.regular(shape, tuple(1.0 + 0.3 * i for i in range(len(shape))))
    a = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    inside, K = [n - 2 for n in shape], np.zeros((math.prod(n - 2 for n in shape),) * 2)
    values = a[0, 0].numpy()
    for i in np.ndindex(*inside):
        row, here = np.ravel_multi_index(i, inside), tuple(k + 1 for k in i)
        for axis, step in ((axis, step) for axis in range(len(shape)) for step in (-1, 1)):
            there = tuple(k + step * (axis == d) for d, k in enumerate(here))
            k = 2 * values[here] * values[there] / (values[here] + values[there]) / grid.spacing[axis] ** 2
            K[row, row] += k
            j = tuple(k - 1 for k in there)
            if all(0 <= k < n for k, n in zip(j, inside, strict=True)):
                K[row, np.ravel_multi_index(j, inside)] -= k
    A = Darcy(grid, 2.5, "value", tolerance=1e-13)
    expected = torch.from_numpy(np.linalg.solve(K, np.full(len(K), 2.5)))
    assert torch.allclose(interior(A.A(a), len(shape)).flatten(), expected, rtol=1e-11)


def test_a_constant_coefficient_is_poisson():
    grid = rectangle(20)
    f = torch.randn(grid.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = Poisson(grid, 1).A(f[None, None]) / 3.0
    assert torch.allclose(
        Darcy(grid, f, "value").A(torch.full((1, 1, *grid.shape), 3.0).double()), expected, atol=1e-12
    )


# --- gradients ---


def taylor_slope(A: Darcy, x: torch.Tensor, gradient) -> float:
    """Slope of |J(x + e d) - J(x) - e dJ(x) d| in e, for J = <v, A(x)>: 2 where the gradient is right, 1 where not."""
    d, v = torch.rand(2, *x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)  # no cancellation
    d = d * x.abs().mean()
    first, steps = (gradient(x, v) * d).sum(), [2.0**-k for k in range(9, 14)]
    remainders = [((A.A(x + e * d) - A.A(x)) * v).sum() - e * first for e in steps]
    return math.log2(abs(remainders[0] / remainders[-1])) / (len(steps) - 1)


class ForgottenMeans(DarcySolver):
    """The derivative of arithmetic means under a solver with harmonic ones."""

    def sensitivity(self, a, u, w):
        mean = ArithmeticFaces(**vars(self))
        with torch.enable_grad():
            a = a.detach().requires_grad_()
            return torch.autograd.grad(-(w * Stencil(mean.faces(a))(u)).sum(), a)[0]


@pytest.mark.parametrize("shape", [(13,), (12, 17), (6, 5, 7)])
@pytest.mark.parametrize("coefficient", ["log", "value"])
def test_taylor(coefficient, shape):
    grid = Grid.regular(shape, tuple(1.0 + 0.3 * i for i in range(len(shape))))
    log_a = torch.randn(2, 1, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    A = Darcy(grid, coefficient=coefficient, tolerance=1e-13)
    x = log_a if coefficient == "log" else log_a.exp()
    assert 1.95 <= taylor_slope(A, x, A.A_vjp) < 2.05
    wrong = with_equation(Darcy(grid, coefficient=coefficient, tolerance=1e-13), ForgottenMeans)
    assert taylor_slope(A, x, wrong.A_vjp) < 1.3
    assert taylor_slope(A, x, lambda x, v: 1.1 * A.A_vjp(x, v)) < 1.3


def test_autograd_agrees_and_stores_no_iterations():
    grid = rectangle(16)
    A = Darcy(grid, tolerance=1e-12)
    x, v = smooth_log(grid, 3).requires_grad_(), torch.randn(3, 1, *grid.shape, dtype=torch.float64)
    stored = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: stored.append(t.numel()) or t, lambda t: t):
        u = A.A(x)
    assert sum(stored) <= 5 * x.numel()  # the coefficient, the pressure, the exponential; at 13 iterations
    assert torch.equal(torch.autograd.grad(u, x, v)[0], A.A_vjp(x, v))


def test_first_and_second_derivatives_by_finite_differences():
    A = Darcy(Grid.regular((4, 5), (1.0, 1.3)), tolerance=1e-14)
    x = torch.randn(1, 1, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(A.A, (x,))
    assert torch.autograd.gradgradcheck(A.A, (x,))


# --- the solver ---


class Unpreconditioned(DarcySolver):
    def inverse_laplacian(self, r):
        return r

    def scaling(self, a, K):
        return torch.ones_like(interior(a, self.ndim))


class Unscaled(DarcySolver):
    def scaling(self, a, K):
        return torch.ones_like(interior(a, self.ndim))


def iterations(grid: Grid, a: torch.Tensor, equation: type[DarcySolver] = DarcySolver) -> int:
    A = Darcy(grid, coefficient="value", max_iterations=5000)
    f = A.forcing.expand(len(a), *A.forcing.shape)
    return int(equation(**vars(A.equation)).solve(A.permeability(a), f)[1].max())


def test_iterations_do_not_depend_on_the_mesh():
    grids = [Grid.regular((n, n)) for n in (32, 64, 128)]
    two_valued = [iterations(grid, binary(smooth_log(grid, 3))) for grid in grids]
    strong = [iterations(grid, smooth_log(grid, 3, strength=1.3).exp()) for grid in grids]
    contrast = smooth_log(grids[0], 3, strength=1.3).flatten(1)
    assert (contrast.amax(1) - contrast.amin(1)).exp().min() > 1e4
    assert max(two_valued) <= 1.2 * min(two_valued) and max(two_valued) < 25
    assert max(strong) <= 1.2 * min(strong) and max(strong) < 60
    plain = [iterations(grid, binary(smooth_log(grid, 3)), Unpreconditioned) for grid in grids[:2]]
    assert plain[1] > 1.7 * plain[0]
    assert iterations(grids[0], smooth_log(grids[0], 3, strength=1.3).exp(), Unscaled) > 3 * strong[0]


def test_a_sample_does_not_depend_on_its_company():
    grid = rectangle(16)
    A = Darcy(grid, coefficient="value")
    x = torch.cat([binary(smooth_log(grid, 2)), smooth_log(grid, 2).exp(), torch.ones(1, 1, *grid.shape)]).double()
    together = A.A(x)
    alone = torch.cat([A.A(x[i : i + 1]) for i in range(len(x))])
    assert torch.allclose(together, alone, rtol=1e-12)
    assert (Darcy(grid, 0.0, "value").A(x) == 0).all()


def test_single_precision_keeps_the_accuracy_of_double():
    grid = rectangle(24)
    x = smooth_log(grid, 2)
    A = Darcy(grid)
    found, gradient = A.A(x.float()), A.A_vjp(x.float(), x.float())
    assert found.dtype == gradient.dtype == torch.float32
    exact = A.A(x.float().double())
    assert (found.double() - exact).norm() < 1e-7 * exact.norm()
    A.to(torch.float32)
    assert (A.A(x.float()).double() - exact).norm() < 1e-6 * exact.norm()


def test_composed_with_points_and_pickled():
    grid = rectangle(24)
    x = smooth_log(grid, 2)
    places = np.array([[0.25, 0.3], [0.7, 1.1], [1.0, 1.6]])
    description = {
        "name": "compose",
        "operators": [
            {"name": "points", "arrays": {"coordinates": "where"}},
            {"name": "darcy", "parameters": {"forcing": 2.0}},
            {"name": "affine", "arrays": {"scale": "s", "shift": "m"}},
        ],
    }
    arrays = {"where": places, "s": np.full((1, 1, 1), 0.5), "m": np.full((1, 1, 1), 0.1)}
    A = build_operator(description, arrays, grid, 1)
    sensors = PointSensors.at_coordinates(grid, 1, torch.from_numpy(places))
    expected = sensors.A(2 * Darcy(grid).A(0.1 + 0.5 * x))
    assert torch.allclose(A.A(x), expected, rtol=1e-6) and A.data_shape == (1, 3) and A.A(x).shape == (2, 1, 3)
    B, v = pickle.loads(pickle.dumps(A)), torch.ones(2, 1, 3, dtype=torch.float64)
    assert torch.equal(A.A(x), B.A(x)) and torch.equal(A.A_vjp(x, v), B.A_vjp(x, v))
    y = x.clone().requires_grad_()
    assert torch.allclose(torch.autograd.grad(A.A(y), y, v)[0], A.A_vjp(x, v), rtol=1e-6)


# --- what a user can get wrong ---

GRID = Grid.regular((6, 7))


def test_coefficients_that_no_rock_has():
    x = torch.ones(4, 1, 6, 7, dtype=torch.float64)
    for value, found in ((0.0, "a = 0.0"), (-2.0, "a = -2.0"), (math.nan, "a = nan"), (math.inf, "a = inf")):
        x[2, 0, 3, 1] = value
        message = rf"operator 'darcy': sample 2 of the batch: found {found} at point \(3, 1\), expected a .* positive"
        with pytest.raises(InfieldError, match=message):
            Darcy(GRID, coefficient="value").A(x)
    x[2, 0, 3, 1] = 800.0
    with pytest.raises(InfieldError, match=r"sample 2 .*: found log a = 800.0, a = inf"):
        Darcy(GRID).A(x)
    x[2, 0, 3, 1] = -800.0
    with pytest.raises(InfieldError, match=r"sample 2 .*: found log a = -800.0, a = 0.0"):
        Darcy(GRID).A(x)


def test_a_sample_that_does_not_converge():
    x = torch.zeros(3, 1, 6, 7, dtype=torch.float64)
    x[1] = torch.randn(6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    message = (
        "sample 1 of the batch: found residual .* after 3 iterations, expected at most 1e-08; .* contrast .* 1.7e\\+02"
    )
    with pytest.raises(InfieldError, match=message):
        Darcy(GRID, max_iterations=3).A(x)
    assert torch.isfinite(Darcy(GRID).A(x)).all()
    v = torch.zeros(3, 1, 6, 7, dtype=torch.float64)
    v[2, 0, 2, 2] = math.nan
    with pytest.raises(InfieldError, match="sample 2 of the batch: found NaN or infinity where the solve starts"):
        Darcy(GRID).A_vjp(x, v)


def test_a_field_of_another_shape():
    with pytest.raises(InfieldError, match=r"found a field of shape \(1, 7, 6\), expected \(1, 6, 7\)"):
        Darcy(GRID).A(torch.zeros(1, 1, 7, 6))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"forcing": "1"}, "found forcing '1', expected a finite number"),
        ({"forcing": math.nan}, "found forcing nan"),
        ({"coefficient": "exp"}, "found coefficient 'exp', expected one of log, value"),
        ({"coefficient": ["log"]}, r"found coefficient \['log'\], expected one of log, value"),
        ({"tolerance": 0}, "found tolerance 0, expected a finite number above zero"),
        ({"max_iterations": 2.5}, "found max_iterations 2.5, expected a whole number"),
        ({"iterations": 2}, "found parameter iterations, expected forcing, coefficient, tolerance, max_iterations"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(InfieldError, match=f"operator 'darcy': {message}"):
        build_operator({"name": "darcy", "parameters": parameters}, {}, GRID, 1)


def test_bad_forcing_and_channels():
    forced = {"name": "darcy", "arrays": {"forcing": "f"}}
    with pytest.raises(InfieldError, match=r"found forcing of shape \(7, 6\), expected \(6, 7\)"):
        build_operator(forced, {"f": np.ones((7, 6))}, GRID, 1)
    with pytest.raises(InfieldError, match="found forcing as a parameter and as an array"):
        build_operator(forced | {"parameters": {"forcing": 1.0}}, {"f": np.ones((6, 7))}, GRID, 1)
    with pytest.raises(InfieldError, match="found 2 channels, expected 1"):
        build_operator({"name": "darcy"}, {}, GRID, 2)


# --- other people's pairs ---


def pairs(name: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficient (True: the larger one) and pressure, `(sample, y, x)`."""
    if "INFIELD_DATA" not in os.environ:
        pytest.skip("INFIELD_DATA does not name the folder of the real data")
    path = Path(os.environ["INFIELD_DATA"]) / "pde" / name
    if not path.exists():
        pytest.skip(f"{path} does not exist")
    content = torch.load(path, weights_only=True)
    return content["x"][:count], content["y"][:count].double()


def reproduced(x: torch.Tensor, low: float, high: float, refinement: int) -> torch.Tensor:
    """Our pressure in their places. Point i of n lies at i / n + 1 / 1024: their rows start a hair inside one side and
    end one spacing before the other, as interior points of a fine grid that are thinned out do. Every point of ours
    takes the coefficient of the nearest of theirs.
    """
    n = x.shape[-1]
    places = torch.arange(n, dtype=torch.float64) / n + 1 / 1024
    grid = Grid.regular((n * refinement + 1,) * 2)
    ours = torch.linspace(0, 1, n * refinement + 1, dtype=torch.float64)
    nearest = (ours[:, None] - places).abs().argmin(1)
    a = torch.where(x, high, low).double()[:, nearest][:, :, nearest]
    sensors = PointSensors.at_coordinates(grid, 1, torch.cartesian_prod(places, places))
    return sensors.A(Darcy(grid, coefficient="value").A(a[:, None])).reshape(x.shape)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).mean())


LOW, HIGH = 0.0198, 0.367  # fitted to the first 96 pairs of darcy_train_16.pt, forcing 1


@pytest.mark.parametrize(
    ("name", "refinement", "bound"),
    # Mean relative L2 of all 50: 2.6 % at 32^2 and 6.5 % at 16^2 with refinement 3 or 5; 3.2 and 7.8 % without. It is
    # what the coefficient loses when it is thinned out: our own binary fields, solved on 481^2 and thinned out as
    # theirs, are reproduced to 2.0 and 5.1 % (levels of a Gaussian field with tau = 3) or 4.3 and 9.5 % (tau = 7).
    [("darcy_test_32.pt", 1, 0.04), ("darcy_test_32.pt", 3, 0.03), ("darcy_test_16.pt", 3, 0.08)],
)
def test_pressure_of_neuraloperator(name, refinement, bound):
    x, y = pairs(name, 20)
    assert relative_error(reproduced(x, LOW, HIGH, refinement), y) < bound
    for wrong in ((HIGH, LOW), (0.0198, 0.0198 * 4)):  # swapped; the contrast of the literature, 12 to 3
        u = reproduced(x, *wrong, refinement)
        u = u * (u * y).sum() / (u * u).sum()  # even at the scale that suits it best
        assert relative_error(u, y) > 0.3
