"""The evidence of many data beside the determinant of their matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.inference.log_determinant import estimated_log_evidence, log_determinant
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior


def test_log_determinant_within_its_error():
    g = torch.Generator().manual_seed(0)
    A = torch.randn(80, 40, generator=g).double()
    M = torch.eye(80, dtype=torch.float64) + A @ A.mT
    value, error = log_determinant(lambda v: v @ M, 80, probes=64, steps=80)
    exact = float(torch.logdet(M))
    assert abs(value - exact) < 4 * error and error < 0.05 * exact
    diagonal = torch.linspace(1, 9, 30, dtype=torch.float64)  # of a diagonal one, any signs give the trace of log M
    value, error = log_determinant(lambda v: v * diagonal, 30)
    assert value == pytest.approx(float(diagonal.log().sum()), abs=1e-8) and error < 1e-8


def test_evidence_within_its_error_and_of_another_prior_far_from_it():
    grid = Grid.regular((16, 16), periodic=True)
    prior = gaussian_prior(Matern(1.5, 0.2), grid)
    mask = np.random.default_rng(0).random((16, 16)) < 0.7
    description = {"name": "mask", "arrays": {"mask": "mask"}}
    operator = build_operator(description, {"mask": mask}, grid, 1)
    g = torch.Generator().manual_seed(1)
    noise = GaussianNoise(0.04)
    y = noise.sample(operator.A(prior.covariance.sample(1, g)), g)
    data = LinearGaussianData(Measurement(y, operator=operator, noise=noise, grid=grid), prior.covariance.modes, 1e-4)
    value, error = estimated_log_evidence(data, prior.mean, prior.covariance)
    assert abs(value - float(data.log_evidence(prior.mean, prior.covariance))) < 4 * error
    other = gaussian_prior(Matern(1.5, 0.02), grid)
    worse, _ = estimated_log_evidence(data, other.mean, other.covariance)
    assert worse < value - 10 * error
