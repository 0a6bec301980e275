"""The command `convert`: raw k-space to a measurement file that `reconstruct` takes."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from examples.example_files import checkpoint, kspace, samples
from examples.zarr_files import contents

from infield.datasets.formats.measurement import open_measurement
from infield.datasets.mri.converted import open_held_out
from infield.datasets.mri.kspace import inverse_fourier
from infield.physics.operators.registry import build_operator
from infield.posterior.diagnostics.calibration import predictive_chi_square, relative_l2


@pytest.fixture
def source(tmp_path):
    np.save(tmp_path / "head.npy", kspace())
    return tmp_path / "head.npy"


def test_what_is_converted_is_the_source(tmp_path, infield, source):
    said = infield("convert", "mri", source, "-o", tmp_path / "m.zarr", "--json")
    facts, raw = said.summary, np.load(source)
    sampled = (raw != 0).any(0)
    assert said.err == "" and facts["output"] == str(tmp_path / "m.zarr")
    assert (facts["coils"], facts["shape"], facts["samples"]) == (4, [48, 40], int(sampled.sum()))
    assert facts["held_out_samples"] == 0 and 12 <= facts["calibration_width"] <= 24
    measurement = open_measurement(tmp_path / "m.zarr")
    data = torch.complex(*measurement.y[0]).numpy() * facts["scale"]
    np.testing.assert_allclose(data, raw, atol=1e-12 * np.abs(raw).max())
    assert measurement.channels == ("real", "imag") and open_held_out(tmp_path / "m.zarr") is None
    with xr.open_zarr(tmp_path / "m.zarr", consolidated=False) as file:
        assert file["data"].dtype == np.complex128 and file["data"].dims == ("coil", "ky", "kx")
        assert "head.npy" in file.attrs["title"] and "ESPIRiT" in file.attrs["history"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["head.npy", "m.zarr"]


def test_without_json_a_table(tmp_path, infield, source):
    said = infield("convert", "mri", source, "-o", tmp_path / "m.zarr")
    assert said.status == 0 and said.err == "" and "coils" in said.out and "calibration width" in said.out


def test_held_out_samples_are_set_aside_and_predicted(tmp_path, infield, reconstruct, source):
    """Convert, reconstruct, predict: better than zero-filling, and not with too little spread."""
    brain = tmp_path / "m.zarr"
    said = infield("convert", "mri", source, "-o", brain, "--hold-out", 0.1, "--seed", 3, "--json")
    sampled = (np.load(source) != 0).any(0)
    facts, (mask, y) = said.summary, open_held_out(brain)
    assert facts["held_out_samples"] == int(mask.sum()) == round(0.1 * sampled.sum())
    assert facts["samples"] == int(sampled.sum()) - int(mask.sum())
    measurement = open_measurement(brain)
    kept = measurement.arrays["mask"].astype(bool)
    assert not (kept & mask.numpy()).any() and np.array_equal(kept | mask.numpy(), sampled)
    raw = torch.complex(*(measurement.y + y)[0]).numpy() * facts["scale"]
    np.testing.assert_allclose(raw, np.load(source), atol=1e-12 * np.abs(raw).max())

    assert reconstruct(brain, "-o", tmp_path / "p.zarr", "--samples", 16, "--json").summary["chi_square"] < 2
    held_out = build_operator(
        measurement.description, {**measurement.arrays, "mask": mask.numpy()}, measurement.grid, 2
    )
    predicted = held_out.A(torch.from_numpy(samples(tmp_path / "p.zarr")).double())[:, held_out.observed]
    expected = y[0][held_out.observed]
    zero_filled = held_out.A(measurement.operator.A_adjoint(measurement.y))[0, held_out.observed]
    assert relative_l2(predicted.mean(0), expected) < 0.8 * relative_l2(zero_filled, expected)
    variance = (measurement.noise.variance * torch.ones_like(measurement.y[0]))[held_out.observed]
    assert predictive_chi_square(predicted, variance, expected) < 1.6  # so small an image has signal everywhere: the
    # noise, estimated from the outermost samples, errs to the large side, and the real slice tests the other bound


def test_the_seed_chooses_what_is_held_out(tmp_path, infield, source):
    masks = []
    for name, seed in (("a.zarr", 0), ("b.zarr", 0), ("c.zarr", 1)):
        assert infield("convert", "mri", source, "-o", tmp_path / name, "--hold-out", 0.1, "--seed", seed).status == 0
        masks.append(open_held_out(tmp_path / name)[0])
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def saved(change):
    return lambda path: np.save(path, change(kspace()))


def cut(path):
    np.save(path, kspace())
    path.write_bytes(path.read_bytes()[:5000])


def with_nan(k):
    k[1, 3, 4] = np.nan
    return k


SOURCES = {
    "missing": (lambda path: None, "found no such file"),
    "a folder": (lambda path: path.mkdir(), "found no such file"),
    "text": (lambda path: path.write_text("k-space"), "found no readable NumPy file"),
    "empty": (lambda path: path.write_bytes(b""), "found no readable NumPy file"),
    "truncated": (cut, "found no readable NumPy file"),
    "objects": (lambda path: np.save(path, np.array([{"code": 1}]), allow_pickle=True), "found no readable NumPy file"),
    "a picture": (saved(np.abs), "found values of type float64 of shape"),
    "one coil": (saved(lambda k: k[0]), "found an array of shape (48, 40), expected complex k-space (coil, ky, kx)"),
    "NaN": (saved(with_nan), "found NaN or infinity in 1 of 7680 values, expected finite ones"),
    "zeros": (saved(lambda k: 0 * k), "found 0 everywhere, expected measured samples"),
    "not centred": (saved(lambda k: np.fft.ifftshift(k, (1, 2))), "expected it near the centre (24, 20)"),
    "no calibration block": (
        saved(lambda k: k * (np.indices(k.shape[1:]).sum(0) % 2)),
        "found a fully sampled centre of",
    ),
}


@pytest.mark.parametrize("case", SOURCES)
def test_bad_source(tmp_path, infield, case):
    spoil, words = SOURCES[case]
    path = tmp_path / "raw.npy"
    spoil(path)
    before = contents(tmp_path)
    infield("convert", "mri", path, "-o", tmp_path / "m.zarr").refused(str(path), words)
    assert contents(tmp_path) == before


def test_another_format(tmp_path, infield):
    (tmp_path / "raw.dat").write_bytes(b"")
    said = infield("convert", "mri", tmp_path / "raw.dat", "-o", tmp_path / "m.zarr")
    said.refused(str(tmp_path / "raw.dat"), "found a '.dat' file", ".npy")


@pytest.mark.parametrize("share", ["-0.1", "1", "0.95", "nan", "many"])
def test_odd_share_to_hold_out(tmp_path, infield, source, share):
    said = infield("convert", "mri", source, "-o", tmp_path / "m.zarr", f"--hold-out={share}")
    said.refused("hold-out", share)
    assert [p.name for p in tmp_path.iterdir()] == ["head.npy"]


def test_an_output_that_exists_is_left_alone(tmp_path, infield, source):
    output = tmp_path / "m.zarr"
    output.write_text("precious")
    infield("convert", "mri", source, "-o", output).refused(
        str(output), "found an existing output, expected a new path"
    )
    infield("convert", "mri", source, "-o", output, "--overwrite").refused(str(output), "never overwritten")
    assert output.read_text() == "precious"
    output.unlink()
    assert infield("convert", "mri", source, "-o", output).status == 0
    infield("convert", "mri", source, "-o", output).refused("found an existing output")
    assert infield("convert", "mri", source, "-o", output, "--hold-out", 0.1, "--overwrite").status == 0
    assert open_held_out(output) is not None


def test_output_under_what_is_no_folder(tmp_path, infield, source):
    infield("convert", "mri", source, "-o", source / "m.zarr").refused(str(source / "m.zarr"), "is no folder")


@pytest.mark.parametrize("room", [0, 5, 20])
def test_full_disk(tmp_path, infield, source, full_disk, room):
    with full_disk(after=room):
        said = infield("convert", "mri", source, "-o", tmp_path / "m.zarr")
    said.refused(str(tmp_path / "m.zarr"), "is full; make room and start again")
    assert [p.name for p in tmp_path.iterdir()] == ["head.npy"]


def test_real_slice(tmp_path, infield):
    """The 8-channel brain slice of sigpy's tutorial."""
    if "INFIELD_DATA" not in os.environ:
        pytest.skip("INFIELD_DATA does not name the folder of the real data")
    source = Path(os.environ["INFIELD_DATA"]) / "mri" / "sigpy_cartesian_ksp.npy"
    if not source.exists():
        pytest.skip(f"{source} is not there")
    said = infield("convert", "mri", source, "-o", tmp_path / "brain.zarr", "--hold-out", 0.1, "--json")
    facts = said.summary
    assert said.err == "" and (facts["coils"], facts["shape"], facts["calibration_width"]) == (8, [230, 180], 24)
    assert (facts["samples"], facts["held_out_samples"]) == (4633, 515)
    assert open_measurement(tmp_path / "brain.zarr").count == 2 * 8 * 4633


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """Three slices in fastMRI's format, complete, one point 2 mm wide."""
    path = tmp_path_factory.mktemp("volume") / "file1000000.h5"
    k = np.stack([kspace(shape=(64, 40), share=1.0, seed=seed) for seed in range(3)]).astype(np.complex64)
    with h5py.File(path, "w") as file:
        file["kspace"] = k
        file["reconstruction_rss"] = np.ones((3, 32, 32), dtype=np.float32)
    return path, k


def test_a_slice_is_undersampled_as_fastmri_does(tmp_path, infield, volume):
    path, k = volume
    options = (
        "--slice",
        1,
        "--acceleration",
        2,
        "--mask",
        "equispaced",
        "--centre-fraction",
        0.3,
        "--mask-seed",
        "name",
    )
    facts = infield("convert", "mri", path, "-o", tmp_path / "m.zarr", *options, "--json").summary
    assert facts["truth"] and facts["shape"] == [64, 40] and 1.2 < facts["acceleration"] < 2
    measurement = open_measurement(tmp_path / "m.zarr")
    kept = measurement.arrays["mask"].astype(bool)
    assert (kept.all(0) | ~kept.any(0)).all() and measurement.truth.shape == (1, 2, 64, 40)
    with xr.open_zarr(tmp_path / "m.zarr", consolidated=False) as file:
        assert {"target_rss", "target_file"} <= set(file) and "slice 1 of 3" in file.attrs["history"]
        rss = np.sqrt((np.abs(inverse_fourier(k[1].astype(complex))) ** 2).sum(0))
        np.testing.assert_allclose(file["target_rss"] * file["source_scale"], rss, rtol=1e-6)


def test_several_slices_become_a_folder(tmp_path, infield, volume):
    path, k = volume
    said = infield("convert", "mri", path, "-o", tmp_path / "v", "--slice", "1-2", "--coils-from", "espirit", "--json")
    assert [Path(one["output"]).name for one in said.summary["slices"]] == ["slice_001.zarr", "slice_002.zarr"]
    for number, facts in zip((1, 2), said.summary["slices"], strict=True):
        data = torch.complex(*open_measurement(facts["output"]).y[0]).numpy() * facts["scale"]
        np.testing.assert_allclose(data, k[number], atol=1e-6 * np.abs(k).max())
    infield("convert", "mri", path, "-o", tmp_path / "v", "--slice", "all").refused("slice_001.zarr", "existing output")
    assert not (tmp_path / "v" / "slice_000.zarr").exists()


def test_a_lower_resolution(tmp_path, infield, source):
    options = ("--voxel", 2, 2, "--resolution", 2.5)
    facts = infield("convert", "mri", source, "-o", tmp_path / "m.zarr", *options, "--json").summary
    assert facts["shape"] == [38, 32]
    measurement, fine = open_measurement(tmp_path / "m.zarr"), np.load(source)
    data = torch.complex(*measurement.y[0]).numpy() * facts["scale"]
    np.testing.assert_allclose(data, fine[:, 5:43, 4:36], atol=1e-12 * np.abs(fine).max())
    assert [axis.units for axis in measurement.grid.axes] == ["mm", "mm"]
    assert [round(axis.spacing, 3) for axis in measurement.grid.axes] == [round(96 / 38, 3), 2.5]
    whole = infield("convert", "mri", source, "-o", tmp_path / "f.zarr", "--json").summary["scale"]
    noise = [open_measurement(tmp_path / name).noise.covariance for name in ("m.zarr", "f.zarr")]
    np.testing.assert_allclose(noise[0] * facts["scale"] ** 2, noise[1] * whole**2, rtol=1e-10)  # of the same samples


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--slice", "3"), "found --slice 3, expected 0 to 2"),
        (("--slice", "2-1"), "found --slice 2-1, expected a number, two with a dash between, or all"),
        (("--slice", "1-3"), "there are slices 0 to 2"),
        ((), "found 3 slices, expected one; choose it (--slice 0 to 2)"),
        (("--slice", "0", "--order", "ky,kx"), "of shape (3, 4, 64, 40), axes as named: ky, kx"),
        (("--slice", "0", "--coils-from", "file"), "found no coil maps in the file, expected some"),
        (("--slice", "0", "--mask", "magic"), "--mask: found no --acceleration R"),
        (("--slice", "0", "--acceleration", "4", "--mask-seed", "x"), "--mask-seed: found 'x'"),
        (("--slice", "0", "--resolution", "3"), "--resolution: found no size of a point in the file"),
        (("--slice", "0", "--voxel", "1", "1", "--resolution", "0.5"), "expected a coarser one"),
        (("--slice", "0", "--voxel", "0", "1"), "--voxel: found 0.0 1.0, expected two sizes in mm, above 0"),
    ],
)
def test_bad_options(tmp_path, infield, volume, options, words):
    infield("convert", "mri", volume[0], "-o", tmp_path / "m.zarr", *options).refused(words)
    assert not list(tmp_path.iterdir())


def test_a_truncated_file(tmp_path, infield, volume):
    path = tmp_path / "cut.h5"
    path.write_bytes(volume[0].read_bytes()[:5000])
    infield("convert", "mri", path, "-o", tmp_path / "m.zarr", "--slice", "all").refused(str(path), "copy it again")


def test_a_real_prior_of_complex_data(tmp_path, infield, reconstruct, source):
    infield("convert", "mri", source, "-o", tmp_path / "m.zarr")
    said = reconstruct(tmp_path / "m.zarr", "-o", tmp_path / "p.zarr", "--prior", checkpoint(tmp_path / "real.ckpt"))
    said.refused("real.ckpt", "found a prior of real fields, expected one of complex fields")
