"""Mean and spread of slices as functions of parameters and distance, found from slices that scatter."""

import math

import pytest
import torch

from infield.priors.cm21.slice_statistics import FLOOR, fit_slice_statistics


def history(theta, s):
    """A transition whose place depends on both parameters, and a spread that is large there and 0 before it."""
    place = 0.3 + 0.3 * theta[:, :1] + 0.1 * theta[:, 1:] ** 2
    step = torch.sigmoid((s - place) / 0.05)
    return 2 * step - 1, 2 * step * (1 - step) + 0.5 * step


def slices(cones, depth, seed, scatter=0.02):
    generator = torch.Generator().manual_seed(seed)
    theta = torch.rand(cones, 2, generator=generator)
    s = torch.linspace(0, 1, depth)
    mean, spread = history(theta, s)
    seen = mean + scatter * torch.randn(mean.shape, generator=generator)
    return theta, s, mean[:, None], spread[:, None], seen[:, None]


@pytest.mark.slow
def test_both_are_found_between_the_parameters_of_training():
    theta, s, _, spread, seen = slices(200, 64, 0)
    model = fit_slice_statistics(seen, spread**2, theta, s, seed=0, steps=1000, batch=1024)
    elsewhere, s, mean, spread, _ = slices(50, 64, 1)
    mu, sigma = model(elsewhere, s.expand(50, -1))
    assert (
        mu - mean
    ).square().mean().sqrt() < 0.03  # near the scatter of one slice; the mean itself has a spread of 0.9
    wide = spread > 4 * FLOOR
    assert (sigma / spread - 1)[wide].square().mean().sqrt() < 0.12
    assert (sigma >= FLOOR).all() and (sigma[spread < FLOOR / 4] < 1.5 * FLOOR).all()
    # A control: with the parameters of other cones it is another history.
    mu, _ = model(elsewhere.flip(0), s.expand(50, -1))
    assert (mu - mean).square().mean().sqrt() > 0.2


def test_the_same_seed_gives_the_same_bits():
    theta, s, _, spread, seen = slices(20, 16, 0)
    first, again, other = (
        fit_slice_statistics(seen, spread**2, theta, s, seed=seed, steps=20, batch=64) for seed in (0, 0, 1)
    )
    assert torch.equal(first.layers[0].weight, again.layers[0].weight)
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)


def test_without_parameters_it_is_the_average_history():
    theta, s, _, spread, seen = slices(200, 32, 0)
    model = fit_slice_statistics(seen, spread**2, theta[:, :0], s, seed=0, steps=600, batch=1024)
    mu, sigma = model(theta[:1, :0], s[None])
    assert (mu[0, 0] - seen.mean((0, 1))).abs().max() < 0.1
    total = (spread.square() + seen.square()).mean((0, 1)) - seen.mean((0, 1)).square()  # slices differ, too
    assert (sigma[0, 0] / total.sqrt().clamp_min(FLOOR) - 1).square().mean().sqrt() < 0.1 and math.isfinite(
        float(sigma.sum())
    )
