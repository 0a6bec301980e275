"""PMRF and unrolled estimates in closed form: what they are, that they are no posterior, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from examples.gaussian_rectified import GRID, MASK, NOISE, OF_MEAN, POINTS, SPREAD, ExactFlow, exact_mean
from torch import Generator

from infield import InfieldError
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.pmrf import PMRF
from infield.posterior.samplers.snap import SNaP
from infield.posterior.samplers.unrolled import UnrolledEstimate
from infield.priors.amortised.rectified_flow import RectifiedFlow
from infield.priors.storage.from_yaml import prior_from_description

SHIFT, SCALE = 3.0, 2.0
Y = torch.where(MASK, SHIFT + torch.linspace(-3, 3, POINTS, dtype=torch.float64), 0.0)


def model(spread: float = SPREAD) -> RectifiedFlow:
    """Of fields N(3, 2^2) at every point, independent, in K."""
    f = exact_mean(SHIFT, SCALE, "K")
    facts = {name: getattr(f, name) for name in ("standardisation", "event_shape", "noise", "serves", "units")}
    return RectifiedFlow(name="exact flow", network=ExactFlow(spread), mean=f, spread=SPREAD, **facts)


def measurement(y=Y, noise=SCALE * NOISE, mask=MASK) -> Measurement:
    operator = build_operator({"name": "mask", "arrays": {"mask": "m"}}, {"m": mask.numpy()}, GRID, 1)
    return Measurement(
        y=y[None, None], operator=operator, noise=GaussianNoise(torch.tensor(noise**2)), grid=GRID, units="K"
    )


def z_scores(samples: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> float:
    """The worst one, of mean and of variance at every point."""
    n, x = len(samples), samples[:, 0]
    z_mean = (x.mean(0) - mean) / (std / n**0.5)
    z_variance = ((x - mean).square().mean(0) / std.square() - 1) / (2 / n) ** 0.5
    return max(float(z_mean.abs().max()), float(z_variance.abs().max()))


def posterior_mean() -> torch.Tensor:
    return SHIFT + torch.where(MASK, (Y - SHIFT) / (1 + NOISE**2), 0.0)


def test_the_exact_flow_gives_the_law_that_theory_says():
    posterior = PMRF(levels=1000)(model(), measurement(), 1000, Generator().manual_seed(0))
    width = (OF_MEAN + SPREAD**2).sqrt()
    mean, std = SHIFT + (posterior_mean() - SHIFT) / width, SCALE * SPREAD / width
    assert z_scores(posterior.samples, mean, std) < 4.5
    assert posterior.cost["velocity_calls"] == 1000
    # the posterior is elsewhere, and wider where there are data
    exact_std = SCALE * torch.where(MASK, NOISE / (1 + NOISE**2) ** 0.5, 1.0)
    assert z_scores(posterior.samples, posterior_mean(), exact_std) > 10
    assert "not that of the posterior" in str(posterior.caveat)


def test_a_flow_for_another_spread_gives_another_law():
    posterior = PMRF(levels=200)(model(spread=2 * SPREAD), measurement(), 500, Generator().manual_seed(0))
    width = (OF_MEAN + SPREAD**2).sqrt()
    mean, std = SHIFT + (posterior_mean() - SHIFT) / width, SCALE * SPREAD / width
    assert z_scores(posterior.samples, mean, std) > 10


def test_over_many_measurements_it_has_the_law_of_the_fields_and_little_error():
    """Square error between that of the mean, the least, and that of a posterior draw, twice as much."""
    generator, flow, x, truth = Generator().manual_seed(0), model(), [], []
    for _ in range(50):
        field = SHIFT + SCALE * torch.randn(POINTS, generator=generator, dtype=torch.float64)
        y = MASK * (field + SCALE * NOISE * torch.randn(POINTS, generator=generator, dtype=torch.float64))
        x.append(PMRF(levels=100)(flow, measurement(y), 1, generator).samples[0, 0, MASK])
        truth.append(field[MASK])
    x, truth = torch.stack(x).flatten(), torch.stack(truth).flatten()
    n, a = len(x), 1 / (1 + NOISE**2)
    assert abs(float(x.mean()) - SHIFT) < 4.5 * SCALE / n**0.5
    assert abs(float(x.var()) / SCALE**2 - 1) < 4.5 * (2 / n) ** 0.5
    error, expected = float((x - truth).square().mean()) / SCALE**2, 2 - 2 * a / math.sqrt(a + SPREAD**2)
    assert abs(error / expected - 1) < 4.5 * (2 / n) ** 0.5
    assert 1 - a < expected < 2 * (1 - a)
    assert abs(error / (2 * (1 - a)) - 1) > 4.5 * (2 / n) ** 0.5


def test_euler_steps_are_of_first_order():
    def at(levels):
        return PMRF(levels=levels)(model(), measurement(), 2, SampleStreams(0, range(2))).samples

    exact = at(1600)
    errors = [float((at(levels) - exact).norm()) for levels in (25, 50, 100)]
    assert 0.8 < math.log2(errors[0] / errors[1]) < 1.3 and 0.8 < math.log2(errors[1] / errors[2]) < 1.3


def test_sample_i_is_the_same_in_any_batch():
    every = PMRF()(model(), measurement(), 5, SampleStreams(1, range(5))).samples
    alone = PMRF()(model(), measurement(), 1, SampleStreams(1, [3])).samples
    assert torch.allclose(every[3:4], alone, atol=1e-12) and not torch.allclose(every[2:3], alone)


def test_an_unrolled_network_gives_its_estimate_in_units():
    """Once for all samples; the exact one is the posterior mean."""
    found = UnrolledEstimate()(exact_mean(SHIFT, SCALE, "K"), measurement(), 4, Generator().manual_seed(0))
    assert torch.allclose(found.samples, posterior_mean().expand(4, 1, POINTS), atol=1e-6)
    assert found.cost["velocity_calls"] == 1 / 4 and "all samples are the same" in str(found.caveat)
    other = UnrolledEstimate()(exact_mean(SHIFT, SCALE, "K"), measurement(noise=1.8), 1, Generator().manual_seed(0))
    assert not torch.allclose(other.samples[0, 0], posterior_mean(), atol=0.1)


@pytest.mark.parametrize("sampler, of", [(PMRF(), model), (UnrolledEstimate(), lambda: exact_mean(SHIFT, SCALE, "K"))])
def test_other_measurements_are_refused(sampler, of):
    with pytest.raises(InfieldError, match=r"found noise of standard deviation 3, expected 0 to 2"):
        sampler(of(), measurement(noise=3.0), 2, Generator())
    few = torch.arange(POINTS) < 10
    with pytest.raises(InfieldError, match=r"found observed 0\.167, expected 0\.4 to 0\.6"):
        sampler(of(), measurement(mask=few), 2, Generator())
    each = torch.linspace(0.5, 1.0, POINTS, dtype=torch.float64).expand(1, POINTS)
    with pytest.raises(InfieldError, match="expected Gaussian noise of one variance"):
        other = Measurement(
            y=Y[None, None], operator=measurement().operator, noise=GaussianNoise(each), grid=GRID, units="K"
        )
        sampler(of(), other, 2, Generator())


def test_priors_and_what_was_trained_are_not_taken_for_each_other():
    prior = prior_from_description({"prior": "gaussian", "law": {"law": "white"}}, GRID, 1)
    for sampler in (PMRF(), UnrolledEstimate()):
        with pytest.raises(InfieldError, match="trained by `infield fit` with `priors"):
            sampler(prior, measurement(), 2, Generator())
    with pytest.raises(InfieldError, match=r'a posterior-mean rectified flow, expected .*; use sampler="pmrf"'):
        FAPS()(model(), measurement(), 2, Generator())
    with pytest.raises(InfieldError, match=r'an unrolled network, expected .*; use sampler="unrolled"'):
        FAPS()(exact_mean(SHIFT, SCALE, "K"), measurement(), 2, Generator())
    with pytest.raises(InfieldError, match="expected a posterior in one step"):
        SNaP()(model(), measurement(), 2, Generator())
    with pytest.raises(InfieldError, match="expected an unrolled network"):
        UnrolledEstimate()(model(), measurement(), 2, Generator())
    with pytest.raises(InfieldError, match="levels=0"):
        PMRF(levels=0)
