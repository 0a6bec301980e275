"""Counts of scanners: headers, list mode, what is no count, and real files where they are."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from infield.core.errors import InfieldError
from infield.datasets.formats.measurement import open_measurement
from infield.datasets.pet.counts import Sinograms, check_counts, measurement_of
from infield.datasets.pet.readers.interfile import open_interfile, read_header
from infield.datasets.pet.readers.list_mode import direct_planes, open_list_mode, ring_differences, smoothed_randoms
from infield.datasets.pet.readers.sinograms import open_sinograms
from infield.pipelines.cli import main

DATA = Path(os.environ.get("INFIELD_DATA", "")) / "pet"
REAL = pytest.mark.skipif(not (DATA / "stir").is_dir(), reason="no $INFIELD_DATA/pet")

HEADER = """!INTERFILE  :=
 name of data file := {name}
imagedata byte order := {order}
!number format := float
!NUMBER OF BYTES PER PIXEL := 4
number of dimensions := 4
matrix axis label [4] := segment
!matrix size [4] := 3
matrix axis label [{view}] := view
!matrix size [{view}] := 4
matrix axis label [{axial}] := axial coordinate
!matrix size [{axial}] := {{ 1, 2,1 }}
matrix axis label [1] := tangential coordinate
!matrix size [1] := 5
effective central bin size (cm) := 0.3
distance between rings (cm) := 0.65
!END OF INTERFILE :=
"""


def write_sinograms(folder, values, *, view=3, order="LITTLEENDIAN"):
    (folder / "a.hs").write_text(HEADER.format(name="a.s", view=view, axial=5 - view, order=order))
    values.astype("<f4" if order == "LITTLEENDIAN" else ">f4").tofile(folder / "a.s")
    return folder / "a.hs"


@pytest.mark.parametrize("order", ["LITTLEENDIAN", "BIGENDIAN"])
@pytest.mark.parametrize("view", [3, 2])
def test_axes_and_bytes_are_as_the_header_says(tmp_path, view, order):
    middle = np.random.default_rng(0).poisson(5, (2, 4, 5)).astype(float)
    stored = middle if view == 2 else middle.transpose(1, 0, 2)
    values = np.concatenate([np.full(20, 90.0), stored.ravel(), np.full(20, 80.0)])
    found = open_sinograms(write_sinograms(tmp_path, values, view=view, order=order))
    np.testing.assert_array_equal(found.counts, middle)
    np.testing.assert_allclose(found.positions, [-6, -3, 0, 3, 6])
    assert found.spacing == 6.5


def test_what_is_no_number_of_events_is_refused(tmp_path):
    for values, said in (
        (np.array([1.0, -1, -2]), "2 bins below 0.*subtracted already"),
        (np.array([1.0, 0.5]), "not whole numbers"),
        (np.zeros(3), "0 in every bin"),
    ):
        with pytest.raises(InfieldError, match=said):
            check_counts(values)
    header = write_sinograms(tmp_path, np.ones(79))
    with pytest.raises(InfieldError, match="316 bytes, expected 320"):
        open_sinograms(header)
    (tmp_path / "a.s").write_bytes(b"")
    with pytest.raises(InfieldError, match="0 bytes"):
        open_sinograms(header)
    (tmp_path / "b.hs").write_text("nothing")
    with pytest.raises(InfieldError, match="INTERFILE"):
        open_sinograms(tmp_path / "b.hs")


def test_events_on_rays_that_miss_the_image_are_refused():
    """Without background they have probability 0 under every activity; the width that the remedy names takes them."""
    counts = np.ones((1, 6, 9), dtype=int)
    angles = np.arange(6) * 30.0
    found = Sinograms(counts=counts, angles=angles, positions=10.0 * (np.arange(9) - 4), spacing=1.0)
    with pytest.raises(InfieldError, match=r"rays miss the image of 40 mm.*100 mm") as refusal:
        measurement_of(found, pixel=10.0, field_of_view=40.0)
    assert list(refusal.value.parameters) == ["field_of_view"]
    m = measurement_of(found, pixel=10.0, field_of_view=100.0)
    assert bool(torch.isfinite(m.log_likelihood(torch.zeros(1, 1, *m.grid.shape, dtype=torch.float64))).all())
    assert measurement_of(replace(found, randoms=np.full(counts.shape, 0.1)), pixel=10.0, field_of_view=40.0)


def test_planes_of_list_mode_lie_between_their_rings():
    assert len(direct_planes()) == len(ring_differences()) == 4084
    assert direct_planes()[:3].tolist() == [0, 2, 4] and direct_planes()[64:66].tolist() == [1, 3]
    pairs = np.bincount(direct_planes())
    assert pairs[:3].tolist() == [1, 2, 3] and pairs.max() == 61 and len(pairs) == 127


def test_events_are_told_apart_and_put_where_they_belong(tmp_path):
    address = (64 * 252 + 17) * 344 + 40  # the first plane of segment +1: rings 0 and 1
    words = np.array([address | 1 << 30, address, address | 1 << 30, 0x80000005, 3 | 1 << 30], dtype="<u4")
    words.tofile(tmp_path / "a.l")
    lines = ("number of rings:=64", "%number of views:=252", "%number of projections:=344", "name of data file:=a.l")
    (tmp_path / "a.l.hdr").write_text("!INTERFILE:=\n" + "\n".join(lines))
    found = open_list_mode(tmp_path / "a.l.hdr")
    assert found.counts[1, 17, 40] == 2 and found.counts[0, 0, 3] == 1 and found.counts.sum() == 3
    assert "3 prompts, 1 delayeds, 1 time marks" in found.history[0]
    np.testing.assert_allclose(found.randoms.sum(), 1)
    assert open_list_mode(tmp_path / "a.l.hdr", ring_difference=0).counts.sum() == 1
    assert np.diff(found.positions).min() < 0.95 * np.diff(found.positions).max()
    np.array([4084 * 252 * 344], dtype="<u4").tofile(tmp_path / "a.l")
    with pytest.raises(InfieldError, match="an event of plane 4084"):
        open_list_mode(tmp_path / "a.l.hdr")


def test_randoms_keep_the_sums_of_the_delayeds():
    delayeds = np.random.default_rng(0).poisson(1.0, (3, 4, 5))
    smooth = smoothed_randoms(delayeds)
    for axes in ((0, 1), (0, 2), (1, 2)):
        np.testing.assert_allclose(smooth.sum(axes), delayeds.sum(axes))
    assert not smoothed_randoms(np.zeros((3, 4, 5))).any()


def test_a_transmission_scan_becomes_a_measurement(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "t.npy", rng.poisson(20, (9, 6)))
    np.save(tmp_path / "b.npy", np.full((9, 6), 40.0))
    command = ["convert", "pet", str(tmp_path / "t.npy"), "-o", str(tmp_path / "m.zarr"), "--blank"]
    command += [str(tmp_path / "b.npy"), "--order", "radial,angle", "--pixel", "6"]
    assert main([*command]) == 2
    assert "no width of a bin, expected one in mm; give it (--bin-width)" in capsys.readouterr().err
    assert main([*command, "--bin-width", "3", "--quiet"]) == 0
    measurement = open_measurement(tmp_path / "m.zarr")
    assert measurement.y.shape == (1, 1, 6, 9) and measurement.channels == ("log_attenuation",)
    x = torch.zeros((1, *measurement.event_shape), dtype=torch.float64)
    assert measurement.operator.A(x - 50).allclose(torch.tensor(40.0, dtype=torch.float64))  # no absorber: the blank


@REAL
def test_files_of_stir_are_read_and_refused():
    found = open_list_mode(DATA / "stir" / "PET_ACQ_small.l.hdr.STIR")
    assert "218,881 prompts, 35,320 delayeds, 613 time marks" in found.history[0]
    with pytest.raises(InfieldError, match="36,919 bins below 0"):
        open_sinograms(DATA / "stir" / "smalllong.hs")
    image = open_interfile(DATA / "stir" / "init.hv", units="Bq/mL").image()
    assert image.values.shape == (31, 60, 60) and image.affine[0, 0] == pytest.approx(4.44114)
    assert read_header(DATA / "stir" / "smalllong.hs")["matrix axis label[3]"] == "view"


@REAL
def test_ecat_is_opened_by_its_own_reader():
    pytest.importorskip("nibabel", reason="nibabel is not installed (extra `pet`)")
    from infield.datasets.pet.readers.open import open_image

    file = open_image(DATA / "nibabel" / "tinypet.v")
    assert file.frames == 1 and file.read(0).shape == (10, 10, 3) and "F-18" in file.facts["TracerRadionuclide"]
    with pytest.raises(InfieldError, match="calibrated twice"):
        file.image()


@REAL
def test_the_official_example_of_bids_is_refused_for_its_frames():
    pytest.importorskip("nibabel", reason="nibabel is not installed (extra `pet`)")
    from infield.datasets.pet.readers.open import open_image

    folder = DATA / "bids_examples" / "pet001" / "sub-01" / "ses-01" / "pet"
    with pytest.raises(InfieldError, match="45 FrameDuration, which holds end times, expected 21"):
        open_image(folder / "sub-01_ses-01_trc-CIMBI36_pet.nii.gz")


@REAL
def test_real_transmission_counts_are_explained_and_not_those_of_swapped_axes():
    """Deviance per datum after a few steps of L-BFGS, at 8 mm: 1 where the model is right."""
    assert 0.9 < deviance_after_fit(("radial", "angle")) < 1.2
    assert deviance_after_fit(("angle", "radial")) > 5


def deviance_after_fit(order, pixel=8.0, steps=25):
    folder, bin_width = DATA / "mirt_trans_sino", 3.0 if order[0] == "radial" else 2.5
    found = open_sinograms(folder / "phan_trans.mat", bin_width=bin_width, order=order, blank=folder / "phan_blank.mat")
    m = measurement_of(found, pixel=pixel)
    y, shape = m.y, (1, *m.event_shape)
    x = torch.full(shape, -2.0, dtype=torch.float64, requires_grad=True)
    fit = torch.optim.LBFGS([x], max_iter=steps, line_search_fn="strong_wolfe")

    def loss():
        fit.zero_grad()
        edges = sum((x.diff(dim=d).square() + 0.01).sqrt().sum() for d in (-1, -2))
        value = -m.log_likelihood(x).sum() + edges
        value.backward()
        return value

    fit.step(loss)
    with torch.no_grad():
        z = m.operator.A(x)
    terms = torch.xlogy(y, y / z) - (y - z)
    return float(2 * terms.mean())
