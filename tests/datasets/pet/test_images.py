"""PET images: times and decay, units, sides, and what is refused in one line."""

from __future__ import annotations

import csv
import gc
import json
import subprocess
import sys
import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples.field_situations_devices import ecat
from examples.processes import HANG

from infield.core.errors import InfieldError
from infield.datasets.pet.centiloid import TABLE, centiloid_line
from infield.datasets.pet.decay import decay_factor, half_life, mean_over_frames
from infield.datasets.pet.image import PETImage, from_world_axes, read_image, to_world_axes
from infield.datasets.pet.interval import years_between
from infield.datasets.pet.quantities import Dose, becquerel, check_values, quantity, to_suv, to_suvr
from infield.datasets.pet.readers.frames import FrameFile
from infield.datasets.pet.readers.open import open_image
from infield.datasets.pet.resolution import at_resolution, cost
from infield.datasets.pet.sidecar import INFUSION, MAY_BE_UNKNOWN, REQUIRED, check_frames, check_sidecar
from infield.pipelines.cli import main

SIDECAR = {
    **dict.fromkeys(REQUIRED, "x"),
    **dict.fromkeys(MAY_BE_UNKNOWN, "n/a"),
    "Units": "Bq/mL",
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


def test_decay_is_integrated_over_a_frame():
    assert decay_factor(3000, 1200, half_life("C-11")) == pytest.approx(7.561, abs=1e-3)  # at its middle: 7.708
    assert decay_factor(0, 1e-3, half_life("18F")) == pytest.approx(1, abs=1e-6)
    rate, t = np.log(2) / half_life("F18"), np.linspace(600, 1800, 100001)
    assert decay_factor(600, 1200, half_life("F18")) * np.exp(-rate * t).mean() == pytest.approx(1, rel=1e-5)


def test_frames_are_weighted_by_their_durations_two_at_a_time():
    frames = [np.full(3, value) for value in (1.10, 1.12, 1.15, 1.13)]
    np.testing.assert_allclose(mean_over_frames(frames, (300, 300, 600, 300)), 1.13)
    assert abs(np.mean(frames) - 1.13) > 1e-3  # the plain mean: the negative control
    made = (np.full((63, 128, 16), float(k), dtype=np.float32) for k in range(21))
    tracemalloc.start()
    mean_over_frames(made, [1.0] * 21)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.2 * 8 * 63 * 128 * 16


def test_suv_takes_the_dose_at_the_time_of_the_decay_correction():
    C = np.array([5000.0])
    assert to_suv(C, "Bq/mL", Dose(3.7e8, 70, 0, 0, "F18"))[0] == pytest.approx(0.9459, abs=1e-4)
    assert to_suv(C, "Bq/mL", Dose(3.7e8, 70, 0, 3000, "F18"))[0] == pytest.approx(1.2971, abs=1e-4)
    assert quantity("kBq/mL") == ("Bq/mL", 1e3) and quantity("GML")[0] == "g/mL" and becquerel(1, "mCi") == 3.7e7
    with pytest.raises(InfieldError, match="no weight, no dose"):
        to_suv(C, "Bq/mL", None)
    with pytest.raises(InfieldError, match="an image in '1', expected Bq/mL"):
        to_suv(C, "1", None)
    with pytest.raises(InfieldError, match="'furlong'"):
        quantity("furlong")


def test_a_ratio_is_taken_draw_by_draw():
    draws = np.random.default_rng(0).uniform(1, 2, (5, 2, 3, 4))
    reference = np.zeros((2, 3, 4), dtype=bool)
    reference[0, 0] = True
    ratio = to_suvr(draws, reference)
    np.testing.assert_allclose(ratio[:, reference].mean(1), 1)
    np.testing.assert_allclose(ratio[3], to_suvr(draws[3], reference))
    for mask, said in ((np.zeros_like(reference), "no voxel"), (reference[:1], "another|shape")):
        with pytest.raises(InfieldError, match=said):
            to_suvr(draws, mask)


def test_centiloids_are_of_one_tracer_pipeline_and_reference():
    assert centiloid_line("PiB", "SPM8", "whole-cerebellum")(1.009) == pytest.approx(0, abs=1e-9)
    assert centiloid_line("PiB", "spm8", "whole-cerebellum")(2.076) == pytest.approx(100)
    berkeley, avid = (centiloid_line("florbetapir", p, "whole-cerebellum")(1.11) for p in ("Berkeley", "Avid"))
    assert berkeley == pytest.approx(19.8, abs=0.05) and avid == pytest.approx(25.9, abs=0.1)
    assert all(line.source for line in TABLE)
    for unknown in (("FDG", "SPM8", "whole-cerebellum"), ("PiB", "SPM8", "pons")):
        with pytest.raises(InfieldError, match="Centiloid: found"):
            centiloid_line(*unknown)


@pytest.mark.parametrize("codes", ["LIA", "LAS", "RAS", "LPS", "PSR"])
def test_left_stays_left(codes):
    """One voxel is bright, on the left; whatever the order and direction of the axes, its world coordinates stay."""
    shape, voxel, world = (4, 5, 6), {"R": 2.0, "A": 3.0, "S": 4.0}, np.array([-10.0, 20.0, -8.0])
    axes = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    opposite = {"L": "R", "P": "A", "I": "S"}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for k, code in enumerate(codes):
        positive = opposite.get(code, code)
        affine[axes[code], k] = voxel[positive] * (1 if code == positive else -1)
    index = np.array([1, 2, 3])
    affine[:3, 3] = world - affine[:3, :3] @ index
    values = np.zeros(shape)
    values[tuple(index)] = 7
    moved, there = to_world_axes(values, affine)
    z, y, x = np.argwhere(moved == 7)[0]
    np.testing.assert_allclose(there @ [x, y, z, 1], [*world, 1])
    np.testing.assert_allclose(np.diag(there), [2, 3, 4, 1])
    np.testing.assert_array_equal(from_world_axes(moved, affine), values)  # and back
    tilted = affine.copy()
    tilted[:3, :3] = np.array([[0.9, -0.4, 0], [0.4, 0.9, 0], [0, 0, 1]]) @ affine[:3, :3]
    with pytest.raises(InfieldError, match="oblique"):
        to_world_axes(values, tilted)
    for sine, kept in ((0.049, True), (0.051, False)):
        turn = np.array([[(1 - sine**2) ** 0.5, -sine, 0], [sine, (1 - sine**2) ** 0.5, 0], [0, 0, 1]])
        tilted[:3, :3] = turn @ affine[:3, :3]
        with nullcontext() if kept else pytest.raises(InfieldError, match=r"expected a tilt below 0\.05 rad"):
            to_world_axes(values, tilted)


def test_required_fields_are_those_of_the_schema():
    schema = pytest.importorskip("bidsschematools.schema", reason="bidsschematools is not installed").load_schema()
    found = {}
    for group in schema["rules"]["sidecars"]["pet"].values():
        for name, rule in group["fields"].items():
            found[name] = rule if isinstance(rule, str) else rule["level"]
    assert {name for name, level in found.items() if level == "required"} >= set(REQUIRED)
    assert len(REQUIRED) == 24 and not set(INFUSION) & set(REQUIRED)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Units": None, "TimeZero": None}, "found no Units, TimeZero"),
        ({"Manufacturer": "n/a"}, "'n/a' for Manufacturer"),
        ({"ReconMethodParameterLabels": ["iterations"]}, "no ReconMethodParameterUnits, ReconMethodParameterValues"),
        ({"ModeOfAdministration": "bolus-infusion"}, "no InfusionRadioactivity, InfusionStart"),
        ({"InjectionStart": 3400}, "an injection 400 s after"),
        ({"ImageDecayCorrectionTime": "x"}, "ImageDecayCorrectionTime: found 'x'"),
        ({"FrameDuration": [3300, 3600, 4200, 4500]}, "the times at which frames end"),
        ({"FrameDuration": [300, 400, 600, 300]}, "1 of 4 frames that overlap"),
        ({"FrameDuration": [300, 300, 600]}, "4 FrameTimesStart and 3 FrameDuration, expected 4"),
        ({"FrameDuration": [300, 300, 0, 300]}, "found 0 s, expected above 0"),
    ],
)
def test_a_faulty_sidecar_is_refused_in_one_line(change, said):
    fields = {name: value for name, value in (SIDECAR | change).items() if value is not None}
    with pytest.raises(InfieldError, match=said) as refusal:
        check_sidecar(fields, 4)
    assert "\n" not in str(refusal.value)
    check_sidecar(SIDECAR, 4)


def test_frames_of_the_image_and_of_its_sidecar_agree():
    with pytest.raises(InfieldError, match="45 FrameTimesStart and 45 FrameDuration, expected 21"):
        check_frames(list(range(45)), [1] * 45, 21)


@pytest.mark.parametrize(
    ("values", "said"),
    [(np.zeros(3), "0 in every voxel"), (np.array([1e11]), "calibrated twice"), (np.array([np.nan]), "1 NaN")],
)
def test_impossible_images_are_refused(values, said):
    with pytest.raises(InfieldError, match=said):
        check_values(values, "Bq/mL")


def write_session(folder, session, values, affine, acquired=None, **change):
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed (extra `pet`)")
    place = folder / "sub-01" / session / "pet"
    place.mkdir(parents=True)
    image = place / f"sub-01_{session}_pet.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), image)
    (place / f"sub-01_{session}_pet.json").write_text(json.dumps({"Units": "kBq/mL"} | change))
    if acquired:
        with (place.parent / f"sub-01_{session}_scans.tsv").open("w", newline="") as file:
            csv.writer(file, delimiter="\t").writerows([("filename", "acq_time"), (f"pet/{image.name}", acquired)])
    return image


@pytest.fixture
def sessions(tmp_path):
    """Two sessions of a subject of 70 kg, (L, A, S); most fields stand in the JSON of the data set's root."""
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "task-rest_pet.json").write_text("{}")  # of other images
    (tmp_path / "pet.json").write_text(json.dumps(SIDECAR))
    (tmp_path / "participants.tsv").write_text("participant_id\tweight\nsub-01\t70\n")
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    values = np.stack([np.full((4, 5, 6), value) for value in (4.0, 5.0, 6.0, 5.0)], -1)
    values[0] *= 2  # the first of an axis to the left: the right side
    first = write_session(tmp_path, "ses-1", values, affine, "2020-01-01T10:00:00")
    second = write_session(tmp_path, "ses-2", values, affine, "2022-07-02T10:00:00")
    return first, second


def test_a_session_becomes_an_image_in_suv_with_its_sides(sessions, tmp_path, capsys):
    first, second = sessions
    image = open_image(first).image()
    assert image.units == "Bq/mL" and image.facts["window"] == [3000, 4500]
    assert image.values[:, :, -1] == pytest.approx(2 * 5200) and image.values[:, :, 0] == pytest.approx(5200)
    output = tmp_path / "suv.zarr"
    assert main(["convert", "pet", str(first), "-o", str(output), "--to", "SUV"]) == 0
    suv = read_image(output)
    expected = 5200 * 70e3 / (3.7e8 * 2 ** (-3000 / 6586.2))
    assert suv.units == "g/mL" and suv.values[0, 0, 0] == pytest.approx(expected)
    pair = tmp_path / "pair.zarr"
    assert main(["convert", "pet", str(first), "--followup", str(second), "-o", str(pair)]) == 0
    assert years_between(first, second) == pytest.approx(2.5, abs=0.01)
    capsys.readouterr()
    for more, said in (
        (["--to", "SUVR"], "no reference region"),
        (["--followup", str(second), "--years", "-1"], "-1 years"),
        (["--reference-region", "pons"], "--to SUVR"),
        (["--frames", "7"], "'7'"),
        (["--to", "SUVR", "--reference-region", "x", "--reference", str(tmp_path / "none.nii.gz")], "no such file"),
    ):
        assert main(["convert", "pet", str(first), "-o", str(tmp_path / "no.zarr"), *more]) == 2, more
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
        assert not (tmp_path / "no.zarr").exists()


def test_frames_that_are_not_corrected_for_decay_are_corrected(sessions, tmp_path):
    """A constant activity at the decay correction time, as uncorrected frames measure it: the mean is that activity."""
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed (extra `pet`)")
    rate = np.log(2) / half_life("F18")
    starts, lasts = np.array(SIDECAR["FrameTimesStart"]), np.array(SIDECAR["FrameDuration"])
    begun = np.exp(-rate * (starts - SIDECAR["ImageDecayCorrectionTime"]))
    frames = 7.0 * begun * -np.expm1(-rate * lasts) / (rate * lasts)
    values = np.broadcast_to(frames, (4, 5, 6, 4)).astype(np.float64)
    place = sessions[0].parent / "sub-01_ses-1_run-2_pet.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-2.0, 2.0, 2.0, 1.0])), place)
    sidecar = place.with_name("sub-01_ses-1_run-2_pet.json")
    for corrected, expected in ((False, 7000.0), (True, 1e3 * frames @ lasts / lasts.sum())):
        sidecar.write_text(json.dumps({"Units": "kBq/mL", "ImageDecayCorrected": corrected}))
        image = open_image(place).image()
        np.testing.assert_allclose(image.values, expected, rtol=1e-6)
        assert image.facts["ImageDecayCorrected"] and ("decay" in image.facts) is not corrected
    assert expected < 6700  # what the mean of uncorrected frames would be


def test_suvr_and_centiloid_on_the_command_line(sessions, tmp_path, capsys):
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed (extra `pet`)")
    first, _ = sessions
    mask = np.zeros((4, 5, 6), dtype=np.uint8)
    mask[3] = 1  # the left
    grid = np.diag([-2.0, 2.0, 2.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(mask, grid), tmp_path / "left.nii.gz")
    nibabel.save(nibabel.Nifti1Image(mask[::-1].copy(), grid), tmp_path / "right.nii.gz")
    nibabel.save(nibabel.Nifti1Image(mask[2:].copy(), grid), tmp_path / "other.nii.gz")
    command = ["convert", "pet", str(first), "-o", str(tmp_path / "suvr.nii.gz"), "--to", "SUVR", "--reference"]
    masks = [str(tmp_path / "left.nii.gz"), "--reference-region", "whole-cerebellum", "--target"]
    masks += [str(tmp_path / "right.nii.gz"), "--pipeline", "Berkeley"]
    assert main([*command, *masks, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["target SUVR"] == pytest.approx(2) and facts["target Centiloid"] == pytest.approx(188.22 * 2 - 189.16)
    np.testing.assert_allclose(nibabel.load(tmp_path / "suvr.nii.gz").affine[0, 0], 2)
    assert main([*command, str(tmp_path / "other.nii.gz"), "--reference-region", "x", "--overwrite"]) == 2
    assert "expected the grid of the image" in capsys.readouterr().err


def test_two_scanners_at_one_resolution(sessions, tmp_path, capsys):
    """A point becomes a Gaussian of the wanted width; a small target loses contrast, and the command prints it."""
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed (extra `pet`)")
    point = PETImage(np.zeros((31, 31, 31)), np.diag([2.0, 2.0, 2.0, 1.0]), "Bq/mL")
    point.values[15, 15, 15] = 1
    wide = at_resolution(point, 5.0, 13.0)  # 12 mm were added
    assert wide.values.sum() == pytest.approx(1, rel=1e-3) and wide.facts["resolution"] == 13
    at = 2.0 * (np.arange(31) - 15)
    assert np.sum(wide.values.sum((0, 1)) * at**2) ** 0.5 * 2.3548 == pytest.approx(12, rel=0.01)
    bias, spread = cost(point.values + 1, wide.values + 1, point.values > 0)
    assert bias == pytest.approx(wide.values.max() / 2 - 0.5) and spread == 0
    with pytest.raises(InfieldError, match="only widens"):
        at_resolution(point, 8.0, 6.0)
    first, second = sessions
    mask = np.zeros((4, 5, 6), dtype=np.uint8)
    mask[0] = 1  # the bright side
    nibabel.save(nibabel.Nifti1Image(mask, np.diag([-2.0, 2.0, 2.0, 1.0])), tmp_path / "right.nii.gz")
    command = ["convert", "pet", str(first), "-o", str(tmp_path / "s.nii.gz"), "--resolution", "7", "--json"]
    assert main(command) == 2 and "0 numbers of --own-resolution" in capsys.readouterr().err
    command += ["--own-resolution", "5", "--target", str(tmp_path / "right.nii.gz"), "--to", "SUVR", "--reference"]
    assert main([*command, str(tmp_path / "right.nii.gz"), "--reference-region", "x"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (
        facts["resolution, mm"] == 7 and facts["smoothing changed the mean of the target by"][1:] == "0.00%"
    )  # a ratio
    pair = ["convert", "pet", str(first), "--followup", str(second), "-o", str(tmp_path / "pair.zarr"), "--json"]
    assert main([*pair, "--resolution", "7", "--own-resolution", "5", "6"]) == 0
    assert json.loads(capsys.readouterr().out)["smoothing changed the mean of the brighter half by"].startswith("-")


def test_an_empty_file_and_one_of_no_format(tmp_path):
    for name, said in (("a.nii.gz", "0 bytes"), ("a.hv", "0 bytes"), ("a.v", "0 bytes"), ("a.xyz", "'.xyz'")):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(InfieldError, match=said):
            open_image(tmp_path / name, units="SUV")
    (tmp_path / "b.nii").write_bytes(b"not an image" * 50)
    with pytest.raises(InfieldError, match="cannot be read as NIfTI"):
        open_image(tmp_path / "b.nii", units="SUV")


def test_a_dicom_series_with_a_slope_for_each_slice(tmp_path):
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed (extra `pet`)")
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 100, (3, 4, 5)).astype(np.uint16)
    for k in (2, 0, 1):
        header = pydicom.Dataset()
        header.Modality, header.SeriesInstanceUID, header.Units = "PT", "1.2.3", "BQML"
        header.ImageOrientationPatient, header.PixelSpacing = [1, 0, 0, 0, 1, 0], [3.0, 2.0]
        header.ImagePositionPatient, header.SliceThickness = [10.0, 20.0, 4.0 * k], 4.0
        header.Rows, header.Columns, header.BitsAllocated, header.BitsStored, header.HighBit = 4, 5, 16, 16, 15
        header.PixelRepresentation, header.SamplesPerPixel = 0, 1
        header.PhotometricInterpretation = "MONOCHROME2"
        header.RescaleSlope, header.RescaleIntercept, header.ActualFrameDuration = 2.0 + k, 0.0, 60000
        header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.128", f"1.2.3.{k}"
        header.PixelData = stored[k].tobytes()
        header.file_meta = pydicom.dataset.FileMetaDataset()
        header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        header.save_as(tmp_path / f"{9 - k}.dcm", enforce_file_format=True)
    image = open_image(tmp_path).image()
    expected = stored * np.array([2.0, 3, 4])[:, None, None]
    np.testing.assert_allclose(image.values, expected[:, ::-1, ::-1])  # LPS: rows run to the back, columns to the left
    np.testing.assert_allclose(image.affine[:3], [[2, 0, 0, -18], [0, 3, 0, -29], [0, 0, 4, 0]])
    assert image.units == "Bq/mL"


def test_frames_of_unknown_decay_are_taken_one_by_one():
    file = FrameFile(
        path=Path("a.v"),
        format="ECAT 7",
        frames=2,
        read=lambda k: np.full((2, 2, 2), 1.0 + k),
        affine=np.eye(4),
        units="Bq/mL",
        durations=(60.0, 60.0),
        uncorrected="decay_corr_fctr 1 in all",
    )
    with pytest.raises(InfieldError, match="2 frames that are not corrected for decay"):
        file.image()
    assert file.image(1, 1).values.max() == 2
    assert replace(file, uncorrected=None).image().values.max() == 1.5


def test_the_help_of_convert_imports_no_torch():
    code = "import sys\nfrom infield.pipelines.cli import main\ntry:\n    main(['convert', 'pet', '--help'])\n"
    code += "except SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG, check=False)
    assert run.returncode == 0 and "diagnosis" in run.stdout, run.stderr


@pytest.mark.field
@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
def test_an_ecat_file_is_closed(tmp_path):
    """Its frame is 2500 times the scale 2, and no handle stays open, before the frame is read as after it."""
    pytest.importorskip("nibabel")
    ecat(tmp_path)
    found = open_image(tmp_path / "a.v")
    (tmp_path / "a.v").rename(tmp_path / "b.v")
    (tmp_path / "b.v").rename(tmp_path / "a.v")
    assert found.image().values.shape == (3, 4, 5) and (found.image().values == 5000).all()
    del found
    gc.collect()
