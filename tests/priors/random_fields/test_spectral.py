"""Coefficient fields: their exact covariance beside Green's functions, the same law on every grid, two phases."""

from __future__ import annotations

import math

import pytest
import torch

from infield import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.priors.random_fields.spectral import LI_VORTICITY, SpectralField, TwoPhaseField


def one_each(shape):
    """In place of white noise, each of its numbers in turn: the fields are then rows of a root of the covariance."""
    count = math.prod(shape)
    return torch.eye(count, dtype=torch.float64).reshape(count, *shape)


def covariance(law, grid):
    root = law.draw(grid, one_each).flatten(1)
    return root.mT @ root


def noise(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda shape: torch.randn(n, *shape, generator=generator, dtype=torch.float64)


def line(n, periodic=False, length=1.0):
    return Grid.regular((n,), length, periodic=periodic)


def green(boundary, x, tau):
    """Green's functions of -d^2/dx^2 + tau^2 on [0, 1], without the constant mode."""
    low, high = torch.minimum(x, x.mT), torch.maximum(x, x.mT)
    if boundary == "dirichlet":
        return torch.sinh(tau * low) * torch.sinh(tau * (1 - high)) / (tau * math.sinh(tau))
    if boundary == "neumann":
        return torch.cosh(tau * low) * torch.cosh(tau * (1 - high)) / (tau * math.sinh(tau)) - tau**-2
    return torch.cosh(tau * (0.5 - (high - low))) / (2 * tau * math.sinh(tau / 2)) - tau**-2


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_covariance_is_greens_function(boundary):
    """(-d^2/dx^2 + tau^2)^(-1) with all but its smallest waves, whose share falls as one over their number."""
    errors = []
    for n in (65, 129, 257):
        grid = line(n, boundary == "periodic")
        law = SpectralField(alpha=1.0, tau=3.0, amplitude=2.0, boundary=boundary)
        exact = 4 * green(boundary, grid.points(), 3.0)
        errors.append(float((covariance(law, grid) - exact).abs().max() / exact.abs().max()))
    assert errors[2] < 0.01 and 1.8 < errors[0] / errors[1] < 2.2 and 1.8 < errors[1] / errors[2] < 2.2, errors
    wrong = SpectralField(alpha=1.0, tau=3.2, amplitude=2.0, boundary=boundary)  # negative control
    assert float((covariance(wrong, grid) - exact).abs().max() / exact.abs().max()) > 0.02


@pytest.mark.parametrize("law", [SpectralField(), SpectralField(boundary="neumann"), LI_VORTICITY])
def test_law_at_shared_points_does_not_depend_on_the_grid(law):
    periodic = law.boundary == "periodic"
    small, large = (17, 33) if not periodic else (16, 32)
    coarse, fine = (covariance(law, Grid.regular((n, n), periodic=periodic)) for n in (small, large))
    shared = fine.reshape((large,) * 4)[::2, ::2, ::2, ::2].reshape(small**2, small**2)
    assert float((coarse - shared).abs().max() / shared.max()) < 0.004
    if law.amplitude is None:  # negative control: scaled on each grid by itself
        by_itself = coarse * coarse.shape[0] / coarse.diagonal().sum()
        assert float((by_itself - shared).abs().max() / shared.max()) > 0.03


def test_units_of_the_grid_count():
    """On a domain twice as wide, half the inverse length gives the same field."""
    narrow = covariance(SpectralField(tau=4.0), Grid.regular((9, 9), 1.0))
    wide = covariance(SpectralField(tau=2.0), Grid.regular((9, 9), 2.0))
    torch.testing.assert_close(wide, narrow, rtol=1e-9, atol=1e-12)


def test_variance_averages_to_one_and_the_rim_is_zero():
    variance = covariance(SpectralField(), Grid.regular((33, 33))).diagonal().reshape(33, 33)
    assert abs(float(variance[:-1, :-1].mean()) - 1) < 0.004
    assert float(variance[0].max() + variance[-1].max() + variance[:, 0].max() + variance[:, -1].max()) == 0


def test_vorticity_is_that_of_the_published_code():
    """There, sqrt(2) 7^(3/2) (4 pi^2 k^2 + 49)^(-5/4) times the transform of white noise; its data deviate by 0.262."""
    n = 32
    variance = covariance(LI_VORTICITY, Grid.regular((n, n), periodic=True)).diagonal()
    k = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    spectrum = 2 * 7.0**3 * (4 * math.pi**2 * (k[:, None] ** 2 + k**2) + 49) ** -2.5
    spectrum[0, 0] = spectrum[n // 2] = spectrum[:, n // 2] = 0
    torch.testing.assert_close(variance, spectrum.sum().expand(n * n), rtol=1e-12, atol=0)
    assert abs(float(variance[0]) ** 0.5 - 0.262) < 0.001


def test_draws_have_the_covariance():
    """Every second moment of 20000 draws by its z-score; a spectrum a tenth steeper is noticed."""
    grid, law, n = Grid.regular((5, 7)), SpectralField(), 20000
    x = law.draw(grid, noise(n))
    assert x.shape == (n, 5, 7) and x.dtype == torch.float64
    x = x[:, 1:-1, 1:-1].flatten(1)
    inside = torch.zeros(5, 7, dtype=torch.bool)
    inside[1:-1, 1:-1] = True

    def largest_z(law):
        c = covariance(law, grid)[inside.flatten()][:, inside.flatten()]
        deviation = ((c.diagonal()[:, None] * c.diagonal() + c**2) / n).sqrt()
        return float(((x.mT @ x / n - c) / deviation).abs().max())

    assert largest_z(law) < 4.5
    assert largest_z(SpectralField(alpha=2.2)) > 6


def test_two_phases():
    grid, n = Grid.regular((17, 17)), 4000
    a = TwoPhaseField(coefficient="value").draw(grid, noise(n))
    assert a.unique().tolist() == [3, 12]
    torch.testing.assert_close(TwoPhaseField().draw(grid, noise(n)), a.log())
    share = (a == 12).double().mean(0)
    assert float(((share - 0.5) / (0.25 / n) ** 0.5).abs().max()) < 4.5
    field = SpectralField(boundary="neumann").draw(grid, noise(n))
    assert torch.equal(field >= 0, a == 12)


def test_three_axes_and_one():
    assert SpectralField(alpha=2.5).draw(Grid.regular((4, 5, 6)), noise(2)).shape == (2, 4, 5, 6)
    assert SpectralField(alpha=0.8).draw(line(5), noise(2)).shape == (2, 5)


BAD = {
    "alpha": (lambda: SpectralField(alpha=-1), "alpha: found -1, expected a finite number above zero"),
    "tau": (lambda: SpectralField(tau=0), "tau: found 0"),
    "words": (lambda: SpectralField(tau="three"), "tau: found 'three'"),
    "amplitude": (lambda: SpectralField(amplitude=math.inf), "amplitude: found inf"),
    "boundary": (lambda: SpectralField(boundary="open"), "found boundary 'open', expected one of dirichlet, neumann"),
    "low": (lambda: TwoPhaseField(low=0), "low: found 0"),
    "coefficient": (lambda: TwoPhaseField(coefficient="exp"), "found coefficient 'exp'"),
    "rough": (
        lambda: SpectralField(alpha=1).draw(Grid.regular((5, 5)), noise(1)),
        "found alpha 1 on 2 axes, expected more than 1, without which no value has a finite variance",
    ),
    "periodic": (
        lambda: LI_VORTICITY.draw(Grid.regular((5, 5)), noise(1)),
        "found 5 points along 'y', expected a periodic one .* boundary periodic",
    ),
    "open": (
        lambda: SpectralField().draw(Grid.regular((5, 5), periodic=True), noise(1)),
        "found 5 points, periodic along 'y', expected an open one",
    ),
    "two points": (lambda: SpectralField().draw(Grid((Axis("x", (0.0, 1.0)),)), noise(1)), "found 2 points"),
    "scattered": (lambda: SpectralField().draw(PointSet(((0.0,), (1.0,))), noise(1)), "found scattered points"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_laws_and_grids(case):
    build, message = BAD[case]
    with pytest.raises(InfieldError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)
