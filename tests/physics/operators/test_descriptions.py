"""Every operator, and every measurement derived from one, is described such that `build_operator` builds it again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core._deepinv import LinearPhysics
from infield.core.grid import Axis, Grid, PointSet
from infield.core.transform import Affine, Chain, Window
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.noise.poisson import PoissonNoise
from infield.physics.operators import composition
from infield.physics.operators.jacobian import jacobian_product
from infield.physics.operators.registry import build_operator, operator_names


def rng(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


def _positive_frequencies(nx, ny, depth):
    """Some of the k that have no mirror image among them."""
    mask = np.zeros((nx, ny // 2 + 1, depth), dtype=bool)
    mask[1, 1], mask[2, 1, 0] = True, True
    return mask


NUMBERS = np.random.default_rng(0)
PLANE = Grid.regular((5, 6), (1.0, 1.2), units="m")
HALF = Grid((Axis("y", tuple(0.2 * i for i in range(5)), "m", periodic=True), PLANE.axes[1]))
CLOSED = Grid.regular((8, 8), periodic=True)
SQUARE = Grid.regular((5, 5))
BOX = Grid.regular((6, 6, 4), units="Mpc")
SLICES = Grid.regular((2, 5, 6))
HEAD = Grid.regular((5, 6), (50.0, 60.0), units="mm")
POINTS = PointSet(((0.0,), (1.0,), (2.5,), (4.0,)))
PROJECTORS = Grid.regular((2, 5, 6))
RAYS = {"angles": 4, "bins": 7, "bin_width": 10.0}
ARRAYS = {
    "mask": NUMBERS.random((5, 6)) < 0.5,
    "other": NUMBERS.random((5, 6)) < 0.5,
    "kernel": NUMBERS.random((3, 3)),
    "scale": np.exp(NUMBERS.standard_normal((1, 5, 6))),
    "shift": NUMBERS.standard_normal((1, 1, 1)),
    "here": np.array([[0.1, 0.2], [0.5, 1.0], [0.95, 0.31]]),
    "indices": np.array([3, 0]),
    "maps": NUMBERS.standard_normal((3, 5, 6)) + 1j * NUMBERS.standard_normal((3, 5, 6)),
    "maps of slices": NUMBERS.standard_normal((3, 2, 5, 6)) + 1j * NUMBERS.standard_normal((3, 2, 5, 6)),
    "modes": _positive_frequencies(6, 6, 4),
    "beam": np.array([3.0, 3.5, 4.0, 4.5]),
    "half": np.ones((1, 5, 6)) * (np.arange(6) % 2),
    "filter": NUMBERS.random((1, 1, 3, 3)),
    "factors": 0.5 + 0.5 * NUMBERS.random((4, 7)),
    "warp": NUMBERS.uniform(0.5, 3.5, (2, 2, 3, 4)),
    "mixing": 0.1 + NUMBERS.random((2, 3, 3, 3, 4)),
    "dark": 0.1 * NUMBERS.random((3, 3, 4)),
    "direction": NUMBERS.uniform(-0.7, 0.7, (2, 5, 6)),
    "response": np.linspace(0, 1, 9) ** 2.0 * np.ones((2, 3, 1)),
}


def named(name, parameters=None, **arrays):
    return {"name": name, "parameters": parameters or {}, "arrays": arrays}


MASK, OTHER = named("mask", mask="mask"), named("mask", mask="other")
SEEN, EXPOSURE = named("points", indices="indices"), named("affine", scale="scale")
BLUR = named("convolution", {"gaussian_width": 0.3})
CASES = {
    "across-edges": (named("across-edges", direction="direction"), PLANE, 3),
    "edge-gradient": (named("edge-gradient", direction="direction"), PLANE, 3),
    "low-pass": (named("low-pass", {"blocks": [2, 2]}), PLANE, 3),
    "low-pass of luma": (named("low-pass", {"blocks": [2, 2], "luma": True}), PLANE, 3),
    "affine": (named("affine", scale="scale"), PLANE, 1),
    "affine with a shift": (named("affine", scale="scale", shift="shift"), PLANE, 1),
    "compose": ({"name": "compose", "operators": [MASK, BLUR]}, PLANE, 1),
    "compose of a composition": (
        {"name": "compose", "operators": [MASK, {"name": "compose", "operators": [BLUR, BLUR]}]},
        PLANE,
        1,
    ),
    "convolution": (named("convolution", {"boundary": "zero"}, kernel="kernel"), PLANE, 2),
    "display": (named("display", {"exposure": 0.6}), PLANE, 3),
    "darcy": (named("darcy", {"tolerance": 1e-12}), SQUARE, 1),
    "beer-lambert": (named("beer-lambert", RAYS | {"blank": 20.0}), HEAD, 1),
    "bounded": (named("bounded") | {"parameters": {"low": -1.0, "high": 2.5}}, PLANE, 2),
    "exp": (named("exp"), PLANE, 2),
    "exp of scattered points": ({"name": "compose", "operators": [SEEN, named("exp")]}, POINTS, 1),
    "fourier": (named("fourier", mask="mask"), PLANE, 2),
    "helmholtz": (named("helmholtz", {"wavenumber_squared": 3.0}), SQUARE, 1),
    "interferometer": (
        named("interferometer", {"channel_cells": 2}, mask="modes of channels", beam_fwhm="beam"),
        BOX,
        1,
    ),
    "mask": (MASK, HALF, 1),
    "multicoil-mri": (named("multicoil-mri", coil_maps="maps", mask="mask"), PLANE, 2),
    "multicoil-mri-slices": (named("multicoil-mri-slices", coil_maps="maps of slices", mask="mask"), SLICES, 2),
    "multi-projector": (named("multi-projector", {"defocus": 0.7}, warp="warp", mixing="mixing"), PROJECTORS, 3),
    "multi-projector of drive signals": (
        named(
            "multi-projector",
            {"black": 0.01},
            warp="warp",
            mixing="mixing",
            background="dark",
            response="response",
        ),
        PROJECTORS,
        3,
    ),
    "navier-stokes": (named("navier-stokes", {"time": 0.05, "steps": 3, "viscosity": 0.01}), CLOSED, 1),
    "phases": (named("phases", {"low": 1.0, "high": 3.0, "width": 0.5}), PLANE, 1),
    "points": (named("points", coordinates="here"), PLANE, 1),
    "points of a set": (named("points", indices="indices"), POINTS, 1),
    "poisson": (named("poisson"), SQUARE, 1),
    "projection": (named("projection", RAYS | {"seconds": 3.0}, attenuation="factors"), HEAD, 1),
    "softplus": ({"name": "compose", "operators": [MASK, EXPOSURE, BLUR, named("softplus")]}, PLANE, 1),
    "stack": ({"name": "stack", "operators": [MASK, BLUR]}, PLANE, 1),
    "stack of an operator that is not linear": ({"name": "stack", "operators": [MASK, named("exp")]}, PLANE, 1),
    "sum": ({"name": "sum", "weights": [0.25, -2.0], "operators": [MASK, OTHER]}, PLANE, 1),
    "window": (named("window", {"shape": [3, 6], "periodic": [False, True]}), PLANE, 2),
    "deepinv:Inpainting": (named("deepinv:Inpainting", mask="half"), PLANE, 1),
    "deepinv:Blur": (named("deepinv:Blur", {"padding": "circular"}, filter="filter"), PLANE, 1),
}
ARRAYS["modes of channels"] = ARRAYS["modes"][..., :2]


def measured(case, noise=None):
    """A simulated measurement of one of the cases."""
    description, grid, channels = CASES[case]
    operator = build_operator(description, ARRAYS, grid, channels)
    truth = normal(1, channels, *grid.shape)
    return Measurement(
        y=operator.A(truth).abs(),
        operator=operator,
        noise=noise or GaussianNoise(0.1),
        grid=grid,
        channels=tuple(f"channel {i}" for i in range(channels)),
        truth=truth,
        description=description,
        arrays=ARRAYS,
    )


def assert_described(measurement):
    """The operator built from the description, as JSON brings it back, is that of the measurement, bit for bit."""
    description = json.loads(json.dumps(measurement.description))
    built = build_operator(description, measurement.arrays, measurement.grid, len(measurement.channels))
    operator = measurement.operator
    x = normal(2, *measurement.event_shape, seed=1)
    y = operator.A(x)
    v = normal(*y.shape, seed=2)
    assert torch.equal(built.A(x), y) and torch.equal(built.A_vjp(x, v), operator.A_vjp(x, v))
    assert hasattr(built, "A_adjoint") == hasattr(operator, "A_adjoint")
    if hasattr(operator, "A_adjoint"):
        assert torch.equal(built.A_adjoint(v), operator.A_adjoint(v))
        torch.testing.assert_close((y * v).sum(), (x * built.A_adjoint(v)).sum(), rtol=1e-9, atol=1e-9)
    assert built.data_shape == operator.data_shape == tuple(y.shape[1:])
    assert (built.grid, built.channels, built.data_grid) == (operator.grid, operator.channels, operator.data_grid)
    if operator.observed is None:
        assert built.observed is None
    else:
        assert torch.equal(built.observed, operator.observed)
    return built


def scalings(measurement):
    """Shifts and scales: one number, one for each channel, one for each point."""
    channels, space = len(measurement.channels), measurement.grid.shape
    for i, shape in enumerate([(), (channels, *(1,) * len(space)), (channels, *space), (1, *space)]):
        yield 0.3 * normal(*shape, seed=i), 1 + torch.rand(shape, generator=rng(i), dtype=torch.float64)


def test_every_name_has_a_case():
    names = {name for name in operator_names() if not name.startswith("deepinv:")}
    assert names <= set(CASES) and any(case.startswith("deepinv:") for case in CASES)


@pytest.mark.parametrize("case", CASES)
def test_an_operator(case):
    assert_described(measured(case))


@pytest.mark.parametrize("noise", [GaussianNoise(0.1), PoissonNoise(1.0)], ids=["Gaussian", "Poisson"])
@pytest.mark.parametrize("case", CASES)
def test_standardised(case, noise):
    """Once and twice; the operator built is A(shift + scale u), or its linear part where that was taken to the data."""
    measurement = measured(case, noise)
    for shift, scale in scalings(measurement):
        standard = measurement.pullback(Affine(shift, scale))
        u = normal(2, *measurement.event_shape, seed=3)
        x = scale * u if measurement.linear_gaussian else shift + scale * u
        torch.testing.assert_close(assert_described(standard).A(u), measurement.operator.A(x), rtol=1e-12, atol=1e-12)
        assert_described(standard.pullback(Affine(shift, scale)))


@pytest.mark.parametrize("case", [case for case, (_, grid, _) in CASES.items() if isinstance(grid, Grid)])
def test_through_a_window(case):
    """Seen from a torus, before and after a change of units; the data are those of the domain's part of the field."""
    measurement = measured(case)
    domain = measurement.grid.shape
    torus = tuple(n + 1 + i for i, n in enumerate(domain))
    seen = measurement.pullback(Window(domain, torus))
    x = normal(2, len(measurement.channels), *torus, seed=4)
    part = x[(..., *(slice(n) for n in domain))]
    assert torch.equal(assert_described(seen).A(x), measurement.operator.A(part))
    assert_described(seen.pullback(Affine(torch.tensor(0.5), torch.tensor(2.0))))
    shift, scale = list(scalings(measurement))[1]
    within = measurement.pullback(Chain((Affine(shift, scale), Window(domain, torus))))
    assert_described(within)
    assert_described(within.pullback(Window(torus, tuple(n + 2 for n in torus))))


def test_a_window_remembers_which_axes_of_the_domain_close():
    seen = measured("mask").pullback(Window(HALF.shape, (7, 7)))
    built = assert_described(seen)
    assert built.operators[1].data_grid == HALF and all(axis.periodic for axis in seen.grid.axes)


def test_a_field_on_scattered_points_has_no_window():
    with pytest.raises(InfieldError, match="for a field on scattered points, expected one on a grid"):
        measured("points of a set").pullback(Window((3,), (5,)))


@pytest.mark.parametrize("case", CASES)
def test_the_jacobian_and_its_transpose(case):
    """<J v, w> = <v, J^T w>, at a field where the operator is not linear; and J at another field is another."""
    operator, (_, grid, channels) = measured(case).operator, CASES[case]
    x, v = normal(1, channels, *grid.shape, seed=5), normal(2, channels, *grid.shape, seed=6)
    Jv = jacobian_product(operator, x, v)
    w = normal(*Jv.shape, seed=7)
    there = operator.A_vjp(x.expand_as(v), w)
    torch.testing.assert_close((Jv * w).sum(), (v * there).sum(), rtol=1e-6, atol=1e-9)
    if not isinstance(operator, LinearPhysics | composition.Affine):
        assert not torch.allclose(jacobian_product(operator, 2 * x, v), Jv, rtol=1e-4)
