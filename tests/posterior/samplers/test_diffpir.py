"""DiffPIR: at one level the most probable field, without data the flow itself, and the gamut of projectors."""

from __future__ import annotations

import pytest
import torch

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.samplers.diffpir import DiffPIR
from infield.priors.gaussian.kernels import Matern, White
from infield.priors.gaussian.prior import gaussian_prior

GRID = Grid.regular((12,))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def measurement(variance):
    mask = torch.zeros(1, 12, dtype=torch.float64)
    mask[0, [1, 4, 9]] = 1
    description = {"name": "mask", "arrays": {"mask": "seen"}}
    arrays = {"seen": mask[0].numpy()}
    y = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    operator = build_operator(description, arrays, GRID, 1)
    data = torch.zeros(1, *operator.data_shape, dtype=torch.float64)
    data[0, 0, [1, 4, 9]] = y
    return Measurement(y=data, operator=operator, noise=GaussianNoise(variance), grid=GRID, channels=("u",),
                       observed=operator.observed, description=description, arrays=arrays), y  # fmt: skip


def test_one_level_gives_the_posterior_mean_of_a_gaussian():
    """Against dense linear algebra; control: half the anchor gives another field."""
    prior = gaussian_prior(Matern(1.5, 0.3), GRID)
    m, y = measurement(0.1)
    C = prior.covariance.apply(torch.eye(12, dtype=torch.float64)[:, None])[:, 0]
    rows = C[[1, 4, 9]]
    expected = rows.mT @ torch.linalg.solve(rows[:, [1, 4, 9]] + 0.1 * torch.eye(3, dtype=torch.float64), y)
    found = DiffPIR(levels=1, steps_of_cg=20)(prior, m, 2, rng()).samples
    torch.testing.assert_close(found[:, 0], expected.expand(2, 12), rtol=0, atol=1e-6)
    other = DiffPIR(levels=1, steps_of_cg=20, anchor=0.5)(prior, m, 1, rng()).samples
    assert (other[0, 0] - expected).abs().max() > 1e-3


def test_without_data_it_follows_the_flow():
    """Variances of the prior, by chi-square's scatter; control: with data that are exact they vanish there."""
    prior = gaussian_prior(Matern(1.5, 0.3), GRID, source=White())
    m, _ = measurement(1e12)
    x = DiffPIR(levels=60)(prior, m, 600, rng(1)).samples[:, 0]
    expected = float(prior.covariance.apply(torch.eye(12, dtype=torch.float64)[:, None])[0, 0, 0])
    assert abs(float(x.square().mean()) / expected - 1) < 0.1
    m, y = measurement(1e-8)
    x = DiffPIR(levels=20)(prior, m, 50, rng(2)).samples[:, 0]
    assert (x[:, [1, 4, 9]] - y).abs().max() < 0.02 and x[:, [0, 6, 11]].std(0).min() > 0.05


def test_what_is_refused():
    for wrong in ({"levels": 0}, {"anchor": 0.0}, {"zeta": 1.5}):
        with pytest.raises(InfieldError, match="sampler diffpir"):
            DiffPIR(**wrong)
    assert "no draws of the posterior" in DiffPIR.caveat
