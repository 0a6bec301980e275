"""Posteriors of lightcones: data of the temperature alone, exact zeros from the place of the ionised region."""

import math

import pytest
import torch

from infield import InfieldError
from infield.core.grid import Axis, Grid
from infield.physics.cm21.interferometer import Interferometer, independent_modes
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.composition import SelectChannel
from infield.posterior.cm21.sampler import LightconeSampler, add_ionisation_channel
from infield.posterior.samplers.faps import FAPS
from infield.priors.base import Standardisation
from infield.priors.cm21.flow import LightconeFlow, Profiles
from infield.priors.cm21.linear_correction import LinearCorrection
from infield.priors.cm21.slice_spectra import KNOTS
from infield.priors.cm21.whitening import WhiteningTransform, vecchia_whitening
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley
from infield.priors.gaussian.prior import GaussianPrior
from infield.priors.networks.local_unet import LocalUNet

SIDE, DEPTH = 8, 16
GRID = Grid(
    (
        Axis("x", tuple(4.0 * i for i in range(SIDE)), "Mpc", True),
        Axis("y", tuple(4.0 * i for i in range(SIDE)), "Mpc", True),
        Axis("los", tuple(9000 + 4.0 * i for i in range(DEPTH)), "Mpc"),
    )
)
MEAN, SPREAD, PLACE = torch.linspace(5, 15, DEPTH).double(), torch.linspace(2, 4, DEPTH).double(), -0.6


WHITE = torch.ones(2, 2 * KNOTS, DEPTH, dtype=torch.float64)
RED = WHITE * torch.linspace(1, -2, KNOTS, dtype=torch.float64).exp().repeat(2)[:, None]
RED[1] = 1.0


def gaussian_flow(amplitudes=WHITE, units="mK") -> LightconeFlow:
    """With an untrained network: N(mean, spread^2) along the line of sight, of such spectra."""
    s = torch.linspace(0, 1, DEPTH, dtype=torch.float64)[None]
    shift = torch.stack([MEAN, torch.full_like(MEAN, PLACE)])[:, None, None]
    scale = torch.stack([SPREAD, torch.ones_like(SPREAD)])[:, None, None]
    return LightconeFlow(
        name="Gaussian",
        network=LocalUNet(2, 10, 1, (8, 8)).eval().requires_grad_(False),
        linear_part=LinearCorrection(1, 2, 8).eval().requires_grad_(False),
        theta=torch.tensor([0.5], dtype=torch.float64),
        profiles=Profiles(s, shift[None, :, 0, 0], scale[None, :, 0, 0], torch.arange(DEPTH)[None]),
        innovations=vecchia_whitening(WHITE, (SIDE, SIDE)),  # what the network sees; it is untrained
        standardisation=WhiteningTransform(shift, scale, amplitudes, (SIDE, SIDE)),
        units=units,
    )


def observed() -> tuple[Measurement, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = independent_modes(SIDE, SIDE)[..., None] & (torch.rand(SIDE, SIDE // 2 + 1, 1, generator=generator) < 0.6)
    operator = Interferometer(GRID, mask.expand(-1, -1, DEPTH))
    truth = MEAN + SPREAD * torch.randn(1, 1, SIDE, SIDE, DEPTH, generator=generator, dtype=torch.float64)
    noise = GaussianNoise(torch.full(operator.data_shape, 1.5, dtype=torch.float64))
    y = torch.where(operator.observed, noise.sample(operator.A(truth), generator), 0.0)
    settings = {"grid": GRID, "channels": ("brightness_temp",), "units": "mK"}
    return Measurement(y=y, operator=operator, noise=noise, **settings), truth


def exact_moments(measurement: Measurement, flow: LightconeFlow) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviations of the posterior of the first channel, by matrices."""
    n = SIDE * SIDE * DEPTH
    A = measurement.operator.A(torch.eye(n, dtype=torch.float64).reshape(n, 1, SIDE, SIDE, DEPTH)).flatten(1).T
    A = A[measurement.operator.observed.flatten()]
    y = measurement.y.flatten()[measurement.operator.observed.flatten()]
    m, spread = (v.expand(SIDE, SIDE, DEPTH).flatten() for v in (MEAN, SPREAD))
    unit = torch.eye(n, dtype=torch.float64).reshape(n, 1, SIDE, SIDE, DEPTH)
    S = spread[:, None] * flow.standardisation.innovations.colour(unit.expand(-1, 2, -1, -1, -1))[:, 0].flatten(1).T
    C = S @ S.T
    gain = C @ A.T @ torch.linalg.inv(A @ C @ A.T + 1.5 * torch.eye(len(A), dtype=torch.float64))
    return m + gain @ (y - A @ m), (C - gain @ A @ C).diagonal().sqrt()


@pytest.mark.parametrize(
    ("levels", "amplitudes"),
    [
        pytest.param(1, WHITE, id="1"),
        pytest.param(4, WHITE, id="4", marks=pytest.mark.slow),
        pytest.param(4, RED, id="4 red"),
    ],
)
def test_temperatures_have_the_exact_posterior_before_zeros_are_set(levels, amplitudes):
    measurement, _ = observed()
    n = 500
    flow = gaussian_flow(amplitudes)
    posterior = FAPS(levels=levels)(flow, add_ionisation_channel(measurement), n, torch.Generator().manual_seed(1))
    cones = posterior.samples[:, 0].flatten(1)
    mean, deviation = exact_moments(measurement, flow)
    z = (cones.mean(0) - mean) / (deviation / math.sqrt(n))
    assert abs(float(z.mean())) < (0.2 if amplitudes is WHITE else 0.6) and float(z.abs().max()) < 5
    assert 0.9 < float(z.std()) < 1.1 or amplitudes is not WHITE  # red voxels are not independent
    spread = (cones - mean).square().mean(0).sqrt()
    assert abs(float((spread / deviation).mean()) - 1) < (0.01 if amplitudes is WHITE else 0.03)
    assert float((deviation / SPREAD.expand(SIDE, SIDE, DEPTH).flatten()).mean()) < 0.95 or amplitudes is not WHITE
    # A control: the posterior of voxels of another law is another one.
    other, _ = exact_moments(measurement, gaussian_flow(RED if amplitudes is WHITE else WHITE))
    assert float(((other - mean) / (deviation / math.sqrt(n))).abs().max()) > 8


def test_zeros_are_as_many_as_the_place_says_and_cost_little_of_the_fit():
    measurement, _ = observed()
    flow, n = gaussian_flow(), 100
    of_both = FAPS(levels=1)(flow, add_ionisation_channel(measurement), n, torch.Generator().manual_seed(1)).samples
    found = LightconeSampler(sampler=FAPS(levels=1))(flow, measurement, n, torch.Generator().manual_seed(1)).samples
    assert found.shape == (n, 1, SIDE, SIDE, DEPTH)
    assert torch.equal((found[:, 0] == 0).sum((1, 2)), (of_both[:, 1] > 0).sum((1, 2)))
    share = float(torch.special.ndtr(torch.tensor(PLACE)))
    assert abs(float((found == 0).double().mean()) - share) < 5 * math.sqrt(share * (1 - share) / n / 100)
    temperature = of_both[:, :1]
    by_place = torch.where(of_both[:, 1:] > 0, 0.0, temperature)
    misfit = [float(measurement.chi_square(one).mean()) for one in (temperature, found, by_place)]
    assert misfit[1] - misfit[0] < 0.8 * (misfit[2] - misfit[0])


def test_conjugate_gradients_come_as_near_to_matrices_as_they_are_told(monkeypatch):
    measurement, _ = observed()

    def draws(**settings):
        sampler = LightconeSampler(sampler=FAPS(levels=4, **settings))
        return sampler(gaussian_flow(RED), measurement, 8, torch.Generator().manual_seed(1)).samples

    exact = draws()
    monkeypatch.setattr("infield.posterior.inference.linear_gaussian.DENSE_DATA", 0)
    by_modes = draws()
    assert (by_modes - exact).abs().max() < 1e-5
    monkeypatch.setattr(
        "infield.posterior.cm21.mode_solver.TransverseModeSolver.of", lambda *_: None
    )  # as behind a beam
    near, far = ((draws(tolerance=tolerance) - exact).square().mean().sqrt() for tolerance in (1e-4, 1.0))
    assert near < 1e-2 < far and near < far / 20  # mK, of fields that scatter by 2 to 4


def test_what_is_said_of_the_fit_is_of_temperatures_with_zeros():
    measurement, _ = observed()
    posterior = LightconeSampler(sampler=FAPS(levels=1))(
        gaussian_flow(), measurement, 8, torch.Generator().manual_seed(1)
    )
    expected = float(measurement.chi_square(posterior.samples).mean())
    assert posterior.diagnostics["chi_square"] == pytest.approx(expected)
    assert expected > 1.2  # zeros of a law that has none do not fit


def test_the_second_channel_is_not_seen():
    measurement, truth = observed()
    both = add_ionisation_channel(measurement)
    field = torch.cat([truth, torch.randn(truth.shape, generator=torch.Generator().manual_seed(2))], dim=1)
    assert torch.equal(both.operator.A(field), measurement.operator.A(truth))
    assert both.linear_gaussian and both.event_shape == (2, SIDE, SIDE, DEPTH)
    assert torch.equal(both.log_likelihood(field), measurement.log_likelihood(truth))
    assert not both.operator.A_adjoint(both.y)[:, 1].any() and both.operator.A_adjoint(both.y)[:, 0].any()


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_channel_has_its_adjoint(index):
    generator = torch.Generator().manual_seed(0)
    one = SelectChannel(GRID, channels=3, index=index)
    x, y = (torch.randn(2, c, SIDE, SIDE, DEPTH, generator=generator, dtype=torch.float64) for c in (3, 1))
    assert torch.allclose((one.A(x) * y).sum(), (x * one.A_adjoint(y)).sum(), rtol=1e-12)
    assert torch.equal(one.A(x)[:, 0], x[:, index])


def test_other_priors_and_units_are_refused():
    measurement, _ = observed()
    with pytest.raises(InfieldError, match="found a prior in units '1', expected lightcones in 'mK'"):
        LightconeSampler(sampler=FAPS())(gaussian_flow(units="1"), measurement, 1, torch.Generator())
    ones = torch.ones(1, SIDE, SIDE, DEPTH, dtype=torch.float64)
    white = Covariance.diagonal_in(Hartley(3), ones)
    other = GaussianPrior(
        name="white",
        source=white,
        covariance=white,
        mean=0 * ones,
        standardisation=Standardisation.identity((1, SIDE, SIDE, DEPTH)),
        provenance={},
        units="mK",
    )
    with pytest.raises(InfieldError, match="prior 'white'"):
        LightconeSampler(sampler=FAPS())(other, measurement, 1, torch.Generator())
