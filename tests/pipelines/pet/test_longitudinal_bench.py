"""Scores of `infield bench pet-longitudinal` under laws that are known; training of a bridge by `infield fit`."""

from __future__ import annotations

import json

import pytest
import torch
from examples.pet_cohort import write_cohort

from infield import InfieldError
from infield.datasets.pet.amyloid_law import AmyloidLaw
from infield.datasets.pet.brain_regions import GROUPS, NAMES
from infield.pipelines.cli import main
from infield.pipelines.package_data import CONFIGS
from infield.pipelines.pet.bench.longitudinal_rows import train
from infield.pipelines.pet.bench.longitudinal_scores import bootstrap_error, covered, fair_crps, variances
from infield.priors.storage.checkpoint import load_checkpoint


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_intervals_of_19_draws_cover_nine_tenths():
    truth, draws = torch.randn(8000, 4, generator=rng()), torch.randn(8000, 19, 4, generator=rng(1))
    assert float(covered(draws, truth).mean()) == pytest.approx(0.9, abs=0.008)
    assert float(covered(0.8 * draws, truth).mean()) < 0.87


def test_fair_crps_is_independent_of_the_number_of_draws():
    """1 / sqrt pi under the right law, of 5 draws and of 40; the variance is that of the error of their mean."""
    truth = torch.randn(20000, 1, generator=rng()).double()
    expected = 1 / torch.pi**0.5
    for n in (5, 40):
        draws = torch.randn(20000, n, 1, generator=rng(n)).double()
        score = fair_crps(draws, truth)
        assert abs(float(score.mean()) - expected) < 4 * float(score.std()) / 20000**0.5
        error = (draws.mean(1) - truth).square().mean()
        assert float(variances(draws).mean() / error) == pytest.approx(1, abs=0.04)
    assert float(fair_crps(1.5 * draws, truth).mean()) > 1.03 * expected


def test_bootstrap_error_of_a_mean():
    values = torch.randn(2000, generator=rng())
    assert bootstrap_error(lambda i: float(values[i].mean()), 2000, rng(1)) == pytest.approx(2000**-0.5, rel=0.25)


def test_fit_trains_a_bridge_that_says_synthetic(tmp_path):
    baseline, follow_up, _ = write_cohort(tmp_path / "pet.zarr")
    command = ["fit", "--config", str(CONFIGS / "fit_pet_bridge.yaml"), "--trainer.default_root_dir", str(tmp_path)]
    command += ["--data.init_args.path", str(tmp_path / "pet.zarr"), "--data.init_args.batch_size", "64"]
    command += [
        "--model.init_args.images",
        "40",
        "--trainer.max_steps",
        "12",
        "--trainer.logger",
        "false",
        "--trainer.enable_progress_bar",
        "false",
    ]
    assert main(command) == 0
    bridge = load_checkpoint(tmp_path / "bridge.ckpt", "bridge")
    assert bridge.synthetic and bridge.regions == NAMES and bridge.provenance["subjects"] == 461
    assert bridge.provenance["training"]["steps"] == 12 and bridge.steps == "compound"
    assert bridge.images.spacing == 24.0 and bridge.images.law.spectrum.shape == (8, 6)  # of 40 subjects' images
    x = bridge.sample(baseline[:5].float(), 2.0, 3, rng())
    assert x.shape == (5, 3, 26) and float((x.mean(1) - follow_up[:5]).abs().max()) < 0.5
    assert main([*command, "--model.init_args.network.init_args.shape", "[25]", "--trainer.max_steps", "13"]) == 2


@pytest.mark.slow
def test_the_bench_runs(tmp_path):
    assert main(["bench", "pet-longitudinal", "--quick", "--quiet", "--records", str(tmp_path / "a.json")]) == 0
    records = json.loads((tmp_path / "a.json").read_text())["records"]
    assert {r["method"] for r in records} >= {"persistence", "regional", "regional-hetero", "brownian", "poisson"}
    assert {r["method"] for r in records} >= {"painted", "u-net", "bridge"}
    image = {(r["method"], r["metric"]): r["value"] for r in records if r["case"] == "images"}
    assert image["bridge", "share_of_negative_voxels"] == 0 and 0.8 < image["bridge", "coverage_of_voxels"] < 0.97
    assert image["bridge", "voxel_crps"] < image["painted", "voxel_crps"]  # hardly trained, but its noise is right


def test_rows_are_trained_on_pairs_without_images():
    """In three steps; a law of voxels needs images, and the refusal names both."""
    bridge = train(AmyloidLaw(groups=GROUPS), 3, 0)
    assert bridge.regions == NAMES and bridge.images is None
    with pytest.raises(InfieldError, match="bridge: images: found 2 subjects, and LawPairs without images"):
        train(AmyloidLaw(groups=GROUPS), 3, 0, images=2)
