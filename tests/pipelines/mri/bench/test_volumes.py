"""The bench of volumes: an eighth of k-space, and the order of the methods."""

from __future__ import annotations

import json

import pytest

from infield.pipelines.mri.bench.volumes import phantom


@pytest.mark.parametrize("kind", ["lines", "places"])
def test_an_eighth_of_k_space_with_its_centre(kind):
    prior, measurement = phantom(kind, 16, 32, 3)
    mask = measurement.operator.observed[0]
    assert 0.11 < float(mask.double().mean()) < 0.14 and bool(mask[8, 16, 16])
    assert (mask == mask[:1]).all() == (kind == "lines")
    assert prior.source.event_shape == measurement.event_shape == (2, 16, 32, 32)
    assert 0.5 < float(measurement.chi_square(measurement.truth)) < 1.5


def test_the_bench_through_its_command(tmp_path, infield):
    said = infield("bench", "volumes", "--quick", "--records", tmp_path / "records.json")
    assert said.status == 0, said.err
    found = json.loads((tmp_path / "records.json").read_text())["records"]

    def figures(method, metric):
        return [r["value"] for r in found if (r["method"], r["metric"]) == (method, metric)]

    assert len(figures("dds", "error_of_a_draw")) == 2
    for ours in ("dds", "diffusion-mbir"):
        for alone in ("dds, tv=0", "exact, slice by slice"):
            for metric in ("error_of_a_draw", "flicker_over_truth"):
                assert all(a < b for a, b in zip(figures(ours, metric), figures(alone, metric), strict=True))
    assert max(figures("dds", "spread_skill")) < 0.8  # it is not sold as a posterior
