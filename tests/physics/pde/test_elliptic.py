"""Poisson and Helmholtz: exact solutions, order of convergence, adjoint, dense oracle, bad input; and controls."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.physics.operators.registry import build_operator
from infield.physics.pde.dirichlet import interior, laplacian_eigenvalues
from infield.physics.pde.elliptic import Helmholtz, Poisson
from infield.physics.pde.sine_transform import MATRIX_UP_TO, sine_transform

SHAPES = [(3,), (9,), (4, 7), (3, 3), (5, 4, 6)]
K2 = {"poisson": 0.0, "helmholtz": 30.0, "waves": -60.0}


def rectangle(n: int, ndim: int = 2) -> Grid:
    """A box that is not a cube, away from the origin, its spacing about 1 / n."""
    axes = []
    for name, length, start in zip("zyx"[-ndim:], (0.5, 1.0, 1.5)[-ndim:], (1.0, -0.4, 0.3)[-ndim:], strict=True):
        size = round(length * n) + 1
        axes.append(Axis(name, tuple(start + length * i / (size - 1) for i in range(size)), "m"))
    return Grid(tuple(axes))


def build(kind: str, grid: Grid, channels: int = 1):
    if kind == "poisson":
        return build_operator({"name": "poisson"}, {}, grid, channels)
    return build_operator({"name": "helmholtz", "parameters": {"wavenumber_squared": K2[kind]}}, {}, grid, channels)


def coordinates(grid: Grid) -> list[torch.Tensor]:
    """From 0 to 1 along each axis."""
    points = grid.points().T.reshape(grid.ndim, *grid.shape)
    spans = [(a.coordinates[0], a.coordinates[-1]) for a in grid.axes]
    return [(x - low) / (high - low) for x, (low, high) in zip(points, spans, strict=True)]


def manufactured(grid: Grid, k2: float) -> tuple[torch.Tensor, torch.Tensor]:
    """u = product of x (1 - x) exp(x), in the coordinates of the box, and f = -Laplacian u + k^2 u by hand."""
    factors, curvatures = [], []
    for axis, x in zip(grid.axes, coordinates(grid), strict=True):
        length = axis.coordinates[-1] - axis.coordinates[0]
        factors.append(x * (1 - x) * x.exp())
        curvatures.append(-(x**2 + 3 * x) * x.exp() / length**2)
    u = math.prod(factors[1:], start=factors[0])
    f = k2 * u
    for i, curvature in enumerate(curvatures):
        f = f - math.prod((g for j, g in enumerate(factors) if j != i), start=curvature)
    return u, f


def order(errors: list[float]) -> float:
    return min(math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors))


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("kind", K2)
def test_second_order_convergence(kind, ndim):
    errors, wrong = [], []
    for n in (16, 32, 64):
        grid = rectangle(n, ndim)
        u, f = manufactured(grid, K2[kind])
        found = build(kind, grid).A(f[None, None])[0, 0]
        errors.append((found - u).abs().max().item())
        wrong.append((Helmholtz(grid, 1, K2[kind] + 1.0).A(f[None, None])[0, 0] - u).abs().max().item())
    assert 1.9 < order(errors) < 2.2
    assert order(wrong) < 0.5  # the same check refuses the solution of another equation


@pytest.mark.parametrize("kind", K2)
def test_eigenfunctions_are_solved_exactly(kind):
    """A sine is an eigenfunction of the discrete operator, with the eigenvalue of three-point differences."""
    grid = rectangle(12)
    y, x = coordinates(grid)
    u = torch.sin(3 * torch.pi * y) * torch.sin(2 * torch.pi * x)
    (h, g), (a, b) = grid.spacing, (1.0, 1.5)
    second = (2 - 2 * math.cos(3 * math.pi * h / a)) / h**2 + (2 - 2 * math.cos(2 * math.pi * g / b)) / g**2
    found = build(kind, grid).A((second + K2[kind]) * u[None, None])[0, 0]
    assert torch.allclose(found, u, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", K2)
def test_against_a_dense_matrix(kind, shape):
    """The inverse of the matrix of differences, built entry by entry; the rim neither gives nor takes."""
    grid = Grid.regular(shape, tuple(1.0 + 0.3 * i for i in range(len(shape))))
    inside = [n - 2 for n in shape]
    K = np.zeros((math.prod(inside),) * 2)
    for i in np.ndindex(*inside):
        row = np.ravel_multi_index(i, inside)
        K[row, row] = K2[kind] + sum(2 / h**2 for h in grid.spacing)
        for axis, step in ((axis, step) for axis in range(len(shape)) for step in (-1, 1)):
            j = tuple(k + step * (axis == d) for d, k in enumerate(i))
            if all(0 <= k < n for k, n in zip(j, inside, strict=True)):
                K[row, np.ravel_multi_index(j, inside)] = -1 / grid.spacing[axis] ** 2
    dense = np.zeros((grid.size,) * 2)
    places = interior(torch.arange(grid.size).reshape(shape), len(shape)).flatten().numpy()
    dense[np.ix_(places, places)] = np.linalg.inv(K)
    A, x = build(kind, grid, 2), torch.randn(3, 2, *shape, generator=torch.Generator().manual_seed(0)).double()
    expected = x.flatten(2) @ torch.from_numpy(dense).T
    assert torch.allclose(A.A(x).flatten(2), expected, atol=1e-11) and A.data_shape == (2, *shape)
    assert torch.allclose(A.A_adjoint(x).flatten(2), x.flatten(2) @ torch.from_numpy(dense), atol=1e-11)


@pytest.mark.parametrize("kind", K2)
def test_adjoint_and_rim(kind):
    A = build(kind, rectangle(20))
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 4, 1, *A.grid.shape, generator=generator, dtype=torch.float64)

    def error(adjoint) -> float:
        Ax, Aty = A.A(x), adjoint(y)
        return float((((Ax * y).sum() - (x * Aty).sum()) / (Ax.norm() * y.norm())).abs())

    assert error(A.A_adjoint) < 1e-14
    assert error(lambda y: A.A(y) + 1e-6 * y) > 1e-10  # a control: an adjoint with a rim of its own
    spoiled = torch.full_like(x, torch.nan)
    spoiled[..., 1:-1, 1:-1] = interior(x, 2)
    rim = torch.ones(A.grid.shape, dtype=torch.bool)
    rim[1:-1, 1:-1] = False
    for direction in (A.A, A.A_adjoint):
        assert torch.equal(direction(spoiled), direction(x)) and (direction(x)[..., rim] == 0).all()


@pytest.mark.parametrize("n", [5, MATRIX_UP_TO + 1])
def test_sine_transform_both_ways_of_computing(n):
    x = torch.randn(2, 3, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    k = torch.arange(1, n + 1, dtype=torch.float64)
    sines = (2 / (n + 1)) ** 0.5 * torch.sin(torch.pi * torch.outer(k, k) / (n + 1))
    assert torch.allclose(sine_transform(x, 1), x @ sines, atol=1e-11)
    assert torch.allclose(sine_transform(sine_transform(x, 2), 2), x, atol=1e-12)


def test_composed_with_points_pickled_and_in_single_precision():
    grid = rectangle(24)
    description = {
        "name": "compose",
        "operators": [{"name": "points", "arrays": {"indices": "i"}}, {"name": "poisson"}],
    }
    places = np.array([30, 100, 500])
    A = build_operator(description, {"i": places}, grid, 1)
    x = torch.randn(2, 1, *grid.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = Poisson(grid, 1).A(x).flatten(2)[..., places]
    assert torch.equal(A.A(x), expected) and torch.equal(pickle.loads(pickle.dumps(A)).A(x), expected)
    single = A.to(torch.float32).A(x.float())
    assert single.dtype == torch.float32 and torch.allclose(single.double(), expected, rtol=1e-5, atol=1e-7)


def test_gradient_by_autograd_is_the_adjoint():
    A = build("waves", rectangle(16))
    x, v = torch.randn(2, 2, 1, *A.grid.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_()
    assert torch.allclose(torch.autograd.grad(A.A(x), x, v)[0], A.A_adjoint(v), atol=1e-14)
    assert torch.equal(A.A_vjp(x, v), A.A_adjoint(v))


def test_resonance():
    grid = rectangle(16)
    eigenvalue = float(laplacian_eigenvalues(grid).flatten()[7])
    with pytest.raises(InfieldError, match=f"a resonance: .* discrete Laplacian is {-eigenvalue!r}"):
        Helmholtz(grid, 1, -eigenvalue * (1 + 1e-12))
    x = torch.ones(1, 1, *grid.shape, dtype=torch.float64)
    assert torch.isfinite(Helmholtz(grid, 1, -eigenvalue * (1 + 1e-6)).A(x)).all()
    assert torch.isfinite(Helmholtz(grid, 1, eigenvalue).A(x)).all()  # on the other side there is none


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (Grid.regular((8, 8), periodic=True), "found a periodic grid along axis 'y', expected one with a boundary"),
        (Grid.regular((8, 2)), "found 2 points along axis 'x', expected at least 3"),
        (Grid((Axis("y", (0.0, 1.0, 2.0)), Axis("x", (0.0, 1.0, 4.0)))), "found uneven spacing along axis 'x'"),
        (Grid((Axis("y", (0.0, 1.0, 2.0), "m"), Axis("x", (0.0, 1.0, 2.0), "s"))), "found axes in m, s, expected one"),
        (PointSet(((0.0,), (1.0,), (2.0,))), "found a field on scattered points"),
    ],
)
@pytest.mark.parametrize("name", ["poisson", "helmholtz", "darcy"])
def test_grids_that_do_not_fit(name, grid, message):
    parameters = {"wavenumber_squared": 1.0} if name == "helmholtz" else {}
    with pytest.raises(InfieldError, match=f"operator '{name}': {message}"):
        build_operator({"name": name, "parameters": parameters}, {}, grid, 1)


@pytest.mark.parametrize("k2", [None, "1", True, math.inf, math.nan])
def test_wavenumbers_that_are_no_numbers(k2):
    parameters = {} if k2 is None else {"wavenumber_squared": k2}
    with pytest.raises(InfieldError, match=f"found wavenumber_squared {k2!r}, expected a finite number"):
        build_operator({"name": "helmholtz", "parameters": parameters}, {}, Grid.regular((5, 5)), 1)
    with pytest.raises(InfieldError, match="found parameter wavenumber_squared, expected none"):
        build_operator({"name": "poisson", "parameters": {"wavenumber_squared": 1.0}}, {}, Grid.regular((5, 5)), 1)
