"""Inference of parameters where the posterior is known exactly, and a calibration that sees a posterior too sure."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from infield import InfieldError
from infield.posterior.models.parameter_inference import ParameterBox, ParameterCalibration, fit_posterior

N, TRAIN = 40, 700
BOX = ParameterBox(("mu", "sigma"), torch.tensor([-1.0, 0.5]).double(), torch.tensor([1.0, 2.0]).double())


def simulate(parameters, generator):
    """Mean and log variance of N independent normal values: sufficient for their mean and standard deviation."""
    mu, sigma = parameters.T
    values = mu[:, None] + sigma[:, None] * torch.randn((len(mu), N), generator=generator, dtype=torch.float64)
    return torch.stack([1.5 * values.mean(1), values.var(1).log()], 1)


def quadrature(summary):
    """Places of a grid in the box, `(places, 2)`, and the posterior's weight of each."""
    mu, sigma = torch.meshgrid(
        BOX.of_unit((torch.arange(200).double()[:, None] + 0.5) / 200)[:, 0],
        BOX.of_unit((torch.arange(201).double()[:, None] + 0.5) / 201)[:, 1],
        indexing="ij",
    )
    mean, variance = summary[0] / 1.5, summary[1].exp()
    likelihood = -N * sigma.log() - ((N - 1) * variance + N * (mean - mu) ** 2) / (2 * sigma**2)
    return torch.stack([mu.flatten(), sigma.flatten()], 1), likelihood.flatten().softmax(0)


@pytest.fixture(scope="module")
def cases():
    """Parameters and summaries of simulations."""
    generator = torch.Generator().manual_seed(3)
    parameters = BOX.of_unit(torch.rand((TRAIN + 200, 2), generator=generator, dtype=torch.float64))
    return parameters, simulate(parameters, generator)


@pytest.fixture(scope="module")
def exact(cases):
    """Draws of the exact posterior for the simulations that are held out, with their means and deviations."""
    generator, draws, moments = torch.Generator().manual_seed(4), [], []
    for summary in cases[1][TRAIN:]:
        places, weight = quadrature(summary)
        draws.append(places[torch.multinomial(weight, 300, replacement=True, generator=generator)])
        mean = weight @ places
        moments.append(torch.stack([mean, (weight @ (places - mean) ** 2).sqrt()]))
    return torch.stack(draws), *torch.stack(moments, 1)


def judged(draws, truth):
    return ParameterCalibration.of(draws, truth, BOX, torch.Generator().manual_seed(0))


def test_the_calibration_lets_the_exact_posterior_pass_and_no_wrong_one(cases, exact):
    truth, (draws, _, deviations) = cases[0][TRAIN:], exact
    right = judged(draws, truth)
    assert not right.is_miscalibrated and (right.coverage_90 - 0.9).abs().max() < 3.5 * (0.09 / 200) ** 0.5
    assert (right.rms_z - 1).abs().max() < 0.2 and (right.contraction > 0.8).all()
    middle = draws.mean(1, keepdim=True)
    sure = judged(middle + 0.6 * (draws - middle), truth)
    assert sure.is_miscalibrated and sure.coverage_90.max() < 0.8 and sure.rms_z.min() > 1.4
    shifted = judged(draws + 0.5 * deviations[:, None] * torch.tensor([1.0, 0.0]), truth)
    assert shifted.is_miscalibrated and shifted.p_values[0] < 1e-4 < shifted.p_values[1]
    nothing = judged(BOX.of_unit(torch.rand(draws.shape, generator=torch.Generator().manual_seed(1))), truth)
    assert (
        not nothing.is_miscalibrated and nothing.contraction.abs().max() < 0.05
    )  # the prior is calibrated, and knows nothing


def test_what_is_learned_is_near_the_exact_posterior(cases, exact):
    pytest.importorskip("sbi", reason="the extra infield[sbi] is not installed")
    (parameters, summaries), (_, means, deviations) = cases, exact
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    posterior = fit_posterior(parameters[:TRAIN], summaries[:TRAIN], BOX, 0, networks=2)
    draws = posterior.draw(summaries[TRAIN:], 300, 1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert draws.shape == (200, 300, 2) and (BOX.unit(draws) >= 0).all() and (BOX.unit(draws) <= 1).all()
    found = judged(draws, parameters[TRAIN:])
    assert not found.is_miscalibrated and (found.contraction > 0.8).all()
    shift = ((draws.mean(1) - means) / deviations).square().mean(0).sqrt()
    ratio = (draws.std(1) / deviations).mean(0)
    assert shift.max() < 0.45, shift
    assert (ratio > 0.85).all() and (ratio < 1.35).all(), ratio
    assert torch.equal(posterior.draw(summaries[TRAIN:], 300, 1), draws)
    assert not torch.equal(posterior.draw(summaries[TRAIN:], 300, 2), draws)
    far = posterior.draw(torch.tensor([[10.0, -10.0]]), 10, 0)  # nowhere near a simulation: still in the box
    assert torch.isfinite(far).all() and (BOX.unit(far) >= 0).all() and (BOX.unit(far) <= 1).all()


def test_the_same_seed_learns_the_same(cases, monkeypatch):
    pytest.importorskip("sbi", reason="the extra infield[sbi] is not installed")
    monkeypatch.setattr("infield.posterior.models.parameter_inference.TRAINING", {"max_num_epochs": 1})
    parameters, summaries = cases[0][:60], cases[1][:60]
    one, two, other = (
        fit_posterior(parameters, summaries, BOX, seed, networks=2).draw(summaries[:3], 9, 0) for seed in (5, 5, 6)
    )
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_a_missing_extra_is_said(monkeypatch, cases):
    find = importlib.util.find_spec
    absent = "sbi"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == absent else find(name, *more))
    with pytest.raises(InfieldError, match=r"pip install 'infield\[sbi\]'"):
        fit_posterior(*cases, BOX, 0)
