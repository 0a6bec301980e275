"""Counts of projections without a link are warned of under a Gaussian prior, and nothing else is."""

from __future__ import annotations

import torch

from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.pet.bench.cases import image_grid, rate_prior
from infield.pipelines.pet.caution import counts_without_link

PROJECTION = {"name": "projection", "parameters": {"angles": 4, "bins": 6, "bin_width": 40.0, "randoms": 1.0}}


def measured(description, noise):
    operator = build_operator(description, {}, image_grid(6), 1)
    y = torch.ones((1, *operator.data_shape), dtype=torch.float64)
    return Measurement(y=y, operator=operator, noise=noise, grid=image_grid(6))


def test_a_link_is_named_where_it_lacks():
    counts, prior = PoissonNoise(1.0), rate_prior(6)
    assert '{"name": "exp"}' in counts_without_link(measured(PROJECTION, counts), prior)
    linked = {"name": "compose", "operators": [PROJECTION, {"name": "exp"}]}
    assert counts_without_link(measured(linked, counts), prior) is None
    gaussian = GaussianNoise(torch.tensor(1.0, dtype=torch.float64))
    assert counts_without_link(measured(PROJECTION, gaussian), prior) is None
    assert counts_without_link(measured(PROJECTION, counts), object()) is None
