"""The bench of costs: what it reports; not how fast this machine is."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest

from infield.pipelines.bench import scaling
from infield.pipelines.bench.scaling import slope


def test_scaling_reports_costs_by_side_and_their_slopes(tmp_path, infield, monkeypatch):
    monkeypatch.setattr(scaling, "QUICK_SIDES", (64, 80))
    said = infield("bench", "scaling", "--quick", "--records", tmp_path / "s.json")
    assert said.status == 0, said.err
    records = json.loads((tmp_path / "s.json").read_text())["records"]
    found = {(r["method"], r["metric"]): r["value"] for r in records}
    for side in (64, 80):
        case = f"{side} x {side}"
        assert found[f"source draw, {case}", "seconds"] > 0 and found[f"posterior draw, {case}", "seconds"] > 0
        assert found[f"posterior draw, {case}", "velocity_calls"] == 1
        assert 20 < found[f"posterior draw, {case}", "operator_calls"] < 400  # conjugate gradients were at work
    for method in ("source draw", "posterior draw", "operator call of it"):
        assert math.isfinite(found[method, "slope"])
    assert "slope" in said.out


def test_the_seconds_are_the_median_of_calls_after_the_first(monkeypatch):
    """By a clock of the test's own, which the calls advance."""
    now, calls = [0.0], iter((100.0, 7.0, 1.0, 2.0))

    def call():
        now[0] += (lasts := next(calls))
        return lasts

    monkeypatch.setattr(scaling, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    assert scaling._timed(call, 3) == (2.0, [7.0, 1.0, 2.0])


def test_the_slope_is_one_for_what_costs_n_log_n_and_two_for_its_square():
    sides = (64, 128, 256)
    work = [side**2 * math.log(side**2) for side in sides]
    assert slope(sides, [3e-6 * w for w in work]) == pytest.approx(1)
    assert slope(sides, [1e-12 * w**2 for w in work]) == pytest.approx(2)
    assert slope(sides, [1e-12 * side**6 for side in sides]) > 2.5  # dense algebra
