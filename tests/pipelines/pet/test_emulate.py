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
from infield.datasets.pet.image import PETImage, from_world_axes
from infield.datasets.pet.pair import write_pair
from infield.priors.bridges.channels import PoissonChannel
from infield.priors.bridges.clocks import geometric_clock
from infield.priors.bridges.image_law import ImageLaw
from infield.priors.bridges.region_bridge import ENTRY, RegionBridge, to_entry
from infield.priors.bridges.regions import ChangeModel, RegionDenoiser
from infield.priors.bridges.voxels import VoxelLaw
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
    clock = geometric_clock(0.5, 2e4, 8)
    bridge = RegionBridge(denoiser, channel, clock, NAMES, "SUVR", True, facts, "compound", images=voxels())
    torch.save({ENTRY: to_entry(bridge)}, path / "bridge.ckpt")
    return path


def voxels():
    """A law of voxels on the grid of the cohort: the baseline with 5 % of white noise."""
    c, d = torch.zeros(13, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    c[5], d[0] = 1.0, -6.0
    size = [len(axis.coordinates) for axis in GRID.axes[1:]]
    return ImageLaw(VoxelLaw(c, d, torch.ones(size, dtype=torch.float64)), 24.0, (-12.0, 0.0))


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
    for words in (
        "not for diagnosis",
        "trained on synthetic data",
        "synthetic CL",
        "one draw",
        "measured follow-up",
        "Left",
    ):
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
        (("--index", 1, "--mri", "t.nii"), ["--mri", "its own regions"]),
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


def oriented(order):
    """The affine of the cohort's grid whose voxel axes point to, e.g., L, I and A."""
    grid, shape = affine(), [len(axis.coordinates) for axis in GRID.axes][::-1]
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = 0, grid[:3, 3]
    for axis, letter in enumerate(order):
        k = next(k for k, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
        found[k, axis] = grid[k, k] * (1 if letter in "RAS" else -1)
        if letter in "LPI":
            found[k, 3] += grid[k, k] * (shape[k] - 1)
    return found


@pytest.mark.parametrize("order", ["LIA", "LAS", "RAS", "ASR"])
def test_images_lie_on_the_affine_of_the_baseline(emulate, tmp_path, monkeypatch, order):
    """World coordinates decide: the file of the draw holds, at a place, what the zarr group holds there."""
    monkeypatch.setattr("infield.datasets.pet.baseline.LIKE_A_BRAIN", -1.0)
    own = oriented(order)
    assert nibabel.aff2axcodes(own) == tuple(order)
    source = image(np.where(["left" in name for name in NAMES], 1.1, 0.9))
    file = nibabel.Nifti1Image(from_world_axes(source.values, own).astype(np.float32), own)
    file.set_sform(own, code=4)
    nibabel.save(file, tmp_path / "b.nii.gz")
    options = ("--units", "SUVR", "--years", 2, "--accept-synthetic", "--samples", 19, "--nifti", tmp_path / "f")
    found = emulate(tmp_path / "b.nii.gz", *options).summary
    assert found["images"] == "19 of 5 x 8 x 6" and len(found["nifti"]) == 7
    data, written = opened(tmp_path / "f.zarr"), nibabel.load(tmp_path / "f_draw.nii.gz")
    np.testing.assert_allclose(written.affine, own)
    assert written.shape == file.shape and int(written.header["sform_code"]) == 4
    assert b"synthetic" in bytes(written.header["descrip"]) and b"diagnosis" in bytes(written.header["descrip"])
    values = written.get_fdata()
    for index in np.ndindex(values.shape):
        x, y, z = (own @ [*index, 1])[:3]
        there = data["follow_up_image"].isel(sample=0).sel(z=z, y=y, x=x)
        assert values[index] == pytest.approx(float(there), rel=1e-6)
    mean = data["follow_up_image_mean"]
    left, right = (float(mean.where(mean["x"] * sign > 0).mean()) for sign in (-1, 1))
    assert left > right + 0.1  # what is left of the subject stays there
    before = nibabel.load(tmp_path / "f_baseline.nii.gz").get_fdata()
    np.testing.assert_allclose(before, file.get_fdata(), rtol=1e-6)


def test_images_have_the_regional_means_that_were_drawn(emulate, folder, tmp_path):
    emulate(folder / "pet.zarr", "--index", 3)
    emulate(folder / "pet.zarr", "--index", 3, "--samples", 19, output="g.zarr")
    emulate(folder / "pet.zarr", "--index", 3, "--regions-only", output="h.zarr")
    data, few, alone = (opened(tmp_path / f"{name}.zarr") for name in "fgh")
    weights = xr.open_zarr(folder / "pet.zarr", consolidated=False)["region_weights"].values
    images = data["follow_up_image"].values
    means = images.reshape(39, -1) @ weights.reshape(26, -1).T
    np.testing.assert_allclose(means, data["follow_up"], rtol=3e-3)
    assert images.min() > 0 and np.abs(np.diff(images, axis=0)).min() > 0
    np.testing.assert_array_equal(images[:19], few["follow_up_image"])  # draw i depends on i alone
    np.testing.assert_array_equal(data["follow_up"], alone["follow_up"])
    assert "follow_up_image" not in alone
    ordered = np.sort(images, 0)
    np.testing.assert_allclose(data["follow_up_image_low"], ordered[1])
    np.testing.assert_allclose(data["follow_up_image_high"], ordered[-2])


def test_nifti_that_cannot_be_written(emulate, folder, tmp_path):
    source = (folder / "pet.zarr", "--index", 3, "--nifti")
    emulate(*source, tmp_path / "f", "--regions-only").refused("--nifti", "not asked for")
    emulate(*source, tmp_path / "no" / "f").refused("no folder")
    (tmp_path / "f_mean.nii.gz").write_bytes(b"mine")
    emulate(*source, tmp_path / "f").refused("f_mean.nii.gz", "--overwrite")
    assert (tmp_path / "f_mean.nii.gz").read_bytes() == b"mine" and not (tmp_path / "f.zarr").exists()


def test_another_tracer_than_trained(emulate, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("infield.datasets.pet.baseline.LIKE_A_BRAIN", -1.0)
    stored = torch.load(folder / "bridge.ckpt", weights_only=True)
    stored[ENTRY]["provenance"] = {**stored[ENTRY]["provenance"], "tracer": "PiB"}
    torch.save(stored, tmp_path / "pib.ckpt")
    options = ("--years", 2, "--accept-synthetic", "--prior", tmp_path / "pib.ckpt")
    image(np.full(26, 1.0), space="MNI152", TracerName="florbetapir").write(tmp_path / "b.zarr")
    emulate(tmp_path / "b.zarr", *options).refused("tracer florbetapir", "PiB, as trained")
    image(np.full(26, 1.0), space="MNI152", TracerName="pib").write(tmp_path / "c.zarr")
    assert emulate(tmp_path / "c.zarr", *options, output="c.f.zarr").status == 0
