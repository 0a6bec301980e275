"""Checks without a truth: right files pass, wrong noise and priors are found, and the split is what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator

from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.noise.poisson import PoissonGaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.calibration.checked import Checked
from infield.posterior.calibration.evidence import evidence_test
from infield.posterior.calibration.predictive import predict_split, predictive_test
from infield.posterior.calibration.splitting import split_data
from infield.posterior.calibration.truths import draw_from_prior, with_data_of
from infield.posterior.samplers.exact import Exact
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

GRID = Grid.regular((12, 12))


@pytest.fixture(scope="module")
def priors():
    return {length: gaussian_prior(Matern(nu=1.5, length=length), GRID) for length in (0.3, 0.6)}


def measurement(prior, seed, *, noise=1.0):
    """Of three quarters of the points, with noise so many times the stated."""
    mask = (torch.rand((12, 12), generator=Generator().manual_seed(0)) < 0.75).numpy()
    operator = build_operator({"name": "mask", "arrays": {"mask": "mask"}}, {"mask": mask}, GRID, 1)
    generator, zero = Generator().manual_seed(seed), torch.zeros((1, 1, 12, 12), dtype=torch.float64)
    stated = GaussianNoise(torch.tensor(0.05, dtype=torch.float64))
    real = Measurement(y=zero, operator=operator, noise=GaussianNoise(stated.variance * noise**2), grid=GRID)
    return replace(with_data_of(real, draw_from_prior(prior, 1, generator), generator), noise=stated)


def check(prior, of, seed, **fault):
    m, generator = measurement(of, seed, **fault), Generator().manual_seed(seed)
    split = split_data(m, generator)
    draws = Exact()(prior, split.training, 99, generator).samples
    return Checked(predict_split(split, draws, generator), evidence_test(prior, m), m.count)


def test_right_files_are_trusted_and_faulty_ones_are_not(priors):
    right = [check(priors[0.3], priors[0.3], seed) for seed in range(12)]
    assert sum(c.trusted == 1 for c in right) >= 11
    assert "it would have found" in right[0].because
    for fault in ({"prior": priors[0.6]}, {"noise": 1.8}):
        prior = fault.pop("prior", priors[0.3])
        found = [check(prior, priors[0.3], seed, **fault) for seed in range(8)]
        assert sum(c.trusted == 0 for c in found) >= 7
        assert found[0].to_json()["trusted"] == 0 and "do not fit" in found[0].because


def test_evidence_names_the_fault(priors):
    noisy = evidence_test(priors[0.3], measurement(priors[0.3], 0, noise=2.5))
    assert noisy.p < 1e-6 and noisy.noise_factor == pytest.approx(2.5, rel=0.3) and "noise" in noisy.because
    p = [evidence_test(priors[0.3], measurement(priors[0.3], seed)).p for seed in range(60)]
    assert min(p) > 0.002 and sum(one <= 0.1 for one in p) <= 12


def test_evidence_is_that_of_the_closed_form(priors):
    m = measurement(priors[0.3], 0)
    where = m.observed[0].flatten()
    C = priors[0.3].covariance.apply(torch.eye(144, dtype=torch.float64).reshape(-1, 1, 12, 12)).reshape(144, 144)
    law = torch.distributions.MultivariateNormal(
        torch.zeros(int(where.sum()), dtype=torch.float64), C[where][:, where] + 0.05 * torch.eye(int(where.sum()))
    )
    expected = float(law.log_prob(m.y[0, 0].flatten()[where]))
    assert evidence_test(priors[0.3], m).log_evidence == pytest.approx(expected)


def test_predictions_of_other_draws_do_not_pass_for_right(priors):
    m, generator = measurement(priors[0.3], 3), Generator().manual_seed(0)
    split = split_data(m, generator)
    draws = Exact()(priors[0.3], split.training, 99, generator).samples
    assert predict_split(split, draws, generator).p > 0.01
    assert predict_split(split, draws + 0.5, generator).p == 0.01
    z = m.operator.A(draws)
    same = predictive_test(m, split.noisy(z[:1], generator)[0], z, split.noisy, split.held_out, split.tested, generator)
    assert same.p > 0.01 and same.noise_factor <= 2


@pytest.mark.parametrize("kind", ["gaussian", "counts"])
def test_the_parts_of_split_data_are_independent_given_the_field(priors, kind):
    n, generator = 400, Generator().manual_seed(0)
    m = measurement(priors[0.3], 0)
    if kind == "counts":
        m = replace(m, y=m.y.abs(), noise=PoissonNoise(0.5))
    z = torch.full_like(m.y, 4.0)
    pairs = []
    for _ in range(n):
        y = torch.where(m.observed, m.noise.sample(z, generator), 0.0)
        split = split_data(replace(m, y=y), Generator().manual_seed(1 + _))
        kept = split.training.observed
        pairs.append(torch.stack([split.training.y[0][kept].mean(), split.test[kept].mean()]))
    first, second = torch.stack(pairs).T
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 4 / n**0.5
    for part in (first, second):
        assert float(part.mean()) == pytest.approx(4, abs=4 * float(part.std()) / n**0.5)
        variance = float(part.var()) * int(kept.sum())
        assert variance == pytest.approx(2 * (0.05 if kind == "gaussian" else 0.5 * 4), rel=0.35)
    assert not (split.held_out & split.training.observed).any()
    assert torch.equal(split.held_out | split.training.observed, m.observed)
    assert torch.equal(split.test[split.held_out], y[0][split.held_out])


def test_other_noise_is_held_out_alone(priors):
    m = measurement(priors[0.3], 0)
    m = replace(m, y=m.y.abs(), noise=PoissonGaussianNoise(0.1, torch.tensor(0.1)))
    split = split_data(m, Generator().manual_seed(0))
    assert split.fission is None and torch.equal(split.tested, split.held_out)
    assert split.training.noise is m.noise
    assert not split.test[~split.held_out].any()
