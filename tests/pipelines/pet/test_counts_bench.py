"""`infield bench pet`: baselines increase the likelihood, peers have the same law and matrix."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from infield.core.errors import InfieldError
from infield.pipelines.cli import main
from infield.pipelines.pet.bench import run
from infield.pipelines.pet.bench.baselines import filtered, map_em, mlem, osem
from infield.pipelines.pet.bench.cases import draw_case, rate_prior
from infield.pipelines.pet.bench.chain import dense_matrix, matern_covariance, reference
from infield.pipelines.pet.bench.nifty import mirrored_crps, torus_spectrum
from infield.posterior.diagnostics.calibration import crps

CASE = draw_case(12, 8, 3000, 0)


def log_likelihood(rate):
    return float(CASE.measurement.log_likelihood(rate.clamp_min(1e-9).log()[None, None]))


def test_expectation_maximisation_climbs_to_one_maximum():
    values = [log_likelihood(mlem(CASE, n)) for n in (1, 4, 16, 64)]
    assert values == sorted(values)
    assert log_likelihood(osem(CASE, 8, 4)) > values[1]
    light, heavy = map_em(CASE, 1e-7, 64), map_em(CASE, 100.0, 64)
    assert abs(log_likelihood(light) - values[3]) < 1
    assert heavy.std() < 0.1 * light.std() and abs(float(heavy.mean() / CASE.rate.mean()) - 1) < 0.3


def test_map_em_is_where_its_objective_is_stationary():
    weight, A = 0.05, CASE.emission
    x = map_em(CASE, weight, 2000)[None, None].requires_grad_()
    beta = weight * A.A_adjoint(torch.ones_like(CASE.counts)).mean()
    mean = A.A(x) + CASE.background
    penalty = sum(x.diff(dim=d).square().sum() for d in (-1, -2)) / 2
    value = (CASE.counts * mean.log() - mean).sum() - beta * penalty
    (gradient,) = torch.autograd.grad(value, x)
    assert (gradient * x).abs().max() < 1e-3 * beta  # where x is 0 the gradient may be below


def test_all_methods_see_the_same_matrix_and_law():
    u = torch.randn((1, 1, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean = dense_matrix(CASE) @ np.exp(u.numpy().ravel()) + CASE.background.numpy().ravel()
    np.testing.assert_allclose(mean, CASE.measurement.operator.A(u).numpy().ravel(), rtol=1e-10)
    K = matern_covariance(12)
    impulse = torch.zeros((1, 144), dtype=torch.float64)
    impulse[0, 40] = 1
    ours = rate_prior(12).covariance.apply(impulse.reshape(1, 1, 12, 12)).flatten().numpy()
    np.testing.assert_allclose(ours, K[40], atol=1e-9)
    row = np.fft.ifft2(torus_spectrum(12)).real[:12, :12]
    np.testing.assert_allclose(row, K[0].reshape(12, 12), atol=1e-6)


def test_the_reference_keeps_to_its_posterior():
    """Its mean is where the log-posterior has no slope on average: Stein's identity E[grad log pi] = 0."""
    draws = reference(CASE, chains=64, steps=60)
    A, b, y = dense_matrix(CASE), CASE.background.numpy().ravel(), CASE.counts.numpy().ravel()

    def z_scores(u):
        rate = np.exp(u)
        slopes = rate * ((y / (rate @ A.T + b) - 1) @ A) - np.linalg.solve(matern_covariance(12), u.T).T
        return slopes.mean(0) / (slopes.std(0) / 8)

    assert z_scores(draws).std() < 1.5 and abs(z_scores(draws)).max() < 5
    assert z_scores(draws + 0.3).std() > 1.5 or abs(z_scores(draws + 0.3)).max() > 5


def test_a_filter_keeps_the_mean_and_thinning_the_expectation():
    assert float(filtered(CASE.rate, 8.0, 4.0).std()) < float(CASE.rate.std())
    thin = CASE.thinned(0.1, torch.Generator().manual_seed(0))
    assert abs(float(thin.counts.sum()) / 300 - 1) < 0.2 and (thin.counts <= CASE.counts).all()
    x = CASE.rate[None, None]
    torch.testing.assert_close(thin.emission.A(x), 0.1 * CASE.emission.A(x))


def test_mirrored_draws_are_scored_as_independent_ones():
    """The score of N(0, 1) is 1 / sqrt pi; with a draw's own mirror image among its pairs it is too low."""
    generator = torch.Generator().manual_seed(0)
    truth, half = (torch.randn(n, 30_000, generator=generator, dtype=torch.float64) for n in (1, 8))
    draws = torch.cat([half, -half])
    assert abs(mirrored_crps(draws, truth[0]) * torch.pi**0.5 - 1) < 0.015
    assert crps(draws, truth[0]) * torch.pi**0.5 < 0.98  # the negative control


def test_a_stopped_run_resumes_behind_its_last_case(tmp_path, monkeypatch, capsys):
    called = []

    def case(bench, name, case, *, reference_too):
        called.append(name)
        if len(called) == 2:
            raise KeyboardInterrupt
        for method in ("mlem best", "osem 2 x 10, 6 mm", "faps", "nifty-mgvi", "chain"):
            for metric in ("rmse", "crps", "coverage_90"):
                bench.add(name, method, metric, 0.9)

    monkeypatch.setattr(run, "_one", case)
    monkeypatch.setattr(run, "draw_case", lambda *_: CASE)
    options = {"quick": True, "parts": ["chain"], "truths": 2, "keep": [tmp_path / "kept.json"]}
    with pytest.raises(KeyboardInterrupt):
        run.run(**options)
    bench = run.run(**options)
    first, second = (f"chain: 20,000 counts #{n}" for n in (0, 1))
    assert called == [first, second, second] and {r.case for r in bench.records if r.target is None} >= {first, second}
    assert sum(r.metric == "rmse" for r in bench.records) == 10
    bench.print(note="a note")
    printed = capsys.readouterr().out
    assert "2 truths" in printed and "crps over that of the chain" in printed and "a note" in printed
    with pytest.raises(InfieldError, match="pet, seed 0, expected pet, seed 1"):
        run.run(**options, seed=1)


def test_the_projector_part_meets_what_was_asked_for(tmp_path):
    records = tmp_path / "r.json"
    assert main(["bench", "pet", "--parts", "projector", "--quick", "--quiet", "--records", str(records)]) == 0
    judged = [r for r in json.loads(records.read_text())["records"] if "target" in r and r["metric"] != "speed"]
    assert len(judged) == 4 and all(r["met"] for r in judged)
