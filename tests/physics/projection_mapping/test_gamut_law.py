"""Pictures that projectors can show: law and operator beside differences, and posteriors beside rejection sampling."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.operators.registry import build_operator
from infield.physics.projection_mapping.gamut_law import GamutNoise
from infield.posterior.diagnostics.calibration import sliced_wasserstein
from infield.posterior.inference.likelihood import information
from infield.posterior.samplers.twisted_smc import TwistedSMC
from infield.priors.gaussian.kernels import White
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import gaussian_prior
from infield.testing import check_operator

DRAWS = 400


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def law(pixels, tolerance=0.02, seed=0):
    """Two projectors with mixed primaries; each pixel of its own."""
    mixing = 0.12 * torch.eye(3, dtype=torch.float64) + 0.03 * torch.rand(2, 3, 3, generator=rng(seed)).double()
    brightness = 0.5 + torch.rand(2, 1, 1, *pixels, generator=rng(seed + 1)).double()
    return GamutNoise(mixing[..., None, None] * brightness, torch.full((3, *pixels), 0.02).double(), tolerance)


def measurement(pixels=(1, 1), tolerance=0.02):
    grid = Grid.regular(pixels)
    description = {"name": "display", "parameters": {"exposure": 0.6}}
    zeros = torch.zeros(1, 3, *pixels, dtype=torch.float64)
    return Measurement(
        y=zeros, operator=build_operator(description, {}, grid, 3), noise=law(pixels, tolerance), grid=grid,
        channels=("red", "green", "blue"), description=description,
    )  # fmt: skip


def mixture(grid):
    parts = []
    for mean in ([1.0, -0.5, -1.0], [-1.0, 0.5, 1.2]):
        part = gaussian_prior(White(), grid, channels=3, source=White()).in_units(0.5, 0.2)
        parts.append(replace(part, mean=torch.tensor(mean).double()[:, None, None] + 0 * part.mean))
    return MixturePrior(tuple(parts), torch.tensor([0.4, 0.6], dtype=torch.float64))


def by_rejection(prior, m, n, seed):
    """Exact draws: draws of the prior, each kept with probability exp(-sum d^2 / 2 s^2)."""
    kept, g = [], rng(seed)
    while sum(map(len, kept)) < n:
        x = draw_from(prior, 4 * n, g)
        keep = m.noise.log_prob(m.y, m.operator.A(x)).exp() > torch.rand(len(x), generator=g, dtype=torch.float64)
        kept.append(x[keep])
    return torch.cat(kept)[:n]


def draw_from(prior, n, g):
    chosen = torch.multinomial(prior.weights, n, replacement=True, generator=g)
    means = torch.stack([c.mean for c in prior.components])[chosen]
    return 0.5 + 0.2 * (means + torch.randn(means.shape, generator=g, dtype=torch.float64))


def test_the_display_operator():
    grid = Grid.regular((3, 4))
    matrix = [[1.2, -0.2, 0.0], [0.1, 0.9, 0.0], [0.0, 0.1, 0.8]]
    description = {"name": "display", "parameters": {"exposure": 0.6, "to_srgb": matrix}}
    operator = build_operator(description, {}, grid, 3)
    check_operator(operator, torch.rand(2, 3, 3, 4, generator=rng(), dtype=torch.float64), description=description)
    white = operator.A(torch.ones(1, 3, 3, 4, dtype=torch.float64))[0, :, 0, 0]
    torch.testing.assert_close(torch.tensor(matrix).double() @ white, torch.full((3,), 0.6).double())
    for wrong in ({"exposure": 0}, {"to_srgb": [[1, 0, 0]]}):
        with pytest.raises(InfieldError, match="display"):
            build_operator({"name": "display", "parameters": wrong}, {}, grid, 3)


def test_gradient_and_curvature_beside_differences():
    noise, y = law((2, 3)), torch.zeros(3, 2, 3, dtype=torch.float64)
    z = 0.4 * torch.rand(1, 3, 2, 3, generator=rng(4), dtype=torch.float64)
    step, v = 1e-4, torch.randn(1, 3, 2, 3, generator=rng(5), dtype=torch.float64)
    slope = (noise.log_prob(y, z + step * v) - noise.log_prob(y, z - step * v)) / (2 * step)
    expected = (noise.gradient(y, z) * v).sum()
    assert abs(float(slope - expected)) < 1e-2 * abs(float(expected))
    change = -(noise.gradient(y, z + step * v) - noise.gradient(y, z - step * v)) / (2 * step)
    m = measurement((2, 3))
    found = information(m, z, v)
    assert (change - found).norm() < 0.02 * change.norm()
    diagonal = information(m, z, torch.ones_like(v)) * v  # what a law of independent data would say
    assert (change - diagonal).norm() > 0.1 * change.norm()
    assert noise.chi_square(y, z).min() > 0 and noise.log_prob(y, noise.background[None]) == 0


def test_what_is_refused():
    noise = law((1, 2))
    with pytest.raises(InfieldError, match="data beside a gamut"):
        noise.check(torch.ones(3, 1, 2))
    with pytest.raises(InfieldError, match="no noise"):
        noise.sample(torch.zeros(1, 3, 1, 2), rng())
    with pytest.raises(InfieldError, match="expected \\(projector"):
        GamutNoise(torch.zeros(2, 3, 1, 2), torch.zeros(3, 1, 2), 0.1)
    mixing, background = map(torch.from_numpy, noise.arrays().values())
    again = GamutNoise(mixing, background, 0.02)
    z = torch.rand(2, 3, 1, 2, generator=rng(), dtype=torch.float64)
    assert torch.equal(again.log_prob(noise.background, z), noise.log_prob(noise.background, z))


@pytest.mark.parametrize(("pixels", "steps"), [((1, 1), 40), pytest.param((2, 2), 100, marks=pytest.mark.slow)])
def test_smc_draws_from_the_posterior(pixels, steps):
    """Beside rejection: sliced Wasserstein distance over its floor; controls: draws of the prior."""
    m = measurement(pixels)
    prior = mixture(m.grid)
    exact, other = (by_rejection(prior, m, DRAWS, seed) for seed in (1, 2))
    floor = sliced_wasserstein(exact, other, rng(9))
    smc = TwistedSMC(steps=steps, particles=2)(prior, m, DRAWS, rng(3)).samples
    away = sliced_wasserstein(smc, exact, rng(9)) / floor
    control = sliced_wasserstein(draw_from(prior, DRAWS, rng(5)), exact, rng(9)) / floor
    assert away < 2 and control > 2 * away
