"""Matern kernels: the function, its covariance on grids and points, and the kernels by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from infield import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Eigenbasis, Hartley, Pixels
from infield.priors.gaussian import kernels as source
from infield.priors.gaussian.kernels import Kernel, Matern, White, law_from_spec, law_to_spec, spacing_of
from infield.priors.gaussian.matern import matern, matern_matrix, matern_mixture, matern_spectrum

R = torch.cat([torch.zeros(1, dtype=torch.float64), torch.logspace(-13, 1.5, 300, dtype=torch.float64)])


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def matrix(C: Covariance) -> Tensor:
    n = math.prod(C.event_shape)
    return C.apply(torch.eye(n, dtype=torch.float64).reshape(n, *C.event_shape)).flatten(1)


# the function


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_bessel_functions_agree_with_the_closed_forms(nu):
    closed = matern(R, nu=nu, length=0.7, variance=2.0)
    general = matern(R, nu=nu + 1e-10, length=0.7, variance=2.0)
    torch.testing.assert_close(general, closed, rtol=1e-7, atol=1e-9)
    other = matern(R, nu=nu + 0.3, length=0.7, variance=2.0)
    assert (other - closed).abs().max() > 0.01


def test_the_general_order_agrees_with_the_closed_form_of_seven_halves():
    z = math.sqrt(7) * R / 0.7
    expected = 2 * (1 + z + 2 * z**2 / 5 + z**3 / 15) * torch.exp(-z)
    torch.testing.assert_close(matern(R, nu=3.5, length=0.7, variance=2.0), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("nu", [0.05, 0.5, 1.3, 2.5, 7.3, 100.0])
@pytest.mark.parametrize("length", [0.003, 0.3, 3.0])
def test_a_mixture_of_squared_exponentials_is_the_function(nu, length):
    """At every multiple of the finest distance, however narrow or wide; a term left out is seen."""
    mixture = matern_mixture(nu=nu, length=length, variance=2.0, finest=0.01)
    r = 0.01 * torch.arange(300, dtype=torch.float64)
    terms = mixture.weights[:, None] * torch.exp(-0.5 * (r / mixture.scales[:, None]) ** 2)
    assert (mixture.weights >= 0).all() and mixture.nugget >= 0

    def error(terms: Tensor) -> float:
        nugget = mixture.nugget * (r == 0).double()
        return float((terms.sum(0) + nugget - matern(r, nu=nu, length=length, variance=2.0)).abs().max())

    assert error(terms) < 5e-13
    heaviest = int(mixture.weights.argmax())
    assert mixture.weights[heaviest] < 1e-9 or error(torch.cat([terms[:heaviest], terms[heaviest + 1 :]])) > 1e-6
    assert float(matern(torch.tensor(mixture.reach), nu=nu, length=length, variance=1.0)) < 2e-11


@pytest.mark.parametrize("nu", [0.05, 0.3, 1.0, 2.0, 7.3, 30.0, 100.0])
def test_any_order_starts_at_the_variance_and_falls_to_zero(nu):
    k = matern(R, nu=nu, length=0.7, variance=3.0)
    assert torch.isfinite(k).all() and k[0] == 3
    assert (k.diff() <= 1e-12).all() and (k >= 0).all() and k[-1] < 1e-3
    assert float(matern(-R[200:201], nu=nu, length=0.7, variance=3.0)) == float(k[200])
    far = matern(torch.tensor([1e3, 1e5], dtype=torch.float64), nu=nu, length=0.003, variance=3.0)
    assert (far == 0).all()


def test_high_orders_tend_to_the_squared_exponential():
    limit = torch.exp(-0.5 * (R / 0.7) ** 2)
    errors = [
        float((matern(R, nu=nu, length=0.7, variance=1.0) - limit).abs().max()) for nu in (5.0, 10.0, 50.0, 100.0)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.005 and errors[0] > 0.02


@pytest.mark.parametrize("nu", [0.5, 1.2, 2.5])
def test_length_and_variance_scale_the_function(nu):
    torch.testing.assert_close(
        matern(10 * R, nu=nu, length=10.0, variance=1.0),
        matern(R, nu=nu, length=1.0, variance=1.0),
        rtol=1e-10,
        atol=1e-12,
    )


# on periodic grids


def images(nu: float, length: float, lag: float, period: float) -> float:
    """The covariance function summed over periodic images, by brute force."""
    lags = torch.tensor([lag + i * period for i in range(-400, 401)], dtype=torch.float64)
    return float(matern(lags, nu=nu, length=length, variance=1.0).sum())


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.2])
@pytest.mark.parametrize("length", [0.03, 0.3, 2.0])
def test_periodic_covariance_is_the_sum_over_images(nu, length):
    grid = Grid.regular((9,), 1.0, periodic=True)
    K = matrix(Matern(nu, length).covariance(grid))
    expected = [images(nu, length, i / 9, 1.0) for i in range(9)]
    np.testing.assert_allclose(K[0].numpy(), expected, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(K, K.mT)


@pytest.mark.parametrize("shape", [(8,), (9,), (5, 6), (3, 4, 3)])
def test_law_on_shared_points_does_not_depend_on_the_resolution(shape):
    law = Matern(1.3, 0.15)
    coarse, fine = (Grid.regular(tuple(f * n for n in shape), 1.0, periodic=True) for f in (1, 2))
    K_coarse, K_fine = matrix(law.covariance(coarse)), matrix(law.covariance(fine))
    shared = torch.zeros(fine.shape, dtype=torch.bool)
    shared[tuple(slice(None, None, 2) for _ in shape)] = True
    keep = shared.flatten()
    torch.testing.assert_close(K_fine[keep][:, keep], K_coarse, rtol=1e-7, atol=1e-8)
    white = matrix(White().covariance_in(Hartley(len(shape)), fine))[keep][:, keep]
    assert not torch.allclose(white, K_coarse, atol=1e-2)


def test_spectrum_is_never_negative_and_its_mean_is_the_variance():
    for nu in (0.3, 1.5, 6.0, 40.0):
        for length in (0.01, 0.2):
            S = matern_spectrum((12, 10), (1 / 12, 1 / 10), nu=nu, length=length, variance=2.5)
            assert (S >= 0).all() and S.shape == (12, 10)
            torch.testing.assert_close(S, S.roll((-1, -1), (0, 1)).flip((0, 1)))
            assert float(S.mean()) == pytest.approx(images_in_two(nu, length, 2.5), rel=1e-6)


@pytest.mark.parametrize("nu", [0.5, 1.1, 2.5])
def test_spectrum_in_three_dimensions_is_that_of_the_sum_over_images(nu):
    """Lengths near the domain's have hundreds of thousands of images; here few enough for brute force."""
    shape, spacing, length = (4, 3, 5), (0.25, 0.3, 0.2), 0.12
    points = torch.cartesian_prod(
        *(h * torch.arange(n, dtype=torch.float64) for n, h in zip(shape, spacing, strict=True))
    )
    periods = tuple(n * h for n, h in zip(shape, spacing, strict=True))
    K = matern_matrix(points, nu=nu, length=length, variance=2.0, periods=periods)
    expected = torch.fft.fftn(K[0].reshape(shape)).real
    found = matern_spectrum(shape, spacing, nu=nu, length=length, variance=2.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert (matern_spectrum(shape, spacing, nu=nu, length=1.01 * length, variance=2.0) - expected).abs().max() > 1e-3


def images_in_two(nu: float, length: float, variance: float) -> float:
    steps = torch.arange(-15.0, 16.0, dtype=torch.float64)
    r = torch.cartesian_prod(steps, steps).square().sum(1).sqrt()
    return float(matern(r, nu=nu, length=length, variance=variance).sum())


def test_spectrum_of_a_fine_grid_is_the_spectral_density():
    """S(k) = integral of k(r) cos(2 pi k r) over the line, a spacing apart (Rasmussen & Williams 2006, eq. 4.15)."""
    n, nu, length = 256, 1.5, 0.05
    S = matern_spectrum((n,), (1 / n,), nu=nu, length=length, variance=1.0)

    def covariance(r: float) -> float:
        return float(matern(torch.tensor(r), nu=nu, length=length, variance=1.0))

    for k in (0, 1, 5, 12):
        density = 2 * quad(covariance, 0, 2, weight="cos", wvar=2 * np.pi * k)[0]
        assert float(S[k]) == pytest.approx(n * density, rel=0.01)
    assert float(S[1]) != pytest.approx(float(S[0]), rel=0.05)


def test_length_is_in_the_units_of_the_grid():
    expected = float(matern(torch.tensor(10.0), nu=1.5, length=20.0, variance=1.0))
    law = Matern(1.5, 20.0)  # the same number of the grid's units on every grid
    for spacing in (1.0, 5.0):
        axis = Axis("x", tuple(spacing * i for i in range(200)), "m", periodic=True)
        K = matrix(law.covariance(Grid((axis,))))
        steps = round(10.0 / spacing)
        assert float(K[0, steps]) == pytest.approx(expected, rel=1e-4)
    axes = (
        Axis("y", tuple(range(0, 60, 2)), periodic=True),
        Axis("x", tuple(0.5 * i for i in range(80)), periodic=True),
    )
    K = matrix(Matern(1.5, 3.0).covariance(Grid(axes)))[0].reshape(30, 80)
    assert float(K[3, 0]) == pytest.approx(float(K[0, 12]), rel=1e-5)  # six units along either axis
    assert float(K[3, 0]) != pytest.approx(float(K[0, 3]), rel=0.1)


# on points and on grids that do not close


def scattered(n: int = 40, seed: int = 0) -> PointSet:
    places = np.random.default_rng(seed).random((n, 2))
    return PointSet(tuple(map(tuple, places.tolist())), ("y", "x"))


@pytest.mark.parametrize("nu", [0.5, 1.1, 2.5])
def test_matrix_on_points_is_the_function_of_their_distances(nu):
    points = scattered().points()
    K = matern_matrix(points, nu=nu, length=0.01, variance=2.0)
    for i, j in [(0, 0), (3, 17), (17, 3), (39, 38)]:
        r = torch.tensor(math.dist(points[i].tolist(), points[j].tolist()), dtype=torch.float64)
        assert float(K[i, j]) == pytest.approx(float(matern(r, nu=nu, length=0.01, variance=2.0)), rel=1e-12)
    assert torch.equal(K.diagonal(), torch.full((40,), 2.0, dtype=torch.float64)) and torch.equal(K, K.mT)
    assert torch.linalg.eigvalsh(K).min() > 0


@pytest.mark.parametrize("grid", [scattered(), Grid.regular((6, 5)), Grid.regular((17,))], ids=["points", "2-D", "1-D"])
def test_dense_laws_are_their_matrix_in_any_modes(grid):
    law = Matern(1.5, 0.3, 2.0)
    K = matern_matrix(grid.points(), nu=1.5, length=0.3, variance=2.0)
    C = law.covariance(grid)
    assert isinstance(C.modes, Eigenbasis) and C.rank == 0 and (C.diagonal > 0).all()
    torch.testing.assert_close(matrix(C), K, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(matrix(law.covariance_in(Pixels(), grid)), K, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(matrix(law.covariance_in(White().covariance(grid).modes, grid)), K, rtol=1e-8, atol=1e-8)
    two = matrix(law.covariance(grid, 2)).reshape(2, grid.size, 2, grid.size)
    torch.testing.assert_close(two[0, :, 0], K, rtol=1e-8, atol=1e-8)
    assert two[0, :, 1].abs().max() == 0


def test_law_on_a_periodic_grid_is_the_same_in_all_modes():
    for shape in [(8,), (4, 5)]:
        grid, law = Grid.regular(shape, 1.0, periodic=True), Matern(1.5, 0.3)
        K = matrix(law.covariance(grid))
        torch.testing.assert_close(matrix(law.covariance_in(Pixels(), grid)), K, rtol=1e-7, atol=1e-8)
        open_grid = Grid.regular(shape, tuple(1 - 1 / n for n in shape))  # the same points, not closed
        torch.testing.assert_close(open_grid.points(), grid.points())
        assert (matrix(law.covariance(open_grid)) - K).abs().max() > 0.1


def test_an_axis_that_closes_beside_one_that_does_not():
    """A channel between walls, say: correlations close around one axis only."""
    x = Grid.regular((8,), 1.0, names=("x",), periodic=True).axes[0]
    y = Grid.regular((3,), 0.4, names=("y",)).axes[0]
    K = matrix(Matern(1.5, 0.2).covariance(Grid((y, x)))).reshape(3, 8, 3, 8)
    assert float(K[0, 0, 0, 7]) == pytest.approx(float(K[0, 0, 0, 1]), rel=1e-9)  # neighbours around the end
    lags = torch.tensor([0.25 + i for i in range(-30, 31)], dtype=torch.float64)
    expected = matern((lags**2 + 0.2**2).sqrt(), nu=1.5, length=0.2, variance=1.0).sum()
    assert float(K[1, 3, 0, 1]) == pytest.approx(float(expected), rel=1e-8)
    assert float(K[0, 0, 2, 0]) < 0.5 * float(K[0, 0, 1, 0])  # the walls are far from each other
    assert torch.linalg.eigvalsh(K.reshape(24, 24)).min() > 0


def test_wrap_closes_the_domain_and_is_wrong_near_its_edges_only():
    grid, law = Grid.regular((64,), 1.0), Matern(1.5, 0.05)
    K, wrapped = matrix(law.covariance(grid)), matrix(Matern(1.5, 0.05, wrap=True).covariance(grid))
    assert isinstance(Matern(1.5, 0.05, wrap=True).covariance(grid).modes, Hartley)
    inside = slice(20, 44)
    torch.testing.assert_close(wrapped[inside, inside], K[inside, inside], rtol=0, atol=1e-6)
    assert wrapped[0, -1] > 0.5 > 1e-6 > K[0, -1]


def test_a_large_grid_that_does_not_close_is_refused_as_a_law_of_its_own(monkeypatch):
    """As a prior it is embedded in a torus, see `test_circulant`."""
    monkeypatch.setattr(source, "DENSE_LIMIT", 30)
    monkeypatch.setattr(source, "EMBED_ABOVE", 30)
    with pytest.raises(InfieldError, match=r"36 points of a grid that is not periodic.* at most 30.*wrap: true"):
        Matern().covariance(Grid.regular((6, 6)))
    assert Matern(wrap=True).covariance(Grid.regular((6, 6))).rank == 0
    assert Matern().covariance(Grid.regular((6, 6), periodic=True)).rank == 0


def test_draws_of_a_law_have_its_variance_and_correlation():
    grid = Grid.regular((12, 12), 1.0, periodic=True)
    x = Matern(1.5, 0.1, 3.0).covariance(grid).sample(4000, rng(0))
    assert float(x.var()) == pytest.approx(3.0, rel=0.05)
    ratio = float((x * x.roll(1, -1)).mean() / x.square().mean())
    assert ratio == pytest.approx(float(matern(torch.tensor(1 / 12), nu=1.5, length=0.1, variance=1.0)), abs=0.02)


# laws by name


@pytest.mark.parametrize("law", [White(2.0), Matern(0.7, 0.2, 3.0, wrap=True), Matern(rank=7), Matern(domain="sphere")])
def test_laws_survive_being_written_down(law):
    assert isinstance(law, Kernel)
    assert law_from_spec(law_to_spec(law)) == law


def test_scattered_points_have_no_spacing():
    assert spacing_of(Grid.regular((5, 3), (1.0, 4.0))) == (0.25, 2.0)
    with pytest.raises(InfieldError, match="no spacing"):
        spacing_of(scattered())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"law": "maternn"}, "found 'maternn', expected an entry 'law', one of white, matern"),
        ({"nu": 1.5}, "found None"),
        ({"law": ["matern"]}, "expected an entry 'law'"),
        ("matern", "found 'matern', expected an entry 'law'"),
        (None, "found None"),
        ({"law": "matern", "size": 3}, "size"),
        ({"law": "matern", "length": -0.1}, "positive"),
        ({"law": "matern", "length": float("nan")}, "positive"),
        ({"law": "matern", "length": float("inf")}, "finite"),
        ({"law": "matern", "length": "0.1"}, "law 'matern'"),
        ({"law": "matern", "nu": 0}, "positive"),
        ({"law": "matern", "nu": 101.0}, "at most 100"),
        ({"law": "matern", "rank": 0}, "found rank 0"),
        ({"law": "matern", "rank": 2.5}, "found rank 2.5"),
        ({"law": "matern", "domain": "torus"}, "found domain 'torus', expected one of plane, sphere"),
        ({"law": "matern", "domain": "sphere", "wrap": True}, "closed as it is"),
        ({"law": "white", "variance": -1.0}, "positive"),
        ({"law": "white", "variance": None}, "law 'white'"),
    ],
)
def test_errors_of_a_law(spec, message):
    with pytest.raises(InfieldError, match=message):
        law_from_spec(spec)


def test_a_dense_law_of_several_channels_in_other_modes_is_refused():
    with pytest.raises(InfieldError, match="found 2 channels, expected 1"):
        Matern().covariance_in(Pixels(), Grid.regular((4,)), channels=2)


def test_without_numbers_a_law_is_of_order_three_halves():
    """exp(-x) (1 + x) at the distance r, x = sqrt(3) r / 0.3, of unit variance."""
    first = torch.zeros(1, 1, 4, dtype=torch.float64)
    first[..., 0] = 1
    K = Matern().covariance(Grid.regular((4,))).apply(first)
    x = math.sqrt(3) * torch.linspace(0, 1, 4).double() / 0.3
    torch.testing.assert_close(K[0, 0], (1 + x) * (-x).exp(), rtol=1e-6, atol=1e-9)
