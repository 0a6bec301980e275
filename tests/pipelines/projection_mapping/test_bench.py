"""`infield bench projection`: figures with targets, in one run."""

from __future__ import annotations

import json

import pytest

from infield.pipelines.cli import main

pytest.importorskip("cv2")


@pytest.mark.slow
def test_the_bench(tmp_path):
    records = tmp_path / "projection.json"
    assert main(["bench", "projection", "--quick", "--quiet", "--records", str(records)]) == 0
    found = json.loads(records.read_text())["records"]
    judged = {(r["case"], r["method"], r["metric"]): r["met"] for r in found if "target" in r}
    assert len(judged) > 20
    timed = ("times faster than scipy", "seconds", "peak memory of the process, GiB")
    exact = [met for (_, _, metric), met in judged.items() if "largest error" in metric and metric not in timed]
    assert all(exact)
