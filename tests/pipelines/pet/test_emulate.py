"""`infield emulate` with a bridge: draws of regional follow-ups, intervals, the page, and what is refused."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
import xarray as xr
from examples.pet_cohort import GRID, LAW, labels, rng, write_cohort

import infield as inf
from infield.datasets.pet.brain_regions import NAMES
from infield.datasets.pet.image import PETImage
from infield.datasets.pet.pair import write_pair
from infield.priors.bridges.channels import PoissonChannel
from infield.priors.bridges.clocks import geometric_clock
from infield.priors.bridges.region_bridge import ENTRY, RegionBridge, to_entry
from infield.priors.bridges.regions import ChangeModel, RegionDenoiser
from infield.priors.networks.mlp import Perceptron

N = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cohort, and a bridge that is the Gaussian model of its changes."""
    path = tmp_path_factory.mktemp("pet")
    write_cohort(path / "pet.zarr", N)
    years = 0.5 + 4 * torch.rand(4000, generator=rng(7), dtype=torch.float64)
    x_b, x_f, _ = LAW.pairs(4000, years, rng(8))
    channel = PoissonChannel()
    denoiser = RegionDenoiser(ChangeModel.fit(x_b, x_f, years, channel), Perceptron(2, (26,), 8, 1, 2, times=2))
    inside = [name for name, one in zip(NAMES, LAW.accumulates, strict=True) if one]
    facts = {"composite": inside, "synthetic_centiloid": [110.0, -110.0]}
    bridge = RegionBridge(denoiser, channel, geometric_clock(0.5, 2e4, 8), NAMES, "SUVR", True, facts, "compound")
    torch.save({ENTRY: to_entry(bridge)}, path / "bridge.ckpt")
    return path


@pytest.fixture
def emulate(infield, folder, tmp_path):
    def run(source, *options, output="f.zarr"):
        files = ("--prior", folder / "bridge.ckpt", "--from", source, "-o", tmp_path / output)
        return infield("emulate", *files, "--samples", 39, *options, "--json")

    return run


def opened(path):
    return xr.open_zarr(path, consolidated=False)


def affine():
    x, y, z = (GRID.axes[k].coordinates for k in (2, 1, 0))
    found = np.diag([24.0, 24.0, 24.0, 1.0])
    found[:3, 3] = x[0], y[0], z[0]
    return found


def image(values=None, **facts):
    """An image on the grid of the cohort: its regional means are the values."""
    values = np.linspace(1.0, 1.5, 26) if values is None else values
    return PETImage(values[labels().numpy()], affine(), "1", facts)


def test_draws_of_a_subject_of_the_cohort(emulate, folder, tmp_path):
    facts = emulate(folder / "pet.zarr", "--index", 3, "--report", tmp_path / "f.html").summary
    data = opened(tmp_path / "f.zarr")
    assert data.attrs["warning"] == "trained on synthetic data; not for diagnosis" and data.attrs["synthetic"] == 1
    assert data["follow_up"].shape == (39, 26) and facts["years"] == data.attrs["years"]
    change = data["follow_up"] - data["baseline"]
    ordered = np.sort(change.values, 0)
    np.testing.assert_allclose(data["change_low"], ordered[1])  # 2 of 40 ranks: 90 %
    np.testing.assert_allclose(data["change_high"], ordered[-2])
    composite = facts["regions"]["composite"]
    assert composite["level"] == pytest.approx(0.9)
    inside = change.values[:, data["in_composite"].values == 1].mean(1)
    assert composite["change"] == pytest.approx(inside.mean()) and composite["low"] == pytest.approx(np.sort(inside)[1])
    page = (tmp_path / "f.html").read_text()
    for words in ("not for diagnosis", "trained on synthetic data", "synthetic CL", "no image was predicted", "Left"):
        assert words.lower() in page.lower()
    again = emulate(folder / "pet.zarr", "--index", 3, "--seed", 1, output="g.zarr").summary
    assert again["regions"]["composite"]["change"] != composite["change"]


def test_a_draw_is_independent_of_how_many_there_are(emulate, folder, tmp_path):
    emulate(folder / "pet.zarr", "--index", 3)
    emulate(folder / "pet.zarr", "--index", 3, "--samples", 19, output="g.zarr")
    many, few = (opened(tmp_path / name)["follow_up"].values for name in ("f.zarr", "g.zarr"))
    np.testing.assert_array_equal(many[:19], few)


def test_the_shipped_bridge_draws_growth_that_is_wider_over_more_years():
    bridge = inf.load_prior("pet_bridge")
    assert bridge.synthetic and bridge.regions == NAMES and bridge.steps == "compound"
    x_b = bridge.denoiser.change.centre.float()[None]
    one, four = (bridge.sample(x_b, years, 200, rng())[0] - x_b for years in (1.0, 4.0))
    inside = torch.tensor([name in bridge.provenance["composite"] for name in NAMES])
    assert float(four[:, inside].mean()) > float(one[:, inside].mean()) > 0
    assert float(four[:, inside].std(0).mean()) > 1.15 * float(one[:, inside].std(0).mean())
    assert abs(float(four[:, ~inside].mean())) < 0.03  # no growth where nothing accumulates


def test_files_of_others_need_acceptance(emulate, tmp_path, monkeypatch):
    monkeypatch.setattr("infield.datasets.pet.baseline.LIKE_A_BRAIN", -1.0)  # voxels of 24 mm are no brain
    image(np.linspace(0.9, 1.1, 26), space="MNI152", TracerName="florbetapir").write(tmp_path / "b.nii.gz")
    assert int(nibabel.load(tmp_path / "b.nii.gz").header["sform_code"]) == 4
    emulate(tmp_path / "b.nii.gz", "--years", 2).refused("trained on synthetic data", "--accept-synthetic")
    found = emulate(tmp_path / "b.nii.gz", "--years", 2, "--accept-synthetic").summary
    assert found["synthetic"] and found["regions"][NAMES[5]]["baseline"] == pytest.approx(0.94, abs=1e-6)
    one, two = (image(np.full(26, value), space="MNI152") for value in (1.1, 1.3))
    write_pair(tmp_path / "pair.zarr", one, two, 1.5)
    found = emulate(tmp_path / "pair.zarr", "--accept-synthetic", output="p.zarr").summary
    assert found["years"] == 1.5
    np.testing.assert_allclose(opened(tmp_path / "p.zarr")["follow_up_measured"], 1.3)


@pytest.mark.parametrize(
    ("made", "options", "words"),
    [
        (image, (), ["not marked as MNI152", "antsRegistration"]),
        (lambda: image(space="MNI152"), (), ["correlation", "brain of MNI152"]),
        (lambda: PETImage(np.ones((2, 3, 3)), affine(), "Bq/mL"), (), ["'Bq/mL'", "infield convert pet"]),
    ],
)
def test_images_that_are_refused(emulate, tmp_path, made, options, words):
    made().write(tmp_path / "b.zarr")
    emulate(tmp_path / "b.zarr", "--years", 2, "--accept-synthetic", *options).refused(*words)
    assert not (tmp_path / "f.zarr").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ["no subject", "--index"]),
        (("--index", 99), ["subject 99", "0 to 23"]),
        (("--index", 1, "--years", 0), ["years", "above 0"]),
        (("--index", 1, "--years", -2), ["above 0"]),
        (("--index", 1, "--years", 20), ["range of training", "--extrapolate"]),
        (("--index", 1, "--samples", 9), ["9 draws", "at least 19", "--samples"]),
        (("--index", 1, "--workers", 2), ["--workers", "seconds"]),
        (("--index", 1, "--points", 64), ["--points", "is a bridge", "is a lightcones"]),
        (("--index", 1, "--band", 0), ["--band", "above zero"]),
        (("--index", 1, "--grey-matter", "g.nii"), ["its own regions"]),
    ],
)
def test_conditions_that_are_refused(emulate, folder, tmp_path, options, words):
    emulate(folder / "pet.zarr", *options).refused(*words)
    assert not list(tmp_path.iterdir())
    if "--extrapolate" in words:
        cautions = emulate(folder / "pet.zarr", *options, "--extrapolate").summary["cautions"]
        assert "extrapolated beyond 0.501 to 4.5 years" in cautions


def test_a_baseline_far_from_those_of_training(emulate, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("infield.datasets.pet.baseline.LIKE_A_BRAIN", -1.0)
    image(np.full(26, 9.0), space="MNI152").write(tmp_path / "b.zarr")
    options = ("--years", 2, "--accept-synthetic")
    emulate(tmp_path / "b.zarr", *options).refused("SUVR 9", "--extrapolate")
    assert any(
        "SUVR 9" in words for words in emulate(tmp_path / "b.zarr", *options, "--extrapolate").summary["cautions"]
    )
    emulate(tmp_path / "none.nii").refused("none.nii", "no file there")
    (tmp_path / "t.txt").write_text("x")
    emulate(tmp_path / "t.txt").refused("another kind of file", "NIfTI")
