"""Files as people have them: each made by a few lines, with the right value worked out beside it."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from infield.core.errors import InfieldError
from infield.datasets.pet.image import read_image
from infield.datasets.pet.interval import years_between
from infield.datasets.pet.readers.open import open_image
from infield.datasets.pet.sidecar import MAY_BE_UNKNOWN, REQUIRED
from infield.pipelines.cli import main

AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])
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
    "FrameTimesStart": [3000, 3300],
    "FrameDuration": [300, 600],
    "ReconMethodParameterLabels": ["none"],
    "ReconFilterType": "none",
}


def save(path, levels=(4000.0, 7000.0), affine=AFFINE, encoding="utf-8", **change):
    """Uniform frames, and a sidecar."""
    values = np.stack([np.full((3, 4, 5), v) for v in levels], -1).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(SIDECAR | change), encoding=encoding)
    return path


@pytest.fixture
def convert(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*options):
        status = main(["convert", "pet", *map(str, options), "-o", "o.zarr", "--json"])
        said = capsys.readouterr()
        return (status, said.err) if status else json.loads(said.out)

    return run


def test_frames_with_a_gap_are_weighted_by_their_durations_alone(tmp_path):
    """300 s of 4000 and, after a pause of 100 s, 600 s of 7000: (300 * 4000 + 600 * 7000) / 900 = 6000."""
    path = save(tmp_path / "a_pet.nii.gz", FrameTimesStart=[3000, 3400])
    image = open_image(path).image()
    np.testing.assert_allclose(image.values, 6000)
    assert image.facts["window"] == [3000, 4000]


def test_frames_that_are_not_corrected_for_decay(tmp_path):
    """A uniform tracer measured without correction: each frame's mean activity is the integral of the decay over it."""
    rate = np.log(2) / 6586.2

    def seen(start, duration):  # of 5000 Bq/mL at 3000 s
        return 5000 * (np.exp(-rate * start) - np.exp(-rate * (start + duration))) / (rate * duration)

    levels = [seen(0, 300), seen(300, 600)]
    plain = save(tmp_path / "a_pet.nii.gz", levels, ImageDecayCorrected=False)
    np.testing.assert_allclose(open_image(plain).image().values, 5000, rtol=1e-6)
    as_if = save(tmp_path / "b_pet.nii.gz", levels)
    assert open_image(as_if).image().values.max() < 4900  # the control


def test_a_sidecar_with_a_byte_order_mark(tmp_path):
    path = save(tmp_path / "a_pet.nii.gz", encoding="utf-8-sig")
    np.testing.assert_allclose(open_image(path).image().values, 6000)


def test_weights_of_a_table_with_a_byte_order_mark_and_a_dose_in_millicurie(tmp_path, convert):
    """10 mCi = 370 MBq at 0 s, an image corrected to 3000 s: 6000 * 70000 / (3.7e8 * 2^(-3000 / 6586.2)) = 1.5565."""
    save(tmp_path / "sub-1_pet.nii.gz", InjectedRadioactivity=10, InjectedRadioactivityUnits="mCi")
    (tmp_path / "participants.tsv").write_text("participant_id\tweight\nsub-1\t70\n", encoding="utf-8-sig")
    expected = 6000 * 70e3 / (370e6 * 2 ** (-3000 / 6586.2))
    assert convert("sub-1_pet.nii.gz", "--to", "SUV")["mean"] == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(1.5565, abs=1e-4)


@pytest.mark.parametrize(("units", "factor"), [("kBq/mL", 1e3), ("KBQ/ML", 1e3), (" MBq / mL ", 1e6), ("BQML", 1)])
def test_units_as_people_spell_them(tmp_path, units, factor):
    path = save(tmp_path / "a_pet.nii.gz", (4.0, 7.0), Units=units)
    np.testing.assert_allclose(open_image(path).image().values, 6 * factor)


def test_a_file_without_an_orientation_is_refused(tmp_path):
    """Both codes 0: readers guess that x points to the left, and half of them guess otherwise."""
    path = save(tmp_path / "a_pet.nii.gz")
    image = nibabel.load(path)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header), tmp_path / "b_pet.nii.gz")
    (tmp_path / "b_pet.json").write_text(json.dumps(SIDECAR))
    with pytest.raises(InfieldError, match="no orientation, so that left and right are not known"):
        open_image(tmp_path / "b_pet.nii.gz")
    image.set_qform(AFFINE, code=1)  # one code is enough
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header), tmp_path / "b_pet.nii.gz")
    assert open_image(tmp_path / "b_pet.nii.gz").image().voxel == (2, 2, 2)


def test_an_affine_in_metres(tmp_path):
    path = save(tmp_path / "a_pet.nii.gz", affine=np.diag([0.002, 0.002, 0.003, 1]))
    image = nibabel.load(path)
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "a_pet.nii.gz")
    np.testing.assert_allclose(open_image(path).image().voxel, (3, 2, 2), rtol=1e-6)


def test_scaled_integers(tmp_path):
    """int16 with slope 0.5 and intercept 10: stored 100 is 60."""
    path = tmp_path / "a_pet.nii.gz"
    image = nibabel.Nifti1Image(np.full((3, 4, 5), 100, np.int16), AFFINE)
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, path)
    raw = nibabel.load(path)
    expected = float(np.asarray(raw.dataobj)[0, 0, 0])
    (tmp_path / "a_pet.json").write_text(json.dumps(SIDECAR | {"FrameTimesStart": [3000], "FrameDuration": [900]}))
    np.testing.assert_allclose(open_image(path).image().values, expected)


def masks(folder, **values):
    for name, v in values.items():
        mask = np.zeros((3, 4, 5), np.int16)
        mask[1:] = np.broadcast_to(np.asarray(v).reshape(-1, 1, 1), (2, 4, 5))
        nibabel.save(nibabel.Nifti1Image(mask, AFFINE), folder / f"{name}.nii.gz")


def test_an_atlas_in_place_of_a_mask_is_refused_and_a_mask_of_255_is_one(tmp_path, convert):
    save(tmp_path / "a_pet.nii.gz")
    masks(tmp_path, atlas=[8, 47], bright=[255, 255], one=[1, 1])
    ratio = ("--to", "SUVR", "--reference-region", "whole-cerebellum", "--reference")
    status, said = convert("a_pet.nii.gz", *ratio, "atlas.nii.gz")
    assert status == 2 and "2 values above 0, up to 47: labels of an atlas" in said and said.count("\n") == 1
    for name in ("bright", "one"):
        assert convert("a_pet.nii.gz", *ratio, f"{name}.nii.gz", "--overwrite")["mean"] == pytest.approx(1)


def test_two_sessions_of_two_tracers(tmp_path, convert):
    save(tmp_path / "a_pet.nii.gz")
    save(tmp_path / "b_pet.nii.gz", TracerName="florbetaben")
    save(tmp_path / "c_pet.nii.gz", TracerName="Florbetapir")
    status, said = convert("a_pet.nii.gz", "--followup", "b_pet.nii.gz", "--years", 2)
    assert status == 2 and "tracer florbetaben, expected florbetapir" in said
    assert convert("a_pet.nii.gz", "--followup", "c_pet.nii.gz", "--years", 2)["years"] == 2


def sessions(folder, first, second, encoding="utf-8"):
    text = f"filename\tacq_time\npet/sub-1_ses-a_pet.nii.gz\t{first}\npet/sub-1_ses-b_pet.nii.gz\t{second}\n"
    (folder / "sub-1_scans.tsv").write_text(text, encoding=encoding)
    return [folder / "pet" / f"sub-1_ses-{s}_pet.nii.gz" for s in "ab"]


def test_times_of_sessions(tmp_path):
    """2 x 365.25 days of 24 h; shifted to 1925 as anonymisation does; one time with a zone, the other without."""
    for encoding in ("utf-8", "utf-8-sig"):
        both = sessions(tmp_path, "1925-01-01T12:00:00", "1927-01-02T00:00:00", encoding)
        assert years_between(*both) == pytest.approx((365 + 365 + 0.5) / 365.25)
    both = sessions(tmp_path, "2020-01-01T12:00:00", "2022-01-01T12:00:00Z")
    assert years_between(*both) == pytest.approx((366 + 365) / 365.25)
    both = sessions(tmp_path, "2020-01-01T12:00:00+02:00", "2020-01-11T10:00:00+00:00")
    assert years_between(*both) == pytest.approx(10 / 365.25)
    with pytest.raises(InfieldError, match=r"acq_time '01/02/2020'.*YYYY-MM-DD"):
        years_between(*sessions(tmp_path, "01/02/2020", "2022-01-01T12:00:00"))
    with pytest.raises(InfieldError, match="expected above 0"):
        years_between(*sessions(tmp_path, "2022-01-01T12:00:00", "2020-01-01T12:00:00"))
    with pytest.raises(InfieldError, match="no acq_time"):
        years_between(*sessions(tmp_path, "n/a", "2020-01-01T12:00:00"))


HEADER = """!INTERFILE :=
!PET data type := Image
name of data file := a.v
imagedata byte order := LITTLEENDIAN
!number format := signed integer
!number of bytes per pixel := 2
!matrix size [1] := 3
scaling factor (mm/pixel) [1] := 4
!matrix size [2] := 2
scaling factor (mm/pixel) [2] := 5
!matrix size [3] := 2
scaling factor (mm/pixel) [3] := 6
"""


def test_interfile_frames_have_their_own_scales(tmp_path):
    """Frame 1: 100 * 2 for 60 s; frame 2: 100 * 5 for 180 s: (60 * 200 + 180 * 500) / 240 = 425."""
    (tmp_path / "a.v").write_bytes(np.full(24, 100, "<i2").tobytes())
    text = HEADER + "number of time frames := 2\n" + "".join(
        f"image scaling factor[{k}] := {scale}\nimage duration (sec) [{k}] := {duration}\n"
        f"image relative start time (sec) [{k}] := {start}\n"
        for k, scale, duration, start in ((1, 2, 60, 0), (2, 5, 180, 60))
    )  # fmt: skip
    (tmp_path / "a.hv").write_text(text)
    image = open_image(tmp_path / "a.hv", units="Bq/mL").image()
    np.testing.assert_allclose(image.values, 425)
    assert image.facts["window"] == [0, 240]


def test_interfile_offsets_are_obeyed(tmp_path):
    """The voxel that is bright lies at -4 + 2 * 4 = 4 mm along STIR's x, the patient's left: x = -4 mm in RAS."""
    data = np.zeros((2, 2, 3), "<i2")
    data[1, 0, 2] = 7
    (tmp_path / "a.v").write_bytes(data.tobytes())
    offsets = "".join(f"first pixel offset (mm) [{k}] := {v}\n" for k, v in ((1, -4), (2, 10), (3, 20)))
    for text, world in ((HEADER, (-4, 2.5, -6)), (HEADER + offsets, (-4, -10, -26))):
        (tmp_path / "a.hv").write_text(text.replace("\n", "\r\n"))
        image = open_image(tmp_path / "a.hv", units="counts").image()
        z, y, x = np.argwhere(image.values == 7)[0]
        np.testing.assert_allclose((image.affine @ [x, y, z, 1])[:3], world)
    (tmp_path / "a.v").write_bytes(data.tobytes()[:-1])
    with pytest.raises(InfieldError, match=r"23 bytes.*24"):
        open_image(tmp_path / "a.hv", units="counts")


def series(folder, correction="START", start="101500", injected="093000.00", half="6586.2"):
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed (extra `pet`)")
    folder.mkdir()
    for k in range(3):
        header = pydicom.Dataset()
        header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.128", f"1.2.3.{k + 1}"
        header.Modality, header.SeriesInstanceUID = "PT", "1.2.3"
        header.ImageOrientationPatient, header.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 3 * k]
        header.PixelSpacing, header.SliceThickness, header.Units = [2, 2], 3, "BQML"
        header.RescaleSlope, header.RescaleIntercept = k + 1, 0
        header.SeriesTime, header.AcquisitionTime, header.DecayCorrection = start, start, correction
        header.ActualFrameDuration, header.PatientWeight = 600000, 70
        drug = pydicom.Dataset()
        drug.Radiopharmaceutical, drug.RadionuclideTotalDose = "Florbetapir", 3.7e8
        drug.RadiopharmaceuticalStartTime, drug.RadionuclideHalfLife = injected, half
        header.RadiopharmaceuticalInformationSequence = [drug]
        header.Rows, header.Columns, header.BitsAllocated, header.BitsStored, header.HighBit = 2, 2, 16, 16, 15
        header.PixelRepresentation, header.SamplesPerPixel = 0, 1
        header.PhotometricInterpretation = "MONOCHROME2"
        header.PixelData = np.full((2, 2), 1000, "<u2").tobytes()
        header.file_meta = pydicom.dataset.FileMetaDataset()
        header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return folder


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        ({}, 2700),  # from 09:30 to 10:15, to which the image is corrected
        ({"correction": "ADMIN"}, 0),
        ({"start": "001000", "injected": "233000"}, 2400),  # past midnight
    ],
)
def test_suv_of_a_dicom_series(tmp_path, convert, change, seconds):
    """1000, 2000 and 3000 Bq/mL, 70 kg, 370 MBq at injection."""
    series(tmp_path / "s", **change)
    expected = 2000 * 70e3 / (3.7e8 * 2 ** (-seconds / 6586.2))
    assert convert("s", "--to", "SUV")["mean"] == pytest.approx(expected, rel=1e-6)
    assert read_image(tmp_path / "o.zarr").units == "g/mL"


def test_suv_of_a_dicom_series_that_lacks_a_time_is_refused(tmp_path, convert):
    series(tmp_path / "s", injected="")
    status, said = convert("s", "--to", "SUV")
    assert status == 2 and "no weight, no dose or no time of injection" in said
    series(tmp_path / "t", half="66.0")  # another nuclide
    assert convert("t", "--to", "SUV")[0] == 2
