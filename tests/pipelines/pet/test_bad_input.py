"""Each wrong file of `infield convert pet` on the command line: one line, status 2, nothing written."""

from __future__ import annotations

import json

import numpy as np
import pytest

from infield.datasets.pet.sidecar import MAY_BE_UNKNOWN, REQUIRED
from infield.pipelines.cli import main

SIDECAR = {
    **dict.fromkeys(REQUIRED, "x"),
    **dict.fromkeys(MAY_BE_UNKNOWN, "n/a"),
    "Units": "kBq/mL",
    "TracerName": "florbetapir",
    "TracerRadionuclide": "F18",
    "InjectedRadioactivity": 370,
    "InjectedRadioactivityUnits": "MBq",
    "ScanStart": 3000,
    "InjectionStart": 0,
    "ImageDecayCorrected": True,
    "ImageDecayCorrectionTime": 3000,
    "FrameTimesStart": [3000, 3300, 3600, 4200],
    "FrameDuration": [300, 300, 600, 300],
    "ReconMethodParameterLabels": ["none"],
    "ReconFilterType": "none",
}
AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed (extra `pet`)")
    place = tmp_path_factory.mktemp("pet")
    values = np.stack([np.full((4, 5, 6), value) for value in (4.0, 5.0, 6.0, 5.0)], -1).astype(np.float32)
    mask = np.zeros((4, 5, 6), dtype=np.uint8)
    mask[3] = 1
    far = AFFINE.copy()
    far[0, 3] = 500

    def write(name, values=values, affine=AFFINE, without=(), **change):
        nibabel.save(nibabel.Nifti1Image(values, affine), place / f"{name}_pet.nii.gz")
        fields = {k: v for k, v in (SIDECAR | change).items() if k not in without}
        (place / f"{name}_pet.json").write_text(json.dumps(fields))

    write("ok")
    write("missing", without=("TimeZero", "ScanStart", "ReconFilterType"))
    write("ends", FrameDuration=[3300, 3600, 4200, 4500])
    write("long", FrameTimesStart=list(range(45)), FrameDuration=[1] * 45)
    write("late", InjectionStart=3400)
    write("fdg", TracerName="FDG")
    write("unsaid", ImageDecayCorrected="yes")
    write("iodine", ImageDecayCorrected=False, TracerRadionuclide="I124")
    write("ratio", Units="1")
    write("zero", 0 * values)
    write("hot", values * np.float32(1e8))
    write("moved", affine=far)
    (place / "empty_pet.nii.gz").write_bytes(b"")
    for name, image, affine in (("in", mask, AFFINE), ("none", 0 * mask, AFFINE), ("part", mask[2:], AFFINE),
                                ("far", mask, far)):  # fmt: skip
        nibabel.save(nibabel.Nifti1Image(image, affine), place / f"{name}.nii.gz")
    return place


RATIO = "--to SUVR --reference-region whole-cerebellum --reference"
LINES = (
    ("missing", "", "no TimeZero, ScanStart, ReconFilterType"),
    ("ends", "", "the times at which frames end"),
    ("long", "", "45 FrameDuration, expected 4, the frames of the image"),
    ("ok", "--to SUV", "no weight, no dose or no time of injection"),
    ("ok", "--to SUV --weight -3", "a weight of -3 kg"),
    ("late", "", "an injection 400 s after the time to which decay is corrected"),
    ("fdg", f"{RATIO} in.nii.gz --target in.nii.gz --pipeline SPM8", "(FDG, SPM8, whole-cerebellum)"),
    ("ok", f"{RATIO} in.nii.gz --target in.nii.gz --pipeline MINE", "(florbetapir, MINE, whole-cerebellum)"),
    ("ratio", "--to Bq/mL", "activity does not follow from a ratio"),
    ("ratio", "--to SUV --weight 70", "an image in '1', expected Bq/mL"),
    ("unsaid", "", "ImageDecayCorrected: found 'yes', expected true or false"),
    ("iodine", "", "not corrected for the decay of 'I124'"),
    ("zero", "", "0 in every voxel"),
    ("hot", "", "calibrated twice"),
    ("empty", "", "0 bytes"),
    ("ok", f"{RATIO} none.nii.gz", "0 in every voxel"),
    ("ok", f"{RATIO} part.nii.gz", "expected the grid of the image"),
    ("ok", f"{RATIO} far.nii.gz", "an affine that differs by up to 500"),
    ("ok", f"{RATIO} in.nii.gz --target far.nii.gz", "an affine that differs by up to 500"),
    ("ok", "--followup moved_pet.nii.gz --years 2", "an affine that differs by up to 500"),
    ("ok", "--followup ok_pet.nii.gz --years 0", "0 years, expected above 0"),
    ("ok", "--followup ok_pet.nii.gz --years -2", "-2 years, expected above 0"),
    ("ok", "--followup ok_pet.nii.gz", "no acq_time"),
)


@pytest.mark.parametrize(("name", "options", "words"), LINES)
def test_one_line_and_status_2(folder, capsys, monkeypatch, name, options, words):
    monkeypatch.chdir(folder)
    assert main(["convert", "pet", f"{name}_pet.nii.gz", "-o", "no.zarr", *options.split()]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (folder / "no.zarr").exists()


def test_the_right_file_is_taken(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["convert", "pet", "ok_pet.nii.gz", "-o", "yes.zarr", *f"{RATIO} in.nii.gz".split()]) == 0
