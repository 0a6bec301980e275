"""The synthetic stand-in for wall pressure: its law is what it says, near real channels, exact in covariance."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.datasets.wall_pressure.reference_tables import read_wall_tables
from infield.physics.wall_pressure.wall_units import WALL_LENGTH, wall_grid
from infield.posterior.wall_pressure.wall_statistics import WallSpectrum, negative_lobe, wall_correlation, wall_spectrum
from infield.priors.gaussian.kernels import Kernel
from infield.priors.gaussian.prior import gaussian_prior
from infield.priors.wall_pressure import synthetic as wall_pressure
from infield.priors.wall_pressure.synthetic import WallPressure


def noise(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda shape: torch.randn(n, *shape, generator=generator, dtype=torch.float64)


def one_each(shape):
    """In place of white noise, each of its numbers in turn: the fields are then rows of a root of the covariance."""
    count = math.prod(shape)
    return torch.eye(count, dtype=torch.float64).reshape(count, *shape)


def function_of(spectrum):
    """The covariance function on a torus, from the variances of its modes."""
    return torch.fft.ifftn(spectrum).real


def matrix_of(function, shape):
    """Covariance of all pairs of the first points of a torus."""
    rows, columns = (torch.arange(n) for n in shape)
    i = torch.cartesian_prod(rows, columns)
    lag = (i[:, None] - i[None]) % torch.tensor(function.shape)
    return function[lag[..., 0], lag[..., 1]]


def integral(law, low=1e-6, high=3.0, count=400):
    """The spectral density over the plane, by the trapezoidal rule in log-polar coordinates."""
    ln_k = torch.linspace(math.log(low), math.log(high), count, dtype=torch.float64)
    theta = 2 * math.pi * torch.arange(256, dtype=torch.float64) / 256
    k = ln_k.exp()[:, None]
    ring = law.density(k * theta.cos(), k * theta.sin()).mean(1) * 2 * math.pi
    return float(torch.trapezoid(ring * k[:, 0] ** 2, ln_k))


@pytest.mark.parametrize("re_tau", [150, 180, 500, 1000, 5200])
def test_variance_follows_the_logarithmic_law(re_tau):
    law = WallPressure(re_tau)
    assert abs(law.variance - (2.32 * math.log(re_tau) - 9.61)) < 1e-12
    assert abs(integral(law) / law.variance - 1) < 2e-3
    grid = wall_grid(
        re_tau, *((16, 6) if re_tau < 2000 else (3, 1.5))
    )  # and on a grid, less what lies between its modes and beyond them
    assert abs(float(law.spectrum(grid).mean()) / law.variance - 1) < 0.01


def test_without_the_near_wall_cycle_there_is_less(monkeypatch):
    """Negative control of the test above: the sizes are those of the law with it."""
    law = WallPressure(500)
    monkeypatch.setattr(WallPressure, "sizes", law.sizes)
    monkeypatch.setattr(wall_pressure, "NEAR_WALL", 0.0)
    assert integral(law) / law.variance < 0.7


def test_density_is_nowhere_negative_and_even():
    k = torch.logspace(-5, 0, 60, dtype=torch.float64)
    for re_tau in (150, 180, 1000):
        s = WallPressure(re_tau).density(k[:, None], k)
        assert (s >= 0).all() and (s > 0).float().mean() > 0.9
        torch.testing.assert_close(WallPressure(re_tau).density(-k[:, None], k), s)


def test_gaussian_draws_have_the_covariance_exactly():
    law = WallPressure(180, flatness=3.0)
    for grid in (small(), small(open_x=True), small(open_x=True, open_z=True)):
        spectrum = law.spectrum(grid)
        assert spectrum.shape == law.torus(grid)
        root = law.draw(grid, one_each).flatten(1)
        expected = matrix_of(function_of(spectrum), grid.shape)
        torch.testing.assert_close(root.mT @ root, expected, rtol=0, atol=1e-12 * law.variance)


def small(open_x=False, open_z=False):
    z = Axis("z", tuple(40.0 * i for i in range(6)), WALL_LENGTH, not open_z)
    return Grid((z, Axis("x", tuple(60.0 * i for i in range(8)), WALL_LENGTH, not open_x)))


def test_covariance_of_draws_is_the_closed_form():
    """z-scores of all second moments; their errors from the draws themselves, since these are not Gaussian."""
    law = WallPressure(180, flatness=8.0, modulation_length=60.0)
    grid, n = small(), 60_000
    p = law.draw(grid, noise(n)).flatten(1)
    moments = p.mT @ p / n
    errors = ((p**2).mT @ p**2 / n - moments**2).sqrt() / math.sqrt(n)
    z = (moments - matrix_of(function_of(law.spectrum(grid)), grid.shape)) / errors
    assert float(z.abs().max()) < 4.8 and 0.8 < float(z.std()) < 1.25
    without = WallPressure(180, flatness=3.0).spectrum(grid)  # negative control: the covariance of g alone
    z = (moments - matrix_of(function_of(without), grid.shape)) / errors
    assert float(z.abs().max()) > 8


@pytest.mark.parametrize("flatness", [3.0, 5.0])
def test_flatness_is_the_closed_form(flatness):
    law, grid = WallPressure(180, flatness), wall_grid(180, 8 * math.pi)
    p = law.draw(grid, noise(300))
    fourth = (p**4).mean((1, 2)) / law.spectrum(grid).mean() ** 2
    error = float(fourth.std()) / math.sqrt(len(p))
    assert abs(float(fourth.mean()) - flatness) < 4 * error < 0.6
    assert abs(float(fourth.mean()) - (8 - flatness)) > 8 * error  # negative control: 5 for 3, 3 for 5
    assert abs(float((p**3).mean((1, 2)).mean())) < 0.05 * law.variance**1.5


def along(law, grid, axis):
    """R(r) along one axis, over R(0)."""
    function = function_of(law.spectrum(grid))
    values = function[:, 0] if axis == "z" else function[0]
    return (values / values[0])[: len(values) // 2]


@pytest.mark.parametrize(("re_tau", "low", "high"), [(180, 80, 100), (500, 100, 150), (1000, 140, 260)])
def test_negative_lobe_along_x_and_none_along_z(re_tau, low, high):
    law, grid = WallPressure(re_tau), wall_grid(re_tau)
    x, z = along(law, grid, "x"), along(law, grid, "z")
    zero = int((x < 0).nonzero()[0]) * grid.spacing[1]
    assert low < zero < high and -0.12 < float(x.min()) < -0.02
    assert float(z[: len(z) // 2].min()) > 0 and float(z.min()) > -0.01
    p = law.draw(grid, noise(30 if re_tau < 800 else 8))  # and the draws have it
    lobe = negative_lobe(wall_correlation(p, grid.spacing[1], 1))
    assert low - 20 < lobe.zero < high + 60 and lobe.depth < -0.02


def test_without_a_direction_there_is_no_lobe(monkeypatch):
    """Negative control: a spectrum that does not depend on the direction of the wave."""
    monkeypatch.setattr(wall_pressure, "SHARE", 1.0)
    law = WallPressure(181)  # of which no modes are kept
    x = along(law, wall_grid(181), "x")
    assert float(x[:10].min()) > 0 and float(x.min()) > -0.01


def test_small_scales_are_the_same_in_wall_units_and_large_ones_grow():
    k_z = torch.linspace(-3, 3, 4001, dtype=torch.float64)

    def density(re_tau, k):
        return float(torch.trapezoid(WallPressure(re_tau).density(torch.full_like(k_z, k), k_z), k_z))

    assert abs(density(1000, 0.08) / density(500, 0.08) - 1) < 0.12
    assert density(1000, 0.002) / density(500, 0.002) > 1.5


@pytest.mark.parametrize("law", [WallPressure(500), WallPressure(500, flatness=3.0)])
def test_law_at_shared_points_hardly_depends_on_the_grid(law):
    """A finer grid, and a longer domain, at lags of a fifth of the period."""
    coarse = wall_grid(500)
    fine = Grid(
        tuple(Axis(a.name, tuple(a.spacing / 2 * i for i in range(2 * a.size)), a.units, True) for a in coarse.axes)
    )
    functions = [function_of(law.spectrum(grid)) for grid in (coarse, fine, wall_grid(500, 16 * math.pi))]
    nz, nx = coarse.shape[0] // 5, coarse.shape[1] // 5
    shared = functions[0][:nz, :nx]
    assert float((functions[1][: 2 * nz : 2, : 2 * nx : 2] - shared).abs().max()) < 0.005 * law.variance
    assert float((functions[2][:nz, :nx] - shared).abs().max()) < 0.02 * law.variance
    other = function_of(WallPressure(600).spectrum(coarse))[:nz, :nx]  # negative control
    assert float((other - shared).abs().max()) > 0.05 * law.variance


def test_spectra_of_draws_meet_the_law():
    """One-dimensional densities of draws beside those of the exact covariance, as z-scores a mode."""
    law, grid = WallPressure(180), wall_grid(180)
    p, n = law.draw(grid, noise(200)), 200
    modes = law.spectrum(grid) / grid.size
    for axis in (0, 1):
        found = wall_spectrum(p, grid.spacing[axis], axis)
        summed = modes.sum(1 - axis)
        half = len(summed) // 2
        expected = torch.cat([summed[:1], summed[1:half] + summed[half + 1 :].flip(0), summed[half : half + 1]])
        z = (found.plain_sum.mean(0) - expected) / (found.plain_sum.std(0) / math.sqrt(n))
        assert float(z.abs().max()) < 4.5
        assert float(((found.density.mean(0) - expected) / (found.density.std(0) / n**0.5)).abs().max()) > 10  # no dk


def test_the_gaussian_law_serves_priors():
    law = WallPressure(180)
    assert isinstance(law, Kernel)
    closed = gaussian_prior(law, small())
    exact = matrix_of(function_of(law.spectrum(small())), (6, 8))
    unit = torch.eye(48, dtype=torch.float64).reshape(48, 1, 6, 8)
    torch.testing.assert_close(closed.covariance.apply(unit).reshape(48, 48), exact, rtol=0, atol=1e-9)
    grid = small(open_x=True)
    seen = gaussian_prior(law, grid)
    window = seen.standardisation.window
    assert (window.shape, window.torus) == (grid.shape, law.torus(grid))
    apply = window.crop(seen.covariance.apply(window.pad(unit))).reshape(48, 48)
    torch.testing.assert_close(apply, matrix_of(function_of(law.spectrum(grid)), (6, 8)), rtol=0, atol=1e-9)
    assert "synthetic" in closed.name and "synthetic" in seen.provenance["law"]


def test_axes_may_stand_in_either_order():
    law, grid = WallPressure(180), small()
    turned = Grid(grid.axes[::-1])
    torch.testing.assert_close(law.spectrum(turned), law.spectrum(grid).mT)


BAD = {
    "re_tau": (lambda: WallPressure(100.0), "found re_tau 100, expected at least 150"),
    "not a number": (lambda: WallPressure(math.nan), "re_tau: found nan"),
    "flatness": (lambda: WallPressure(180, 2.5), "found flatness 2.5, expected at least 3"),
    "modulation": (lambda: WallPressure(180, 5.0, 0.0), "modulation_length: found 0.0"),
    "outer units": (
        lambda: WallPressure(180).draw(Grid.regular((4, 4), names=("z", "x"), units="h"), noise(1)),
        "found even spacings in h along z, expected even ones in nu/u_tau",
    ),
    "other axes": (
        lambda: WallPressure(180).spectrum(Grid.regular((4, 4), units=WALL_LENGTH)),
        "found the axes y, x, expected a grid of axes z and x",
    ),
    "points": (lambda: WallPressure(180).torus(PointSet(((0.0, 1.0),), ("z", "x"))), "found scattered points"),
    "uneven": (
        lambda: WallPressure(180).torus(
            Grid((Axis("z", (0.0, 1.0), WALL_LENGTH), Axis("x", (0.0, 1.0, 3.0), WALL_LENGTH)))
        ),
        "found uneven spacings",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    make, words = BAD[case]
    with pytest.raises(InfieldError) as caught:
        make()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_units_are_those_of_the_grids():
    assert wall_pressure.WALL_LENGTH == WALL_LENGTH


def tables():
    found = read_wall_tables(Path(os.environ.get("INFIELD_DATA", "nowhere")) / "wall_pressure")
    if not found:
        pytest.skip("INFIELD_DATA does not name the folder of the real data")
    return found


BOXES = {178: (4 * math.pi, 4 / 3 * math.pi), 392: (2 * math.pi, math.pi), 587: (2 * math.pi, math.pi)}


def misfit(law, table, axis):
    """Model over table in dB, mode by mode up to k+ 0.16, on the table's own grid; and R(r) / R(0) less the table's.

    The table, at y+ 5, is scaled to the variance at the wall, which the logarithmic law gives.
    """
    lengths = [length * table.re_tau for length in BOXES[int(table.re_tau)]]
    counts = [2 * len(table.spectra[name][0]) for name in "xz"]
    dx, dz = (length / n for length, n in zip(lengths, counts, strict=True))
    axes = (("z", counts[1], dz), ("x", counts[0], dx))
    grid = Grid(tuple(Axis(name, tuple(h * i for i in range(n)), WALL_LENGTH, True) for name, n, h in axes))
    modes = (law.spectrum(grid) / grid.size).sum(0 if axis == "x" else 1).numpy()
    half = len(modes) // 2
    model = np.concatenate([modes[:1], modes[1:half] + modes[:half:-1]])
    k, e = table.spectra[axis]
    seen = k < 0.16
    decibel = 10 * np.log10(model[seen] / (e[seen] / e.sum()) / WallPressure(table.re_tau).variance)
    r, covariance = table.correlations[axis]
    own = along(law, grid, axis).numpy()
    off = np.interp(r, np.arange(len(own)) * (dx if axis == "x" else dz), own) - covariance / covariance[0]
    return decibel, off


STATED = {(178, "x"): 0.63, (178, "z"): 0.48, (392, "x"): 0.35, (392, "z"): 0.39, (587, "x"): 0.34, (587, "z"): 0.46}


@pytest.mark.parametrize("axis", ["x", "z"])
def test_spectra_and_correlations_of_channels(axis):
    """The misfits that the module states, in the shape of the spectra; another Reynolds number is told apart."""
    for table in tables():
        decibel, off = misfit(WallPressure(table.re_tau), table, axis)
        stated = STATED[int(table.re_tau), axis]
        assert abs(float(np.sqrt((decibel**2).mean())) - stated) < 0.08, (table.re_tau, np.sqrt((decibel**2).mean()))
        assert np.abs(decibel).max() < 2.0 and np.abs(off).max() < 0.06
        other = WallPressure(table.re_tau * (2.5 if table.re_tau < 300 else 0.45))  # negative control
        assert float(np.sqrt((misfit(other, table, axis)[0] ** 2).mean())) > 2 * stated


def test_variance_of_channels():
    for table in tables():
        sum_of_table = WallSpectrum.from_plain_sum(*map(torch.from_numpy, table.spectra["x"])).variance
        assert 0.94 < WallPressure(table.re_tau).variance / float(sum_of_table) < 1.0  # at the wall and at y+ 5
