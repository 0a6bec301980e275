"""The toy of one-step posteriors through its command, and the figures that judge them, on draws that are known."""

import json

import pytest
import torch
from torch import Generator

from infield.pipelines.bench.records import Bench
from infield.pipelines.mri.bench import one_step
from infield.posterior.samplers.exact import Exact


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bench(tmp_path, infield):
    said = infield("bench", "one-step", "--quick", "--records", tmp_path / "bench.json")
    assert said.status == 0
    records = json.loads((tmp_path / "bench.json").read_text())["records"]
    methods = {r["method"] for r in records}
    toy = {method for method in methods if ":" not in method}
    assert toy == {"exact", "snap", "smc", "faps-flow", "(untrained)", "(half the noise)"}
    fields = {method.partition(": ")[2] for method in methods - toy}
    assert fields == {"snap", "null-flow", "(its source)", "pseudo-inverse", "dps"}
    exact = {r["value"] for r in records if r["method"].endswith("null-flow") and r["metric"] == "misfit"}
    assert len(exact) and max(exact) < 1e-5
    evaluations = {r["value"] for r in records if r["method"].endswith(": snap") and r["metric"] == "evaluations"}
    assert evaluations == {1.0}
    calls = {r["value"] for r in records if r["method"] == "snap" and r["metric"] == "velocity_calls"}
    assert calls == {1.0}
    told = [r for r in records if r["metric"] == "calibration_ratio"]
    assert {r["method"] for r in told} == {"exact", "snap", "(untrained)", "(half the noise)"}


def test_calibration_ratio_of_exact_draws_and_of_draws_that_are_too_sure():
    bench = Bench("one-step", 0)
    one_step._add_calibration(bench, "exact", Exact(), one_step.mixture(), 600, one_step.NOISE, seed=3)

    class OneDraw(Exact):
        """The same draw n times."""

        def draw(self, prior, measurement, n, generator):
            draws = super().draw(prior, measurement, n, generator)
            return type(draws)(draws.fields[:1].expand_as(draws.fields))

    one_step._add_calibration(bench, "one", OneDraw(), one_step.mixture(), 100, one_step.NOISE, seed=3)
    assert abs(bench.median("exact", "calibration_ratio") - 1) < 0.12
    assert bench.median("exact", "sbc_p_value") > 0.01
    assert bench.median("one", "calibration_ratio") < 1e-9


def test_the_law_and_its_closed_form_agree():
    x = one_step.draw(20000, Generator().manual_seed(0))[:, 0]
    covariance = x.T @ x / len(x)
    assert abs(float(covariance[0, 0]) / one_step.scale() ** 2 - 1) < 0.02 and abs(float(covariance[0, 1])) < 0.2
    identity = torch.eye(2, dtype=torch.float64)[:, None]
    assert torch.allclose(one_step.mixture().covariance.apply(identity), identity, atol=1e-9)
