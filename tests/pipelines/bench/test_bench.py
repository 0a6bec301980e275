"""The benches through their command: one table, flat records with one vocabulary, and figures that can be wrong."""

import json
import math
import statistics

import pytest
import torch

from infield.core import registry
from infield.pipelines.bench import gp_regression, learned_regression
from infield.pipelines.bench.records import Bench
from infield.priors.storage.checkpoint import load_flow_prior

OURS = {"exact", "faps-published", "faps-flow", "faps-flow-1-level"}
METHODS = OURS | {"deepinv-moment-matching", "deepinv-dps", "azula-mmps"}
METRICS = {
    "sw2_ratio_to_exact",
    "mean_error_in_posterior_sd",
    "std_ratio",
    "coverage_90",
    "crps",
    "velocity_calls",
    "seconds",
}


def document(path) -> dict:
    """The file of a bench, its shape checked."""
    found = json.loads(path.read_text())
    assert set(found) == {"title", "command", "date", "bench", "seed", "threads", "versions", "records"}
    assert {"infield", "torch", "deepinv"} <= set(found["versions"]) and found["threads"] == 1
    for record in found["records"]:
        assert list(record) == ["bench", "case", "method", "metric", "value", "unit"]
        assert record["bench"] == found["bench"] and isinstance(record["unit"], str)
        assert isinstance(record["value"], str) == (record["metric"] == "absent")
        assert isinstance(record["value"], str) or math.isfinite(record["value"])
    return found


def figure(found: dict, method: str, metric: str) -> float:
    """Median over the cases."""
    values = [r["value"] for r in found["records"] if (r["method"], r["metric"]) == (method, metric)]
    assert values, f"no {metric} of {method}"
    return statistics.median(values)


@pytest.fixture(scope="module")
def first_case():
    """Only the first case of the bench, as if the strongest peer were not installed."""
    original = gp_regression._run_case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            gp_regression, "_run_case", lambda bench, case, *rest: case == "0" and original(bench, case, *rest)
        )
        patch.setattr(gp_regression, "find_spec", lambda name: None)
        yield


@pytest.mark.slow
def test_gp_regression(tmp_path, infield, first_case):
    """Ours beside FAPS as published and deepinv's samplers. DPS and the published law are the negative controls: by the
    same figures they are wrong."""
    said = infield("bench", "gp-regression", "--quick", "--seed", 1, "--records", tmp_path / "gp.json")
    assert said.status == 0, said.err
    found = document(tmp_path / "gp.json")
    assert found["bench"] == "gp-regression" and found["seed"] == 1
    assert {r["method"] for r in found["records"]} == METHODS
    assert {r["metric"] for r in found["records"]} == METRICS | {"absent"}
    for method in METHODS:
        assert method in said.out
    (absent,) = [r["value"] for r in found["records"] if r["metric"] == "absent"]
    assert absent.startswith("not installed") and "installed:" in said.out  # a row that says so
    for method in ("exact", "faps-flow"):
        assert figure(found, method, "sw2_ratio_to_exact") < 1.4
        assert 0.94 < figure(found, method, "std_ratio") < 1.06
        assert figure(found, method, "mean_error_in_posterior_sd") < 0.12
    assert figure(found, "faps-flow", "velocity_calls") <= 40
    assert figure(found, "faps-published", "velocity_calls") > 10 * figure(found, "faps-flow", "velocity_calls")
    assert figure(found, "faps-published", "sw2_ratio_to_exact") > 1.4
    assert figure(found, "deepinv-dps", "sw2_ratio_to_exact") > 1.4 and figure(found, "deepinv-dps", "std_ratio") > 1.06


@pytest.mark.slow
def test_gp_regression_under_a_learned_prior(tmp_path, infield):
    """Trained on 128 points, right on 512 too; by the same figures an untrained network is wrong."""
    said = infield("bench", "gp-regression", "--prior", "learned", "--quick", "-q", "--records", tmp_path / "l.json")
    assert said.status == 0 and said.out == "", said.err
    found = document(tmp_path / "l.json")
    for points in ("matern 128", "matern 512"):
        assert figure(found, f"{points}: faps-flow", "mean_error_in_posterior_sd") < 0.35  # 64 draws
        assert 0.8 < figure(found, f"{points}: faps-flow", "std_ratio") < 1.25
        assert figure(found, f"{points}: faps-flow", "velocity_calls") == 40
        assert figure(found, f"{points}: (untrained)", "std_ratio") > 1.5
    exact_velocity = figure(found, "matern 512: faps-flow-closed-form", "path_shift")
    assert figure(found, "matern 512: faps-flow", "path_shift") < exact_velocity
    assert figure(found, "matern 512: faps-flow", "two_sample_p_value") > 0.005


def test_two_sample_test():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 200, 1, 16, generator=g).double().unbind()
    assert learned_regression.two_sample_p_value(x, y, g) > 0.02
    assert learned_regression.two_sample_p_value(x, 1.3 * y, g) == 1 / 200


def test_a_prior_of_functions_is_trained_as_its_configuration_says(tmp_path):
    path = learned_regression.train("gibbs", tmp_path, steps=2)
    prior = load_flow_prior(path)
    assert prior.skip == "scalar" and prior.provenance["training"]["steps"] == 2
    assert prior.on(learned_regression.line(256)).covariance.event_shape == (1, 256)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mixture", "--prior", "learned"], "unrecognized arguments: --prior learned"),
        (["gp-regression", "--train"], "--prior learned"),
        (["gp-regression", "--prior", "learned", "--checkpoint", "p.ckpt"], "--checkpoint: found no --kernel"),
        (
            ["gp-regression", "--prior", "learned", "--kernel", "gibbs", "--checkpoint", "p.ckpt"],
            "p.ckpt: found no file",
        ),
        (
            ["gp-regression", "--prior", "learned", "--kernel", "gibbs", "--train", "--checkpoint", __file__],
            "a new file",
        ),
    ],
)
def test_options_that_mean_nothing_together(arguments, words, infield):
    infield("bench", *arguments).refused(words)


def test_calibration(tmp_path, infield):
    said = infield("bench", "calibration", "--quick", "--records", tmp_path / "c.json")
    assert said.status == 0, said.err
    found = document(tmp_path / "c.json")
    records = [r for r in found["records"] if r["metric"].startswith("z_")]
    right = [r["value"] for r in records if not r["method"].startswith("(")]
    assert max(right) < 4.5
    for method in ("(no guidance)", "(half guidance)", "(wrong sign)"):
        for case in {r["case"] for r in records}:
            assert max(r["value"] for r in records if (r["method"], r["case"]) == (method, case)) > 4.5
    ranked = [r for r in found["records"] if r["case"] == "sbc"]
    assert ranked and all(r["value"] > 0.001 for r in ranked if r["metric"] == "rank_p_value")
    for r in ranked:
        if r["metric"].startswith("coverage_"):
            assert abs(r["value"] - int(r["metric"][-2:]) / 100) < 0.06  # 125 truths when quick


@pytest.mark.slow
def test_mixture(tmp_path, infield):
    """Exact sampler and SMC are right where the prior has modes; the flow-consistent law is told apart from them."""
    said = infield("bench", "mixture", "--quick", "--records", tmp_path / "m.json", "--json")
    found = document(tmp_path / "m.json")
    assert json.dumps(said.summary) == json.dumps({key: found[key] for key in said.summary})
    assert figure(found, "exact", "sw2_ratio_to_exact") < 1.4
    assert figure(found, "faps-flow", "c2st") > 0.6
    assert figure(found, "smc", "sw2_ratio_to_exact") < 1.8 and figure(found, "smc", "velocity_calls") == 200
    assert figure(found, "smc-learned", "velocity_calls") + figure(found, "smc-learned", "jacobian_products") <= 500


def test_kspace_without_its_file(tmp_path, infield, monkeypatch):
    monkeypatch.setenv("INFIELD_DATA", str(tmp_path))
    infield("bench", "kspace").refused("sigpy_cartesian_ksp.npy", "no such file", "INFIELD_DATA")


def test_unknown_bench(infield):
    said = infield("bench", "speed")
    said.refused("'speed'", *registry.names("benches"))


def test_the_table_is_of_the_records(capsys):
    """A median over the cases; a peer that is absent; a metric that a method lacks."""
    bench = Bench("a bench", 3)
    for case, value in (("0", 1.0), ("1", 5.0), ("2", 2.0)):
        bench.add(case, "ours", "seconds", value, "s")
        bench.add(case, "peer", "absent", "not installed: pip install peer")
    bench.add("0", "ours", "crps", 0.25)
    bench.print({"seconds": ".1f", "crps": ".3f", "psnr": ".1f"}, "a note")
    table = capsys.readouterr().out
    (ours,) = [row for row in table.splitlines() if "ours" in row]
    assert [cell.strip() for cell in ours.strip("│").split("│")] == ["ours", "2.0", "0.250", "-"]
    assert "not installed: pip" in table and "a note" in table and "seed 3" in table
    assert bench.median("ours", "seconds") == 2.0 and math.isnan(bench.median("peer", "seconds"))


def test_a_table_off_a_terminal_holds_whole_numbers(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    bench = Bench("wide", 0)
    metrics = {f"a rather long metric {i}": ".6f" for i in range(12)}
    for i, metric in enumerate(metrics):
        bench.add("case", "some method of a long name", metric, 0.123456 + i)
    bench.print(metrics)
    said = capsys.readouterr().out
    assert all(f"{0.123456 + i:.6f}" in said for i in range(12)) and "\u2026" not in said
