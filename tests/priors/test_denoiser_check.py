"""Denoisers that are denoisers pass, and those with a planted circulation are found, in every case."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from torch import Generator

from infield.core.grid import Grid
from infield.pipelines.bench.steps_denoisers import Circulating
from infield.priors.base import denoise, flow
from infield.priors.denoiser_check import KEY, DenoiserCheck, check_denoiser, warn_of_denoiser
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior

RING = Grid.regular((24,), 1.0, periodic=True)
BAD = {"asymmetry": 1.9, "field_asymmetry": 1.0, "negative": 0.0}


def gaussian(length: float, level: float = 0.0) -> GaussianPrior:
    prior = gaussian_prior(Matern(1.5, length), RING, source=Matern(0.5, 0.1))
    return replace(prior, mean=torch.full((1, 24), level, dtype=torch.float64))


@pytest.fixture(scope="module")
def mixture() -> MixturePrior:
    return MixturePrior((gaussian(0.05, -1.0), gaussian(0.4, 1.0)), torch.tensor([0.5, 0.5]))


def test_closed_forms_are_symmetric_and_positive(mixture):
    for prior in (gaussian(0.2), mixture):
        found = check_denoiser(prior)
        assert found.passed and found.asymmetry < 1e-6 and found.field_asymmetry < 1e-6 and found.negative == 0


def test_a_circulation_is_found_in_every_case_though_draws_of_the_prior_are_right(mixture):
    for case in range(20):
        assert not check_denoiser(Circulating((gaussian(0.2), mixture)[case % 2], seed=case), seed=case).passed
    prior = gaussian(0.2)
    x = flow(Circulating(prior), prior.source.sample(4000, Generator().manual_seed(0)), 60)
    spread = prior.source.modes.analyse(x).var(0) / prior.covariance.diagonal
    assert float((spread - 1).abs().max()) < 0.15  # 4.5 standard errors, and the error of the steps
    x = prior.source.sample(2, Generator().manual_seed(1))
    assert float((denoise(Circulating(prior), x, 0.3) - denoise(prior, x, 0.3)).norm() / x.norm()) > 0.3


def test_a_stored_failure_is_warned_of_in_one_line_and_nothing_else_is():
    with pytest.warns(UserWarning, match="prior 'p': its denoiser is that of no distribution, asymmetry 1.90"):
        warn_of_denoiser("p", {KEY: BAD})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_denoiser("p", {})
        warn_of_denoiser("p", {KEY: DenoiserCheck(0.4, 0.2, 0.0).to_json()})
