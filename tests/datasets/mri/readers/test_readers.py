"""Readers of k-space on files in the real formats, written here, and on real files; what is damaged in one line."""

import os
import sys
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
import scipy.io
from examples.kspace_examples import (
    COILS,
    PSI,
    ROOT,
    fourier,
    head,
    inverse,
    kspace,
    white,
    write_cfl,
    write_fastmri,
    write_mat_73,
    write_mrd,
    xml,
)

from infield import InfieldError
from infield.datasets.mri.convert import Undersampling, convert_mri
from infield.datasets.mri.kspace import minimum_variance_unbiased
from infield.datasets.mri.readers.common import ArrayLayout
from infield.datasets.mri.readers.open import open_kspace

SHAPE = (20, 15)
VOLUME = np.stack([kspace(SHAPE, seed=s) for s in range(3)]).astype(np.complex64)  # (slice, coil, ky, kx)


def read(path, number=None, **layout):
    with open_kspace(path, ArrayLayout(**layout)) as file:
        return file.slice(number)


def save_npz(path, **more):
    np.savez(path, kspace=VOLUME, **more)
    return path


ARRAYS = {
    "npy": lambda p: np.save(p / "k.npy", VOLUME) or p / "k.npy",
    "npz": lambda p: save_npz(p / "k.npz"),
    "mat": lambda p: scipy.io.savemat(p / "k.mat", {"kspace": VOLUME.transpose(2, 3, 1, 0)}) or p / "k.mat",
    "mat 7.3": lambda p: write_mat_73(p / "k.mat", kspace=VOLUME.transpose(2, 3, 1, 0)),
    "cfl": lambda p: write_cfl(p / "k.cfl", VOLUME, (0, 1)),
    "cfl along PHS1 and PHS2": lambda p: write_cfl(p / "k.cfl", VOLUME, (1, 2)),
    "fastMRI": lambda p: write_fastmri(p / "k.h5", VOLUME),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_round_trip_of_a_volume(tmp_path, kind):
    """Every format gives back each slice bit by bit, coil, ky, kx in their places; odd shapes tell the axes apart."""
    path = ARRAYS[kind](tmp_path)
    for number in (0, 2):
        found = read(path, number)
        np.testing.assert_array_equal(found.samples, VOLUME[number])
        assert found.samples.dtype == np.complex128 and found.mask.all() and found.complete
        assert path.name in found.history[0]
    with pytest.raises(InfieldError, match=r"found 3 slices, expected one; choose it \(slice_number 0 to 2\)"):
        read(path)
    with pytest.raises(InfieldError, match="found slice_number=3, expected 0 to 2"):
        read(path, 3)


@pytest.mark.parametrize("kind", ["mat", "mat 7.3", "npz"])
def test_what_lies_beside_the_data_is_read(tmp_path, kind):
    maps, mask = head(SHAPE)[1], np.arange(SHAPE[0])[:, None] % 2 == np.zeros(SHAPE[1])
    if kind == "npz":
        path = save_npz(tmp_path / "k.npz", maps=maps, mask=mask, psi=PSI)
    else:
        arrays = {
            "ksp": VOLUME.transpose(2, 3, 1, 0),
            "sens": maps.transpose(1, 2, 0),
            "mask": mask.astype(float),
            "noise_cov": PSI,
        }
        path = tmp_path / "k.mat"
        write_mat_73(path, **arrays) if kind == "mat 7.3" else scipy.io.savemat(path, arrays)
    found = read(path, 1)
    np.testing.assert_array_equal(found.coil_maps, maps)
    np.testing.assert_array_equal(found.noise_covariance, PSI)
    np.testing.assert_array_equal(found.mask, mask)
    np.testing.assert_array_equal(found.samples, VOLUME[1] * mask)
    assert not found.complete


def test_axes_can_be_named(tmp_path):
    np.save(tmp_path / "k.npy", VOLUME.transpose(3, 1, 0, 2))
    found = read(tmp_path / "k.npy", 1, order=("kx", "coil", "slice", "ky"))
    np.testing.assert_array_equal(found.samples, VOLUME[1])
    np.save(tmp_path / "one.npy", VOLUME[0, 0].T)
    np.testing.assert_array_equal(read(tmp_path / "one.npy", order=("kx", "ky")).samples, VOLUME[0, :1])
    scipy.io.savemat(tmp_path / "k.mat", {"a": VOLUME[0], "b": VOLUME[1], "t": 3.0})
    with pytest.raises(InfieldError, match=r"found 2 complex arrays \(a .*expected one.*\(variable\)"):
        read(tmp_path / "k.mat")
    found = read(tmp_path / "k.mat", variable="b", order=("coil", "ky", "kx"))
    np.testing.assert_array_equal(found.samples, VOLUME[1])


def test_whole_numbers_may_be_zero_by_chance(tmp_path):
    """Counts of a converter: a few zeros in measured lines; real numbers that are 0 were not measured."""
    counts = 2 * np.rint(300 * VOLUME[:1, :1]) + 1 + 1e-9j
    counts[0, 0, 3, 4] = counts[0, 0, 9, 9] = 0
    counts[:, :, 5] = 0
    np.save(tmp_path / "k.npy", counts)
    assert np.array_equal(read(tmp_path / "k.npy").mask.all(1), np.arange(20) != 5)
    np.save(tmp_path / "k.npy", counts + 0.25 * (counts != 0))
    assert (~read(tmp_path / "k.npy").mask).sum() == 15 + 2
    counts[:, :, ::2, 3] = 0
    np.save(tmp_path / "k.npy", counts)
    assert (~read(tmp_path / "k.npy").mask).sum() == 15 + 2 + 10


def test_complex_images_become_kspace(tmp_path):
    image = head(SHAPE)[0]
    scipy.io.savemat(tmp_path / "m.mat", {"m1": image})
    found = read(tmp_path / "m.mat", image=True)
    np.testing.assert_allclose(found.samples, fourier(image)[None], atol=1e-14)
    assert "computed from complex images" in found.history[0]


def test_numpy_and_hdf5_are_read_slice_by_slice(tmp_path):
    """What is wrong with one slice does not hinder another: it is not read."""
    spoiled = VOLUME.copy()
    spoiled[1, 0, 0, 0] = np.nan
    np.save(tmp_path / "k.npy", spoiled)
    write_fastmri(tmp_path / "k.h5", spoiled)
    write_mat_73(tmp_path / "k.mat", kspace=spoiled.transpose(2, 3, 1, 0))
    write_cfl(tmp_path / "k.cfl", spoiled, (0, 1))
    for name in ("k.npy", "k.h5", "k.mat", "k.cfl"):
        np.testing.assert_array_equal(read(tmp_path / name, 2).samples, VOLUME[2])
        with pytest.raises(InfieldError, match="found NaN or infinity"):
            read(tmp_path / name, 1)


def fastmri(shape=(40, 27), left=2, right=3, noise=0.0):
    """One oversampled slice as fastMRI stores it: columns at the edges were not measured; and its cropped image."""
    k = kspace(shape, field=2.0, noise=noise)
    k[:, :, :left] = 0
    k[:, :, shape[1] - right :] = 0
    start = shape[0] // 4
    return k, inverse(k)[:, start : start + shape[0] // 2]


def test_fastmri_readout_padding_target_and_sizes(tmp_path):
    k, images = fastmri()
    rss = np.sqrt((np.abs(images) ** 2).sum(0))[None, :, 3:23]
    header = xml(40, 27, 20, ry=20, centre=11, last=21)
    path = write_fastmri(tmp_path / "file1.h5", k[None], header=header, reconstruction_rss=rss)
    found = read(path)
    np.testing.assert_allclose(inverse(found.samples), images, atol=1e-6)
    assert found.samples.shape == (COILS, 20, 27) and found.readout == 0
    measured = np.flatnonzero(found.mask.any(0))
    assert (measured[0], measured[-1], len(measured)) == (2, 23, 22) and found.complete
    np.testing.assert_allclose(found.target, rss[0], rtol=1e-6)
    assert found.voxel == pytest.approx((220 / 20, 2.0))
    assert "AXT2" in found.history[0] and "readout of 40 rows cropped to 20" in found.history[1]


def test_fastmri_test_files(tmp_path):
    """A mask and no target; the columns that the mask leaves out are zeros, or taken for such."""
    k, _ = fastmri(left=0, right=0)
    mask = np.arange(27) % 3 == 0
    path = write_fastmri(tmp_path / "t.h5", k[None], header=xml(40, 27, 20), mask=mask)
    found = read(path)
    assert found.target is None and np.array_equal(found.mask.all(0), mask) and not found.complete
    assert (found.samples[:, :, ~mask] == 0).all() and (found.samples[:, :, mask] != 0).any()
    zeros = write_fastmri(tmp_path / "z.h5", (k * mask)[None], header=xml(40, 27, 20))  # M4Raw's way: no mask
    np.testing.assert_array_equal(read(zeros).samples, found.samples)


def test_fastmri_single_coil(tmp_path):
    k, images = fastmri(left=0, right=0)
    esc = np.abs(images[:1])
    path = write_fastmri(tmp_path / "s.h5", k[:1], reconstruction_esc=esc)
    found = read(path)
    np.testing.assert_array_equal(found.samples, k[:1].astype(np.complex64))  # no header: nothing is cropped
    np.testing.assert_allclose(found.target, esc[0], rtol=1e-6)
    assert found.voxel is None
    converted = convert_mri(path)
    assert (converted.measurement.arrays["coil_maps"] == 1).all()


NOISE, CALIBRATION, BOTH, REVERSE, NAVIGATION = (
    ismrmrd.ACQ_IS_NOISE_MEASUREMENT,
    ismrmrd.ACQ_IS_PARALLEL_CALIBRATION,
    ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING,
    ismrmrd.ACQ_IS_REVERSE,
    ismrmrd.ACQ_IS_NAVIGATION_DATA,
)


def oversampled(shape=(24, 20)):
    """k-space (coil, ky, 2 kx) of a field of view twice as wide as the head along kx, and its image's middle."""
    image, maps = (np.swapaxes(a, -2, -1) for a in head((2 * shape[1], shape[0]), field=2.0))
    return fourier(maps * image), (maps * image)[..., shape[1] // 2 : shape[1] // 2 + shape[1]]


def lines(k, **fields):
    return [{"data": k[:, ky], "kspace_encode_step_1": ky, **fields} for ky in range(k.shape[1])]


def noise_lines(count=40, samples=100, seed=0, factor=1.0, **fields):
    rng = np.random.default_rng(seed)
    draws = [factor * ROOT @ white(rng, COILS, samples) for _ in range(count)]
    return [{"data": n, "flags": [NOISE], **fields} for n in draws]


def test_mrd_readout_is_cropped_and_lines_come_in_any_order(tmp_path):
    k, images = oversampled()
    shuffled = lines(k)
    np.random.default_rng(0).shuffle(shuffled)
    found = read(write_mrd(tmp_path / "a.mrd", xml(40, 24, 20), shuffled))
    np.testing.assert_allclose(inverse(found.samples), images, atol=1e-6)
    assert found.mask.all() and found.readout == 1 and found.noise_covariance is None
    assert found.voxel == pytest.approx((2.0, 11.0))


def test_mrd_reverse_lines_are_turned_round(tmp_path):
    k, images = oversampled()
    told = lines(k)
    for line in told[1::2]:
        line["data"], line["flags"] = line["data"][:, ::-1], [REVERSE]
    np.testing.assert_allclose(
        inverse(read(write_mrd(tmp_path / "a.h5", xml(40, 24, 20), told)).samples), images, atol=1e-6
    )
    for line in told[1::2]:
        line["flags"] = []  # negative control: taken as they are
    wrong = inverse(read(write_mrd(tmp_path / "b.h5", xml(40, 24, 20), told)).samples)
    assert np.abs(wrong - images).max() > 0.1


def test_mrd_noise_lines_give_the_covariance_in_the_bandwidth_of_the_data(tmp_path):
    """Noise lines of half the dwell time have twice the variance; the header's ratio counts too."""
    k, _ = oversampled()
    told = noise_lines(sample_time_us=2.5) + lines(k, sample_time_us=5.0)
    found = read(write_mrd(tmp_path / "a.h5", xml(40, 24, 20, ratio=0.8), told))
    expected = PSI * 2.5 / 5.0 / 0.8
    assert np.linalg.norm(found.noise_covariance - expected) < 0.05 * np.linalg.norm(expected)
    assert np.linalg.norm(found.noise_covariance - PSI) > 0.3 * np.linalg.norm(PSI)  # control: no scaling
    assert "40 noise lines" in found.history[-1]
    np.testing.assert_array_equal(found.mask, True)


def test_mrd_converted_noise_is_white_in_truth(tmp_path):
    """Samples without signal, cropped and pre-whitened: identity covariance within 4.5 standard errors."""
    rng = np.random.default_rng(1)
    k, _ = oversampled((60, 50))
    noisy = k * 1e-9 + np.einsum("ab,bij->aij", ROOT, white(rng, COILS, 60, 100))
    told = noise_lines(400, sample_time_us=1.0) + lines(noisy, sample_time_us=1.0)
    made_white = read(write_mrd(tmp_path / "a.h5", xml(100, 60, 50), told)).whitened()
    n = made_white.samples.reshape(COILS, -1)
    assert np.abs(n @ n.conj().T / n.shape[1] - np.eye(COILS)).max() * np.sqrt(n.shape[1]) < 4.5


def test_mrd_partial_fourier_and_partial_echo_leave_holes(tmp_path):
    k, images = oversampled()
    told = [line for line in lines(k) if line["kspace_encode_step_1"] >= 7]
    for line in told:  # counters begin at 0, the centre is line 5 of those measured
        line["kspace_encode_step_1"] -= 7
    found = read(write_mrd(tmp_path / "a.h5", xml(40, 24, 20, centre=5, last=16), told))
    assert np.array_equal(found.mask.all(1), np.arange(24) >= 7) and found.complete
    expected = fourier(images)
    np.testing.assert_allclose(found.samples[:, 7:], expected[:, 7:], atol=1e-6)
    echo = [{**line, "data": line["data"][:, 12:], "center_sample": 8} for line in lines(k)]
    found = read(write_mrd(tmp_path / "b.h5", xml(40, 24, 20), echo))
    assert found.samples.shape == (COILS, 24, 40) and "partial echo" in found.history[-1]
    assert np.array_equal(found.mask.all(0), np.arange(40) >= 12)
    np.testing.assert_allclose(found.samples[..., 12:], k[..., 12:], atol=1e-6)


def test_mrd_discarded_samples_are_not_measured(tmp_path):
    k, _ = oversampled()
    told = lines(k, discard_pre=3, discard_post=1)
    for line in told[::2]:
        line["data"], line["flags"] = line["data"][:, ::-1], [REVERSE]
        line["discard_pre"], line["discard_post"] = 1, 3
    found = read(write_mrd(tmp_path / "a.h5", xml(40, 24, 20), told))
    assert np.array_equal(found.mask.all(0), (np.arange(40) >= 3) & (np.arange(40) < 39))
    np.testing.assert_allclose(found.samples[..., 3:39], k[..., 3:39], atol=1e-6)


def test_mrd_calibration_lines(tmp_path):
    """Lines for calibration only are no data; those for both are both; the maps come from them."""
    k, _ = oversampled((40, 36))
    told = []
    for line in lines(k):
        ky = line["kspace_encode_step_1"]
        middle = 12 <= ky < 28
        if ky % 2 == 0:
            told.append({**line, "flags": [BOTH]} if middle else line)
        elif middle:
            told.append({**line, "flags": [CALIBRATION]})
    told.append({"data": 1e3 * k[:, 0], "kspace_encode_step_1": 0, "flags": [NAVIGATION]})
    path = write_mrd(tmp_path / "a.h5", xml(72, 40, 36), noise_lines(sample_time_us=1.0, factor=0.01) + told)
    found = read(path)
    assert np.array_equal(found.mask.all(1), np.arange(40) % 2 == 0)
    assert np.array_equal((found.calibration != 0).any((0, 2)), (np.arange(40) >= 12) & (np.arange(40) < 28))
    converted = convert_mri(path)
    assert converted.calibration_width == 16 and converted.measurement.count == 2 * COILS * 20 * 36
    np.testing.assert_allclose(
        converted.measurement.noise.covariance, np.eye(COILS) / converted.scale**2, atol=1e-12 / converted.scale**2
    )
    bare = [line for line in told if line.get("flags") != [CALIBRATION]]
    with pytest.raises(InfieldError, match="found a fully sampled centre of 1 x 1 and no coil maps"):
        convert_mri(write_mrd(tmp_path / "b.h5", xml(72, 40, 36), bare))


def test_mrd_repeated_lines_and_other_counters(tmp_path):
    k, images = oversampled()
    told = lines(k * 0.5, average=0) + lines(k * 1.5, average=1)
    told += lines(9 * k, repetition=1) + lines(9 * k, encoding_space_ref=1) + noise_lines()
    found = read(write_mrd(tmp_path / "a.h5", xml(40, 24, 20), told))
    np.testing.assert_allclose(inverse(found.samples), images, atol=1e-6)
    assert (
        "repetition 0 alone, of 2" in found.history
        and found.warnings == ("repetition 0 alone, of 2",)
        and "mean of 2 measurements" in found.history
    )
    assert np.linalg.norm(2 * found.noise_covariance - PSI) < 0.05 * np.linalg.norm(PSI)
    told = lines(k) + lines(9 * k[:, :5])
    found = read(write_mrd(tmp_path / "b.h5", xml(40, 24, 20), told))
    np.testing.assert_allclose(inverse(found.samples), images, atol=1e-6)
    assert "lines were measured 1 to 2 times: the first of each is taken" in found.history


def test_mrd_slices(tmp_path):
    k, images = oversampled()
    told = lines(k, slice=1) + lines(2 * k, slice=4)
    path = write_mrd(tmp_path / "a.h5", xml(40, 24, 20), told)
    np.testing.assert_allclose(inverse(read(path, 1).samples), 2 * images, atol=1e-6)
    with pytest.raises(InfieldError, match="found 2 slices"):
        read(path)


def _mrd(header, told):
    return lambda p: write_mrd(p / "a.h5", header, told)


def _truncated(p):
    path = write_fastmri(p / "a.h5", VOLUME, header=xml(20, 15, 20))
    path.write_bytes(path.read_bytes()[:4000])
    return path


def _truncated_mrd(p):
    path = write_mrd(p / "a.mrd", xml(40, 24, 20), lines(oversampled()[0]))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _lost(p):
    """A chunk that is damaged inside an otherwise whole file."""
    with h5py.File(p / "a.h5", "w") as file:
        file.create_dataset("kspace", data=VOLUME, chunks=(1, *VOLUME.shape[1:]), fletcher32=True)
        at = file["kspace"].id.get_chunk_info(0).byte_offset
    with (p / "a.h5").open("r+b") as file:
        file.seek(at + 100)
        file.write(b"damaged")
    return p / "a.h5"


def _cut_cfl(p):
    path = write_cfl(p / "k.cfl", VOLUME[0], (0, 1))
    path.write_bytes(path.read_bytes()[:-8])
    return path


def _headerless_cfl(p):
    write_cfl(p / "k.cfl", VOLUME[0], (0, 1)).with_suffix(".hdr").unlink()
    return p / "k.cfl"


def _cfl(sizes):
    def write(p):
        np.zeros(int(np.prod(sizes)), "<c8").tofile(p / "k.cfl")
        (p / "k.hdr").write_text("# Dimensions\n" + " ".join(map(str, sizes)) + "\n")
        return p / "k.cfl"

    return write


def _cut_mat(p):
    scipy.io.savemat(p / "k.mat", {"kspace": VOLUME[0].transpose(1, 2, 0)})
    (p / "k.mat").write_bytes((p / "k.mat").read_bytes()[:3000])
    return p / "k.mat"


def _plain(name, **arrays):
    def write(p):
        scipy.io.savemat(p / name, arrays)
        return p / name

    return write


K, _ = oversampled()
FEW = lines(K)[:3]
BAD = {
    "truncated HDF5": (_truncated, "truncated, damaged or of another format, copy it again"),
    "truncated MRD": (_truncated_mrd, "truncated, damaged or of another format, copy it again"),
    "damaged chunk": (_lost, "truncated, damaged or of another format, copy it again"),
    "HDF5 of something else": (lambda p: _other(p), "found 'a', 'b', expected a group with 'xml' and 'data' (ISMRMRD)"),
    "real kspace": (lambda p: write_real(p), "'kspace': found float32 of shape (3, 4, 20, 15), expected complex"),
    "header no XML": (lambda p: write_fastmri(p / "a.h5", VOLUME, header="<a"), "'ismrmrd_header': found no XML"),
    "mask of other width": (
        lambda p: write_fastmri(p / "a.h5", VOLUME, mask=np.ones(14)),
        "'mask': found 14 columns, expected 15",
    ),
    "radial": (_mrd(xml(40, 24, 20, trajectory="radial"), FEW), "found a radial trajectory, expected a cartesian one"),
    "MRD header": (_mrd("<a/>", FEW), "'xml': found no header of an MRD file"),
    "MRD without data": (_mrd(xml(40, 24, 20), noise_lines(2)), "found 2 lines and none for imaging"),
    "MRD volume": (
        _mrd(xml(40, 24, 20), [*FEW, {**FEW[0], "kspace_encode_step_2": 1}]),
        "found a volume with 2 steps of a second phase encoding, expected slices",
    ),
    "MRD coils": (
        _mrd(xml(40, 24, 20), [*FEW, {**FEW[0], "data": K[:2, 0]}]),
        "found lines of 2 and of 4 coils, expected the same for all; coils do not match",
    ),
    "MRD line outside": (
        _mrd(xml(40, 24, 20), [*FEW, {**FEW[0], "kspace_encode_step_1": 24}]),
        "found a line at ky 24 with kx 0 to 40, expected it inside the encoded 24 x 40",
    ),
    "MRD little noise": (_mrd(xml(40, 24, 20), [*FEW, *noise_lines(1, 8)]), "found 8 noise samples of 4 coils"),
    "cut cfl": (_cut_cfl, "found 9592 bytes, expected 9600 for the dimensions"),
    "cfl without header": (_headerless_cfl, "found no header k.hdr with dimensions"),
    "cfl volume": (_cfl([8, 8, 8, 2]), "found 3 of READ, PHS1, PHS2 longer than 1"),
    "cfl in time": (_cfl([8, 8, 1, 2, 1, 1, 1, 1, 1, 1, 5]), "found the dimensions TIME 5, expected slices of coils"),
    "cut mat": (_cut_mat, "found something that cannot be read as MATLAB"),
    "mat of pictures": (_plain("k.mat", data=np.ones((8, 8))), "raw data, not a picture"),
    "coils first in mat": (
        _plain("k.mat", kspace=VOLUME[0]),
        "found 15 coils of 4 x 20 samples in shape (4, 20, 15), expected fewer coils than samples",
    ),
    "maps of other coils": (
        lambda p: save_npz(p / "k.npz", maps=np.ones((3, *SHAPE))),
        "found coil maps of shape (3, 20, 15), expected (4, 20, 15)",
    ),
    "maps without coils": (lambda p: save_npz(p / "k.npz", maps=np.ones(SHAPE)), "found 'maps' of shape (20, 15)"),
    "another mask": (lambda p: save_npz(p / "k.npz", mask=np.ones((5, 5))), "found mask of shape (5, 5)"),
    "no zip": (lambda p: (p / "k.npz").write_bytes(b"PK") and p / "k.npz", "found no readable NumPy file"),
}


def _other(p):
    with h5py.File(p / "a.h5", "w") as file:
        file["a"], file["b"] = 1, 2
    return p / "a.h5"


def write_real(p):
    with h5py.File(p / "a.h5", "w") as file:
        file["kspace"] = np.abs(VOLUME)
    return p / "a.h5"


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path, case):
    write, words = BAD[case]
    path = write(tmp_path)
    with pytest.raises(InfieldError) as caught:
        read(path, 0)
    assert words in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    path = write_mrd(tmp_path / "a.h5", xml(40, 24, 20), FEW)
    monkeypatch.setitem(sys.modules, "ismrmrd", None)
    with pytest.raises(InfieldError, match=r"no package ismrmrd, expected the extra 'mri'; pip install"):
        read(path)


def complete_file(tmp_path, noise=1.0):
    k = np.stack([kspace((96, 45), field=2.0, noise=noise, seed=s) for s in (5, 6)])
    return write_fastmri(tmp_path / "file1000000.h5", k, header=xml(96, 45, 48)), k


def test_undersampling_a_complete_slice(tmp_path):
    """The mask is fastMRI's, the truth the MVUE of all samples, which the data leave no more than noise of."""
    path, _ = complete_file(tmp_path)
    whole = read(path, 1)
    scheme = Undersampling(acceleration=3, mask="equispaced", centre_fraction=0.4, seed=(1, 2))
    converted = convert_mri(path, slice_number=1, undersampling=scheme)
    measurement, maps = converted.measurement, converted.measurement.arrays["coil_maps"]
    kept = measurement.arrays["mask"]
    assert (kept.all(0) | ~kept.any(0)).all() and 0.4 < kept.mean() < 0.75
    psi = measurement.noise.covariance.numpy()
    expected = minimum_variance_unbiased(inverse(whole.samples), maps, psi) / converted.scale
    np.testing.assert_allclose(measurement.truth[0, 0] + 1j * measurement.truth[0, 1], expected, atol=1e-12)
    rss = np.sqrt((np.abs(inverse(whole.samples)) ** 2).sum(0)) / converted.scale
    np.testing.assert_allclose(converted.targets["target_rss"], rss, rtol=1e-12)
    assert measurement.chi_square(measurement.truth).item() < 1.3
    assert measurement.chi_square(0 * measurement.truth).item() > 30  # negative control
    scheme = Undersampling(acceleration=2, mask="poisson", centre_fraction=0.3)
    across = convert_mri(path, slice_number=1, undersampling=scheme)
    assert any("acceleration 2" in step for step in across.steps)


def test_only_a_complete_slice_can_be_undersampled(tmp_path):
    k, _ = fastmri(left=0, right=0)
    path = write_fastmri(tmp_path / "t.h5", k[None], mask=np.arange(27) % 3 == 0)
    with pytest.raises(InfieldError, match=r"found 33.3% of the samples with gaps between them, expected a complete"):
        convert_mri(path, undersampling=Undersampling(acceleration=4))


def test_maps_from_elsewhere(tmp_path):
    """Maps of the file or of another file; the other way to say them wrong, each in its line."""
    image, maps = head(SHAPE)
    path = save_npz(tmp_path / "k.npz", maps=2 * maps, psi=PSI * 0.01)
    converted = convert_mri(path, slice_number=0)
    np.testing.assert_allclose(converted.measurement.arrays["coil_maps"], maps, atol=1e-14)
    np.testing.assert_allclose(converted.measurement.noise.covariance, PSI * 0.01 / converted.scale**2, rtol=1e-12)
    truth = np.stack([image.real, image.imag])[None] / converted.scale
    assert 0.8 < converted.measurement.chi_square(converted.measurement.y.new_tensor(truth)).item() < 1.2
    np.save(tmp_path / "maps.npy", maps)
    write_cfl(tmp_path / "sens.cfl", maps, (0, 1))
    scipy.io.savemat(tmp_path / "csm.mat", {"csm": maps.transpose(1, 2, 0)})
    for name in ("maps.npy", "sens.cfl", "csm.mat"):
        other = convert_mri(path, slice_number=0, coils_from=tmp_path / name)
        np.testing.assert_allclose(other.measurement.arrays["coil_maps"], maps, atol=1e-7)
    np.save(tmp_path / "few.npy", maps[:3])
    np.save(tmp_path / "plain.npy", VOLUME[0])
    for coils, source, words in (
        (tmp_path / "few.npy", path, r"found coil maps of shape \(3, 20, 15\) in .*few.npy, expected \(4, 20, 15\)"),
        (tmp_path / "none.npy", path, "found no file of coil maps"),
        ("file", tmp_path / "plain.npy", "found no coil maps in the file, expected some"),
        ("uniform", tmp_path / "plain.npy", "found 4 coils, expected one for a uniform coil map"),
        ("esprit", tmp_path / "plain.npy", "coils_from: found 'esprit', expected espirit, file, uniform"),
    ):
        with pytest.raises(InfieldError, match=words):
            convert_mri(source, slice_number=0, coils_from=coils)


def test_kspace_of_odd_width_is_converted_right(tmp_path):
    """63 x 51: the true image explains the data; read as if the centre were elsewhere, it does not."""
    image, maps = head((63, 51))
    k = kspace((63, 51), noise=1.0)
    np.savez(tmp_path / "k.npz", kspace=k, maps=maps)
    converted = convert_mri(tmp_path / "k.npz")
    truth = converted.measurement.y.new_tensor(np.stack([image.real, image.imag])[None]) / converted.scale
    assert 0.8 < converted.measurement.chi_square(truth).item() < 1.1
    np.savez(tmp_path / "k.npz", kspace=np.roll(k, 1, -1), maps=maps)
    assert convert_mri(tmp_path / "k.npz").measurement.chi_square(truth).item() > 5


def data(name):
    if "INFIELD_DATA" not in os.environ:
        pytest.skip("INFIELD_DATA does not name the folder of the real data")
    path = Path(os.environ["INFIELD_DATA"]) / "mri" / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def test_a_real_head_of_one_coil_from_matlab():
    """Larson's sagittal T1 head: complete, strongest one before the centre (MATLAB's n / 2 counts from 1)."""
    path = data("larson_se_t1_sag_data.mat")
    found = read(path)
    assert found.samples.shape == (1, 256, 256) and found.mask.all()
    peak = np.unravel_index(np.abs(found.samples[0]).argmax(), (256, 256))
    assert peak == (127, 127)
    converted = convert_mri(path, undersampling=Undersampling(acceleration=4, mask="magic"))
    measurement = converted.measurement
    assert measurement.truth is not None and 0.25 < measurement.arrays["mask"].mean() < 0.4
    np.testing.assert_allclose(
        measurement.truth.norm(dim=1)[0].numpy(), np.abs(inverse(found.samples[0])) / converted.scale, atol=1e-10
    )
    zero_filled = measurement.operator.A_adjoint(measurement.y)
    assert (zero_filled - measurement.truth).norm() < 0.4 * measurement.truth.norm()


def test_real_complex_images_from_matlab():
    """Fessler's field-map images, 64 x 64: their k-space is computed, and gives them back."""
    path = data("mirt_fieldmap/phfit.mat")
    image = scipy.io.loadmat(path)["m1"]
    converted = convert_mri(path, layout=ArrayLayout(variable="m1", image=True))
    y = converted.measurement.y[0, :, 0].numpy()
    np.testing.assert_allclose(inverse(y[0] + 1j * y[1]) * converted.scale, image, atol=1e-10 * np.abs(image).max())
    with pytest.raises(InfieldError, match="complex arrays"):
        read(data("mirt_fieldmap/phfile.mat"))


def test_the_real_slice_of_numpy_is_what_it_was():
    path = data("sigpy_cartesian_ksp.npy")
    found, raw = read(path), np.load(path)
    np.testing.assert_array_equal(found.samples, raw)
    assert np.array_equal(found.mask, (raw != 0).any(0)) and not found.complete and found.readout == 1
