"""`infield evaluate`: samplers are judged, refused with a reason, or listed as estimates; finished pairs are kept."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from infield.core import registry
from infield.core.errors import InfieldError
from infield.pipelines.bench import evaluation, evaluation_cases
from infield.pipelines.bench.kept import Kept
from infield.posterior.samplers.exact import Exact

TRIED = ("exact", "snap", "red-diff")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluate")


def test_the_exact_sampler_is_right_and_others_have_their_reasons(infield, folder):
    words = ("evaluate", "--quick", "--cases", "points", "--samplers", *TRIED, "--keep", folder / "kept")
    said = infield(*words, "--records", folder / "e.json")
    assert said.status == 0 and "no fault found" in said.out, said.err
    document = json.loads((folder / "e.json").read_text())
    assert document["command"] == "infield evaluate"
    found = {(r["method"], r["metric"]): r["value"] for r in document["records"]}
    assert found["exact", "p"] >= 0.01 and found["exact", "simulations"] == 20
    assert 0.9 < found["exact", "spread_over_error"] < 1.1
    assert "trained by" in found["snap", "absent"] and "estimate" in found["(red-diff)", "absent"]
    (kept,) = (folder / "kept").iterdir()
    before = kept.stat().st_mtime_ns
    again = json.loads(infield(*words, "--json").out)
    assert [r for r in again["records"] if r["metric"] == "p"] == [r for r in document["records"] if r["metric"] == "p"]
    assert kept.stat().st_mtime_ns == before


def test_a_sampler_that_is_too_narrow_is_found():
    """The negative control: half of the noise's standard deviation is not what the data have."""

    class Narrow(Exact):
        def __call__(self, prior, measurement, n, generator):
            right = super().__call__(prior, measurement, n, generator)
            mean = right.samples.mean(0)
            return replace(right, samples=mean + 0.5 * (right.samples - mean))

    case = replace(evaluation_cases.points(), samplers={"exact": Narrow()})
    found = evaluation._judge(case, "exact", 20, 0, power=False)
    assert float(found["p"]) < 0.01 and float(found["spread_over_error"]) < 0.7


def test_every_case_names_samplers_that_exist():
    for name in registry.names("evaluations"):
        assert registry.find("evaluations", name).help


def test_what_is_no_kept_case_is_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(InfieldError, match="expected a case that a bench has kept; remove it"):
        Kept(tmp_path).number("a", lambda: 1.0)
    assert Kept(tmp_path).number("b", lambda: 2.0) == Kept(tmp_path).number("b", lambda: 3.0) == 2.0
    assert Kept(None).number("b", lambda: 3.0) == 3.0  # negative control
