"""The bench of undersampled k-space: its cases, its figures, and its command in the quick mode."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from infield.datasets.mri.convert import convert_mri
from infield.physics.mri.noise import CoilGaussianNoise
from infield.pipelines.mri.bench.baselines import cg_sense
from infield.pipelines.mri.bench.cases import SPACING, simulated, thinned, white
from infield.pipelines.mri.bench.run import SLICE, calibration_ratio

DATA = Path(os.environ.get("INFIELD_DATA", "")) / SLICE


def test_a_simulated_case_is_what_it_says():
    case = simulated(3, 4, points=96, coils=3)
    measurement = case.measurement
    mask = measurement.operator.observed[0, 0]
    assert 0.22 < float(mask.double().mean()) < 0.34 and bool(mask[48, 0])  # every fourth line and the middle
    assert float(measurement.chi_square(case.truth)) == pytest.approx(1, abs=0.03)
    assert float(measurement.chi_square(0.9 * case.truth)) > 1.03
    assert [axis.spacing for axis in measurement.grid.axes] == pytest.approx([SPACING, SPACING])
    assert float(measurement.operator.coil_maps.abs().square().sum(1).max()) == pytest.approx(1)


def test_white_coils_are_the_same_measurement():
    case = simulated(3, 4, points=96, coils=3)
    root = torch.tensor([[1.0, 0, 0], [0.5j, 1.5, 0], [0.2, -0.3j, 0.7]], dtype=torch.complex128)
    covariance = 2 * float(case.measurement.noise.variance) * root @ root.mH
    seen = replace(case.measurement, noise=CoilGaussianNoise(covariance))
    x = case.truth + 0.1 * torch.randn(case.truth.shape, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(white(seen).chi_square(x), seen.chi_square(x))
    assert abs(float(case.measurement.chi_square(x)) / float(seen.chi_square(x)) - 1) > 0.01


@pytest.mark.skipif(not DATA.is_file(), reason=f"INFIELD_DATA does not name the folder that holds {SLICE}")
def test_half_of_the_real_samples_are_set_aside():
    case = thinned(DATA, 1.0, seed=0)
    kept, aside = (o.observed[0, 0] for o in (case.measurement.operator, case.held_out.operator))
    whole = convert_mri(DATA, voxel=(1.0, 1.0), resolution=SPACING)
    assert torch.equal(kept | aside, whole.measurement.operator.observed[0, 0]) and not (kept & aside).any()
    assert abs(int(aside.sum()) - (int((kept | aside).sum()) - whole.calibration_width**2) / 2) <= 1
    predicted = case.held_out.predict(cg_sense(white(whole.measurement), 8))[0]  # from these very samples
    assert float((predicted - case.held_out.y).norm() / case.held_out.y.norm()) < 0.5  # the same coils, the same scale
    assert len(case.held_out.y) == 2 * 8 * int(aside.sum())


def test_the_calibration_ratio_does_not_depend_on_the_number_of_draws():
    generator = torch.Generator().manual_seed(0)
    truth, x = (torch.randn((n, 1, 40000), generator=generator, dtype=torch.float64) for n in (1, 8))
    for n in (2, 8):
        assert calibration_ratio(x[:n], truth[0]) == pytest.approx(1, abs=0.05)
    assert calibration_ratio(0.5 * x, truth[0]) == pytest.approx(0.25, abs=0.02)


@pytest.mark.slow
def test_the_bench_through_its_command(tmp_path, infield):
    said = infield("bench", "mri", "--quick", "--records", tmp_path / "records.json")
    assert said.status == 0, said.err
    found = json.loads((tmp_path / "records.json").read_text())["records"]
    figures = {(r["method"].removeprefix("4x: "), r["metric"]): r["value"] for r in found}
    samplers = {m for m, metric in figures if metric == "evaluations"}
    assert samplers == {
        "faps-measured", "faps", "faps-published", "red-diff", "deepinv-dps", "deepinv-diffpir",
        "deepinv-moment-matching",
    }  # fmt: skip
    for method in samplers:
        assert {metric for m, metric in figures if m == method} >= {
            "psnr", "ssim", "nmse", "chi_square", "calibration_ratio", "coverage_90", "seconds",
        }  # fmt: skip
    assert figures["faps-measured", "psnr"] > figures["zero-filling", "psnr"] + 2
    assert figures["faps-measured", "nmse"] < figures["gaussian-fitted", "nmse"]
    assert figures["smc", "absent"] and figures["deepinv-ddrm", "absent"]
    assert "faps-measured" in said.out and "psnr" in said.out


def test_without_the_real_slices_it_says_what_is_missing(infield, monkeypatch, tmp_path):
    monkeypatch.setenv("INFIELD_DATA", str(tmp_path))
    infield("bench", "mri").refused("INFIELD_DATA", "sigpy_cartesian_ksp.npy")
