"""One-step samplers with the exact average velocity: exact posteriors, exact data consistency, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from examples.gaussian_average import TAU, GaussianAverage
from torch import Generator

from infield import InfieldError
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.null_flow import NullFlow
from infield.posterior.samplers.snap import SNaP
from infield.priors.amortised.average_velocity import AverageVelocity
from infield.priors.base import Standardisation
from infield.priors.storage.from_yaml import prior_from_description

POINTS, SHIFT, SCALE = 6, 3.0, 2.0
GRID = Grid.regular((POINTS,), 1.0, periodic=True)
MASK = torch.tensor([True, True, False, True, False, False])


def model(noise=(0.0, 0.5)) -> AverageVelocity:
    """Of fields N(3, 2^2) at every point, independent, in K."""
    units = Standardisation(torch.full((1, 1), SHIFT).double(), torch.full((1, 1), SCALE).double())
    serves = {"operator": "mask", "numbers": {"observed": [0.4, 0.6]}}
    power = torch.tensor(TAU**2)
    return AverageVelocity(
        name="exact", network=GaussianAverage(), standardisation=units, event_shape=(1, POINTS), power=power,
        noise=noise, serves=serves, units="K",
    )  # fmt: skip


def measurement(noise: float, mask=MASK, name="mask") -> Measurement:
    operator = build_operator({"name": name, "arrays": {"mask": "m"}}, {"m": mask.numpy()}, GRID, 1)
    y = torch.tensor([4.0, 1.0, 0.0, 6.0, 0.0, 0.0], dtype=torch.float64)[None, None]
    return Measurement(y=y, operator=operator, noise=GaussianNoise(torch.tensor(noise**2)), grid=GRID, units="K")


def z_scores(samples: torch.Tensor, noise: float) -> tuple[float, float]:
    """Of mean and variance at every point, against the posterior in closed form."""
    y = measurement(noise).y[0, 0]
    variance = torch.where(MASK, SCALE**2 * noise**2 / (SCALE**2 + noise**2), SCALE**2)
    mean = torch.where(MASK, (SHIFT * noise**2 + y * SCALE**2) / (SCALE**2 + noise**2), SHIFT)
    n, x = len(samples), samples[:, 0]
    z_mean = (x.mean(0) - mean) / (variance / n).sqrt()
    z_variance = ((x - mean).square().mean(0) - variance) / (variance * (2 / n) ** 0.5)
    return float(z_mean.abs().max()), float(z_variance.abs().max())


def test_snap_with_the_exact_average_velocity_is_the_posterior():
    # single precision in the network: 20000 draws see errors of 0.5 %
    posterior = SNaP()(model(), measurement(0.6), 20000, Generator().manual_seed(0))
    assert max(z_scores(posterior.samples, 0.6)) < 4.5
    assert posterior.cost["velocity_calls"] == 1


def test_the_source_is_widened_as_the_model_asks():
    plain, wide = (
        SNaP()(replace(model(), widening=w), measurement(0.6), 5, Generator().manual_seed(0)).samples
        for w in (1.0, 2.0)
    )
    # the flow between Gaussians scales what differs from the mean
    middle = plain - (wide - plain)
    assert torch.allclose(middle, middle[:1].expand_as(middle), atol=1e-5) and (wide - plain).abs().max() > 0.5


def test_it_is_not_where_it_is_told_another_noise():
    wrong = SNaP()(model(), measurement(0.3), 20000, Generator().manual_seed(0))
    assert max(z_scores(wrong.samples, 0.6)) > 20


def test_null_flow_agrees_with_exact_data_and_draws_the_rest():
    posterior = NullFlow()(model(), measurement(1e-6), 20000, Generator().manual_seed(0))
    x, y = posterior.samples[:, 0], measurement(1e-6).y[0, 0]
    assert (x[:, MASK] - y[MASK]).abs().max() < 1e-12
    z = (x[:, ~MASK] - SHIFT) / SCALE
    assert (z.mean(0).abs() * len(x) ** 0.5).max() < 4.5
    assert ((z.square().mean(0) - 1).abs() / (2 / len(x)) ** 0.5).max() < 4.5
    assert posterior.cost["velocity_calls"] == 1


def test_null_flow_agrees_with_the_data_whatever_the_network_says():
    broken = model()
    broken.network.forward = lambda x, numbers: torch.full_like(x[:, :1], 7.0)
    posterior = NullFlow()(broken, measurement(1e-6), 4, Generator().manual_seed(0))
    y = measurement(1e-6).y[0, 0]
    assert (posterior.samples[:, 0, MASK] - y[MASK]).abs().max() < 1e-12
    assert posterior.samples[:, 0, ~MASK].min() > SHIFT + 5 * SCALE


def test_null_flow_refuses_noise_and_leaves_it_in_where_it_must_not():
    with pytest.raises(InfieldError, match='use sampler="snap"'):
        NullFlow()(model(), measurement(0.6), 4, Generator().manual_seed(0))
    kept = NullFlow(trust_data=True)(model(), measurement(0.6), 4, Generator().manual_seed(0))
    assert (kept.samples[:, 0, MASK].std(0) < 1e-9).all()


def test_sample_i_is_the_same_in_any_batch():
    every = SNaP()(model(), measurement(0.6), 5, SampleStreams(1, range(5))).samples
    alone = SNaP()(model(), measurement(0.6), 1, SampleStreams(1, [3])).samples
    assert torch.allclose(every[3:4], alone, atol=1e-5)


def test_other_measurements_are_refused():
    with pytest.raises(InfieldError, match=r"found noise of standard deviation 1\.5, expected 0 to 1"):
        SNaP()(model(), measurement(1.5), 2, Generator().manual_seed(0))
    few = torch.tensor([True] + [False] * 5)
    with pytest.raises(InfieldError, match=r"found observed 0\.167, expected 0\.4 to 0\.6"):
        SNaP()(model(), measurement(0.6, few), 2, Generator().manual_seed(0))


def test_priors_and_one_step_posteriors_are_not_taken_for_each_other():
    prior = prior_from_description({"prior": "gaussian", "law": {"law": "white"}}, GRID, 1)
    with pytest.raises(InfieldError, match="expected a posterior in one step"):
        SNaP()(prior, measurement(0.6), 2, Generator().manual_seed(0))
    with pytest.raises(InfieldError, match="a posterior in one step, expected a prior"):
        FAPS()(model(), measurement(0.6), 2, Generator().manual_seed(0))
