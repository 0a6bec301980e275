"""Interferometer data, mode by mode across the sky: against matrices, to rounding."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from infield.core.grid import Grid
from infield.core.transform import Affine, Whitening
from infield.physics.cm21.interferometer import Interferometer, gaussian_beam, independent_modes
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.composition import Scale, compose
from infield.posterior.cm21 import mode_solver as modes_across
from infield.posterior.cm21.mode_solver import TransverseModeSolver
from infield.posterior.cm21.sampler import add_ionisation_channel
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.priors.cm21.slice_spectra import KNOTS
from infield.priors.cm21.whitening import vecchia_whitening
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley, HartleyAcross, Pixels

SHAPE = (8, 6, 8)
GRID = Grid.regular(SHAPE, (32.0, 24.0, 32.0), names=("x", "y", "los"), units="Mpc", periodic=True)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seen_by(*, cells: int = 1, delays: int = 0, beam: bool = False) -> Measurement:
    """Some modes, other ones in each channel, noise that depends on all."""
    channels = SHAPE[2] // cells
    mask = independent_modes(*SHAPE[:2])[..., None] & (torch.rand(8, 4, channels, generator=rng(0)) < 0.7)
    mask[2] = False
    fwhm = gaussian_beam(GRID, torch.full((SHAPE[2],), 20.0).double()) if beam else None
    A = Interferometer(GRID, mask, channel_cells=cells, delay_channels=delays, beam=fwhm)
    variance = (0.2 + torch.rand(mask.shape, generator=rng(1)).double()).expand(A.data_shape)
    y = torch.where(A.observed, torch.randn(A.data_shape, generator=rng(2)).double(), 0.0)[None]
    return Measurement(y=y, operator=A, noise=GaussianNoise(variance.clone()), grid=GRID, channels=("T",), units="mK")


def innovations(measurement: Measurement) -> Measurement:
    """The same data of the innovations of temperature and place."""
    a = torch.ones(2, 2 * KNOTS, SHAPE[2]).double() * torch.linspace(1, -2, 2 * KNOTS).exp()[:, None]
    scale = torch.linspace(0.5, 2, SHAPE[2]).double().expand(2, 1, 1, -1)
    both = add_ionisation_channel(measurement).pullback(Affine(torch.zeros_like(scale), scale))
    return both.pullback(Whitening(vecchia_whitening(a, SHAPE[:2])))


def even(modes, channels: int) -> Covariance:
    """A covariance whose variances are even in the wavenumber, and scatter."""
    d = 0.1 + torch.rand(channels, *SHAPE, generator=rng(3)).double()
    axes = (1, 2, 3) if isinstance(modes, Hartley) else (1, 2)
    return Covariance.diagonal_in(modes, d + d.flip(axes).roll([1] * len(axes), axes))


@pytest.mark.parametrize(
    ("measurement", "modes"),
    [
        (seen_by(), HartleyAcross()),
        (seen_by(), Hartley(3)),
        (seen_by(cells=2, delays=4), HartleyAcross()),
        (seen_by(cells=2, delays=2), Hartley(3)),
        (innovations(seen_by(delays=4)), HartleyAcross()),
    ],
    ids=["across", "all axes", "delays", "delays, all axes", "innovations"],
)
def test_it_is_the_dense_answer_to_rounding(measurement, modes):
    channels = measurement.event_shape[0]
    covariance = even(modes, channels)
    dense, apart = (LinearGaussianData(measurement, modes) for _ in range(2))
    apart.__dict__["dense"] = False
    assert dense.dense and any(solver.applies_to(covariance) for solver in apart.solvers)
    mean = torch.randn((3, channels, *SHAPE), generator=rng(6)).double()
    one, other = (data.draw(mean, covariance, rng(7)) for data in (dense, apart))
    assert (one - other).abs().max() < 1e-6 * one.abs().max()  # blocks of innovations are in single precision
    assert (one - dense.draw(mean, covariance, rng(8))).abs().max() > 0.1  # a control: another draw
    half = replace(measurement, noise=GaussianNoise(measurement.noise.variance / 2))
    assert (one - LinearGaussianData(half, modes).draw(mean, covariance, rng(7))).abs().max() > 1e-2


def test_data_that_are_missing_tell_nothing():
    measurement = seen_by()
    lost = torch.rand(measurement.y.shape[2:], generator=rng(4)) < 0.3
    measurement = replace(measurement, observed=measurement.operator.observed & ~lost)
    covariance = even(HartleyAcross(), 1)
    dense, apart = (LinearGaussianData(measurement, covariance.modes) for _ in range(2))
    apart.__dict__["dense"] = False
    mean = torch.zeros(1, *SHAPE).double()[None]
    one, other = (data.mean(mean, covariance) for data in (dense, apart))
    assert (one - other).abs().max() < 1e-10 * one.abs().max()
    assert (one - LinearGaussianData(seen_by(), covariance.modes).mean(mean, covariance)).abs().max() > 1e-2


def test_what_mixes_modes_is_left_to_others():
    assert TransverseModeSolver.of(seen_by(), HartleyAcross()) is not None
    assert TransverseModeSolver.of(seen_by(beam=True), HartleyAcross()) is None
    assert (
        TransverseModeSolver.of(seen_by(), Pixels()) is None and TransverseModeSolver.of(seen_by(), Hartley(2)) is None
    )
    measurement = seen_by()
    uneven = compose(measurement.operator, Scale(GRID, 1, 1 + torch.rand(1, *SHAPE, generator=rng(5)).double()))
    assert TransverseModeSolver.of(replace(measurement, operator=uneven), HartleyAcross()) is None
    one_part = measurement.operator.observed.clone()
    one_part[0, 1] = False
    assert TransverseModeSolver.of(replace(measurement, observed=one_part), HartleyAcross()) is None
    apart = TransverseModeSolver.of(measurement, HartleyAcross())
    d = even(HartleyAcross(), 1).diagonal
    assert apart.applies_to(Covariance.diagonal_in(HartleyAcross(), d))
    d = d.clone()
    d[0, 1, 2, 3] *= 1.5
    assert not apart.applies_to(Covariance.diagonal_in(HartleyAcross(), d))
    low_rank = Covariance(HartleyAcross(), even(HartleyAcross(), 1).diagonal, torch.ones(1, 1, *SHAPE).double())
    assert not apart.applies_to(low_rank) and not apart.applies_to(even(Hartley(3), 1))


def test_responses_are_the_same_however_few_are_formed_together(monkeypatch):
    measurement = seen_by(delays=2)
    together = TransverseModeSolver.of(measurement, HartleyAcross())
    monkeypatch.setattr(modes_across, "MAX_VALUES_PER_BATCH", 1)
    torch.testing.assert_close(TransverseModeSolver.of(measurement, HartleyAcross()).matrices, together.matrices)


def test_modes_are_apart_where_a_shift_turns_phases_and_not_where_axes_are_exchanged():
    def measured(A):
        return SimpleNamespace(operator=SimpleNamespace(A=A), event_shape=(1, 8, 8, 4), y=torch.zeros(1).double())

    def A(x):
        z = torch.fft.rfft2(x[:, 0].movedim(-1, 1)).movedim(1, -1)
        return torch.stack([z.real, z.imag], 1)

    assert modes_across._apart(measured(A))
    assert modes_across._apart(measured(lambda x: A(2 * x + x.roll((3, 5), (2, 3)))))
    assert not modes_across._apart(measured(lambda x: A(x.transpose(2, 3))))
    assert not modes_across._apart(measured(lambda x: A(x.flip(2))))
    assert not modes_across._apart(measured(lambda x: A(x * torch.linspace(1, 2, 8)[:, None, None])))
