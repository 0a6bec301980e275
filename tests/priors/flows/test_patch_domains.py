"""A prior of patches on other domains: its spectrum as a density over wavenumber, its weights wherever it is wanted."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from infield import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.physics.wall_pressure.wall_units import wall_grid
from infield.priors.base import Standardisation, sample
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley
from infield.priors.flows.flow import LearnedFlow, on_domain
from infield.priors.gaussian.kernels import Matern, White, law_to_spec
from infield.priors.gaussian.spectral_density import SpectralDensity, fold, unfold
from infield.priors.networks.fno import FNO
from infield.priors.networks.patched import Patched
from infield.priors.networks.unet import UNet
from infield.priors.storage.flow_entry import from_entry, to_entry
from infield.priors.training.flow_matching import stationary_covariance
from infield.priors.wall_pressure.synthetic import WallPressure

SHORT, LONG = wall_grid(180), wall_grid(180, 16 * math.pi)


def band_errors(found: torch.Tensor, exact: torch.Tensor, axis: int) -> list[float]:
    """Error of the spectrum along an axis in octaves of modes, dB; spectra of shape (z, x)."""
    found, exact = found.sum(1 - axis), exact.sum(1 - axis)
    half = len(exact) // 2
    octaves = [(2**i, min(2 ** (i + 1), half)) for i in range(int(math.log2(half)))]
    return [10 * math.log10(float(found[a:b].sum() / exact[a:b].sum())) for a, b in octaves]


@pytest.mark.parametrize("re_tau", [180, 500, 1000])
def test_waves_longer_than_the_box_have_their_variance(re_tau):
    law = WallPressure(re_tau)
    short, long = wall_grid(re_tau), wall_grid(re_tau, 16 * math.pi)
    density = SpectralDensity(law.spectrum(short).clamp_min(1e-12)[None])
    exact, found = law.spectrum(long), density.on(long.shape)[0]
    for axis in (0, 1):
        assert max(map(abs, band_errors(found, exact, axis))) < 0.3
    wide = wall_grid(re_tau, 16 * math.pi, 4 * math.pi)
    for axis in (0, 1):
        assert max(map(abs, band_errors(density.on(wide.shape)[0], law.spectrum(wide), axis))) < 0.3
    silent = torch.where(torch.arange(long.shape[1]) < long.shape[1] // short.shape[1], 1e-12, found)
    assert band_errors(silent, exact, 1)[0] < -10  # negative control: nothing below the first wavenumber


@pytest.mark.parametrize("shape", [(12,), (9,), (8, 11), (5, 6, 4)])
def test_on_its_own_box_a_density_is_what_it_was(shape):
    spectrum = Matern(1.5, 0.3).covariance(Grid.regular(shape, periodic=True)).diagonal
    assert not SpectralDensity(spectrum).removed
    torch.testing.assert_close(SpectralDensity(spectrum).on(shape), spectrum)


def test_between_wavenumbers_it_is_interpolated_and_on_a_finer_set_of_them_right():
    def spectrum(n):  # boxes of length n / 40
        return Matern(1.5, 0.1).covariance(Grid.regular((n, n), n / 40, periodic=True)).diagonal

    short = SpectralDensity(spectrum(40))
    for n in (160, 100, 52, 32):
        error = 10 * torch.log10(short.on((n, n)) / spectrum(n))
        assert error.abs().max() < 0.45
        inside = torch.fft.fftfreq(n, 1 / n).abs() * 40 >= 4 * n
        assert error[0][inside][:, inside].abs().max() < 0.05


def test_a_removed_mean_stays_removed_in_a_domain_but_a_part_of_one_has_a_mean():
    spectrum = Matern(1.5, 0.3).covariance(Grid.regular((16, 16), periodic=True)).diagonal.clone()
    first = float(spectrum[0, 0, 1] + spectrum[0, 1, 0]) / 2
    spectrum[0, 0, 0] = 1e-9
    density = SpectralDensity(spectrum)
    assert density.removed
    assert float(density.on((32, 64))[0, 0, 0]) == pytest.approx(1e-9)
    assert float(density.on((32, 64), whole=False)[0, 0, 0]) == pytest.approx(first)
    assert density.on((32, 64)).flatten().sort().values[1] > 1e-6  # nothing else was drawn down with it


WHITE = White()


def prior(grid: Grid = SHORT, *, source=WHITE, skip="gaussian", mean_removed=True, seed=0) -> LearnedFlow:
    torch.manual_seed(seed)
    unet = UNet(1, 2, (4, 8), 1, True, False)
    nn.init.normal_(unet.head.weight, std=0.02)
    spectrum = WallPressure(180).spectrum(grid).clamp_min(1e-8)[None]
    spectrum[0, 0, 0] = 1e-8 if mean_removed else spectrum[0, 0, 1]
    spectrum = unfold(fold(spectrum), grid.shape)
    start = source.covariance_in(Hartley(2), grid) if isinstance(source, White) else source.covariance(grid)
    return LearnedFlow(
        name="test",
        network=Patched(unet, (16, 16), (4, 4)).eval().requires_grad_(False),
        source=start,
        covariance=Covariance.diagonal_in(Hartley(2), spectrum),
        mean=torch.full((1, *grid.shape), 0.25).double(),
        standardisation=Standardisation(torch.full((1, 1, 1), 0.0).double(), torch.full((1, 1, 1), 1.5).double()),
        skip=skip,
        grid_description=grid.to_json(),
        units="1",
        channels=("pressure",),
        provenance={"kind": "flow", "source": law_to_spec(source)},
    )


def part(grid: Grid, axis: int, start: int, stop: int, periodic: bool) -> Grid:
    axes = list(grid.axes)
    axes[axis] = replace(axes[axis], coordinates=axes[axis].coordinates[start:stop], periodic=periodic)
    return Grid(tuple(axes))


@pytest.mark.parametrize("source", [White(), Matern(0.5, 40.0)])
@pytest.mark.parametrize("skip", ["gaussian", "none", "scalar"])
def test_a_prior_on_a_longer_domain(source, skip):
    short = prior(source=source, skip=skip)
    long = short.on(LONG)
    assert long.source.event_shape == long.covariance.event_shape == long.mean.shape == (1, *LONG.shape)
    assert long.on(LONG) is long and short.on(SHORT) is short
    torch.testing.assert_close(long.source.diagonal.mean(), short.source.diagonal.mean(), rtol=1e-2, atol=0)
    variance = long.covariance.diagonal.mean() / short.covariance.diagonal.mean()
    assert float(variance) == pytest.approx(1, abs=0.02)
    x = torch.randn(1, 1, *LONG.shape, generator=torch.Generator().manual_seed(0)).double()
    v = long.velocity(x, 0.5)
    assert v.shape == x.shape and torch.equal(v, long.velocity(x, 0.5))


def test_a_field_that_repeats_the_short_box_moves_as_in_the_short_box():
    """A field of the short box's period is a field of the longer box, and its velocity is the same there.

    Up to the scales of input and output, which are means over all modes; and with a lattice that the period keeps.
    """
    short = replace(prior(), mean=torch.zeros(1, *SHORT.shape).double())
    short.network.patch, short.network.overlap = (24, 24), (8, 8)  # 16 divides 64 and 128
    long = short.on(LONG)
    x = torch.randn(1, 1, *SHORT.shape, generator=torch.Generator().manual_seed(0)).double()
    for t in (0.0, 0.5, 0.9):
        once, repeated = short.velocity(x, t), long.velocity(x.repeat(1, 1, 1, 4), t)
        assert (repeated - once.repeat(1, 1, 1, 4)).norm() < 2e-3 * repeated.norm()
    off = replace(long, covariance=Covariance.diagonal_in(Hartley(2), 1.3 * long.covariance.diagonal))
    assert (off.velocity(x.repeat(1, 1, 1, 4), 0.5) - short.velocity(x, 0.5).repeat(1, 1, 1, 4)).norm() > 0.02


def test_an_open_domain_is_a_window_of_a_torus():
    law = WallPressure(180)
    open_grid = part(LONG, 1, 0, 256, periodic=False)
    short = prior(mean_removed=False)
    seen = short.on(open_grid)
    assert seen.standardisation.window.shape == (64, 256) and seen.standardisation.window.torus[0] == 64
    assert seen.standardisation.window.torus[1] >= 256 + 128
    draws = sample(seen, 3, torch.Generator().manual_seed(0), steps=3)
    assert draws.shape == (3, 1, 64, 256)
    # Where lags are shorter than the short box, the covariance on the window is the law's.
    unit = torch.zeros(1, 1, *seen.standardisation.window.torus).double()
    unit[0, 0, 0, 0] = 1
    found = seen.covariance.apply(unit)[0, 0, 0, :100]
    exact = torch.fft.ifftn(law.spectrum(wall_grid(180, 64 * math.pi))).real[0, :100]
    assert (found - exact).abs().max() < 0.04 * exact[0]
    assert found[40:].abs().max() < 0.1 * exact[0]


def test_a_tile_starts_on_the_lattice_of_the_domain():
    tile = part(LONG, 1, 64, 192, periodic=True)
    seen = on_domain(prior(), tile, whole=False)
    assert seen.network.origin == (0, 64)
    assert float(seen.covariance.diagonal[0, 0, 0]) > 1  # a tile has a mean
    assert float(prior().on(LONG).covariance.diagonal[0, 0, 0]) < 1e-6


def test_it_goes_through_a_file_that_stores_constants_once():
    short = prior()
    entry = to_entry(short)
    again = from_entry(entry)
    x = torch.randn(1, 1, *LONG.shape).double()
    assert torch.equal(again.on(LONG).velocity(x, 0.3), short.on(LONG).velocity(x, 0.3))
    assert entry["mean"].untyped_storage().nbytes() == entry["source"].untyped_storage().nbytes() == 8
    assert entry["covariance"]["folded"].numel() == 33 * 65  # of 64 x 128
    assert torch.equal(again.covariance.diagonal, short.covariance.diagonal)
    uneven = short.covariance.diagonal.clone()
    uneven[0, 3, 5] *= 2
    uneven = replace(short, covariance=Covariance.diagonal_in(Hartley(2), uneven))
    assert torch.equal(from_entry(to_entry(uneven)).covariance.diagonal, uneven.covariance.diagonal)


@pytest.mark.parametrize(
    ("site", "words"),
    [
        (
            wall_grid(180, dx_plus=10.0),
            "spacing along 'x' is 17.6715 nu/u_tau: found a spacing of 10, expected the",
        ),
        (Grid(SHORT.axes[::-1]), r"found \(x, z\), expected \(z, x\) as in training; transpose"),
        (Grid(tuple(replace(a, units="h") for a in SHORT.axes)), "found coordinates in h, expected nu/u_tau"),
        (Grid((SHORT.axes[0], Axis("x", (0.0, 17.7, 40.0), "nu/u_tau"))), "found uneven spacings"),
        (PointSet(((0.0, 1.0),), ("z", "x"), "nu/u_tau"), "found scattered points, expected a grid"),
    ],
)
def test_what_is_no_domain_for_it_is_refused(site, words):
    with pytest.raises(InfieldError, match=words):
        prior().on(site)


def test_a_source_that_is_not_on_record_is_refused():
    with pytest.raises(InfieldError, match="no source on record"):
        replace(prior(), provenance={}).on(LONG)
    with pytest.raises(InfieldError, match="the network FNO, expected a network of patches"):
        on_domain(replace(prior(), network=FNO(1, 2, 4, 4, 1)), LONG)


@pytest.mark.parametrize("periodic", [True, False])
def test_the_spectrum_of_training_fields(periodic):
    """Unbiased where axes close; where they do not, a taper keeps the jump at the ends out of the short waves."""
    whole = Grid.regular((32, 128), (0.5, 2.0), periodic=True)
    law = Matern(2.5, 0.1)
    fields = 3 + law.covariance(whole).sample(1500, torch.Generator().manual_seed(0))
    fields = fields if periodic else fields[..., :32]
    source = White().covariance_in(Hartley(2), Grid.regular(tuple(fields.shape[2:]), periodic=True))
    found = stationary_covariance(fields, source, (True, periodic)).diagonal[0]
    torus = Grid.regular(tuple(fields.shape[2:]), (0.5, fields.shape[3] / 64), periodic=True)
    exact = law.covariance(torus).diagonal[0]
    assert float(found.mean()) == pytest.approx(1, abs=0.03)
    error = 10 * torch.log10(found.mean(0) / exact.mean(0))
    assert error[0 if periodic else 5 : 16].abs().max() < (0.3 if periodic else 1.2)
    if not periodic:
        untapered = stationary_covariance(fields, source, (True, True)).diagonal[0]
        assert float(10 * torch.log10(untapered.mean(0) / exact.mean(0))[16]) > 10  # negative control
