"""Siblings of the k-space lines of issue 20 that no line names: sizes of numbers, pairs, echoes, second encodings."""

import h5py
import numpy as np
import pytest
from examples.kspace_examples import COILS, kspace, write_mrd, xml

from infield import InfieldError
from infield.datasets.mri.coil_maps import coil_maps
from infield.datasets.mri.convert import convert_mri
from infield.datasets.mri.readers.open import open_kspace

pytestmark = pytest.mark.field
SHAPE = (48, 40)


def lines(k, **counters):
    return [dict(data=k[:, :, j], kspace_encode_step_1=j, **counters) for j in range(k.shape[2])]


@pytest.mark.parametrize("size", [1e-36, 1e36], ids=["tiny", "huge"])
def test_coil_maps_do_not_depend_on_the_size_of_the_numbers(size):
    """Squares of such samples leave single precision; by a power of two nothing changes, digit by digit."""
    k = kspace(SHAPE)
    maps = coil_maps(k, 24)
    np.testing.assert_allclose(coil_maps(size * k, 24), maps, atol=1e-4)
    np.testing.assert_array_equal(coil_maps(2.0**40 * k, 24), maps)
    assert not np.isfinite(np.float32(1e36) ** 2)  # negative control


@pytest.mark.parametrize("names", [("real", "imag"), ("r", "i")])
def test_pairs_of_real_and_imaginary_parts_in_fastmris_layout(tmp_path, names):
    k = kspace(SHAPE)
    pairs = np.zeros((1, *k.shape), dtype=[(name, "f4") for name in names])
    pairs[names[0]], pairs[names[1]] = k.real, k.imag
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file["kspace"] = pairs
    with open_kspace(tmp_path / "k.h5") as file:
        np.testing.assert_allclose(file.slice(None).samples, k, atol=1e-5)


@pytest.mark.parametrize("axis", [0, -1])
def test_parts_along_an_axis_are_refused_with_what_helps(tmp_path, axis):
    k = kspace(SHAPE)
    np.save(tmp_path / "k.npy", np.stack([k.real, k.imag], axis))
    with pytest.raises(InfieldError, match=r"float64 of shape .*join real and imaginary parts to complex numbers"):
        convert_mri(tmp_path / "k.npy")
    parts = np.moveaxis(np.load(tmp_path / "k.npy"), axis, 0)
    np.save(tmp_path / "joined.npy", parts[0] + 1j * parts[1])  # the remedy
    with open_kspace(tmp_path / "joined.npy") as file:
        np.testing.assert_array_equal(file.slice(None).samples, k)


def test_other_echoes_are_left_out_and_said(tmp_path):
    """Two contrasts, the second of thrice the values: the first alone, and a warning; of one there is none."""
    k = kspace(SHAPE)
    path = write_mrd(tmp_path / "k.mrd", xml(48, 40, 48), lines(k, contrast=0) + lines(3 * k, contrast=1))
    converted = convert_mri(path)
    assert converted.warnings == ("contrast 0 alone, of 2",)
    with open_kspace(path) as file:
        np.testing.assert_allclose(file.slice(None).samples, k.transpose(0, 2, 1), atol=1e-5)
    assert convert_mri(write_mrd(tmp_path / "one.mrd", xml(48, 40, 48), lines(k))).warnings == ()


def test_averages_are_averaged(tmp_path):
    k = kspace(SHAPE)
    path = write_mrd(tmp_path / "k.mrd", xml(48, 40, 48), lines(k, average=0) + lines(3 * k, average=1))
    with open_kspace(path) as file:
        np.testing.assert_allclose(file.slice(None).samples, 2 * k.transpose(0, 2, 1), atol=1e-5)


def test_a_second_phase_encoding_is_refused_and_its_remedy_works(tmp_path):
    """A volume of two steps; transformed along them by hand, its slices are k-space of their own."""
    k = kspace(SHAPE)
    steps = np.stack([k, 0.25 * k])
    told = [line for z in (0, 1) for line in lines(steps[z], kspace_encode_step_2=z)]
    path = write_mrd(tmp_path / "k.mrd", xml(48, 40, 48), told)
    with pytest.raises(InfieldError, match=r"volume with 2 steps of a second phase encoding.*transform it along the"):
        convert_mri(path)
    slices = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(steps, 0), axis=0, norm="ortho"), 0)
    np.save(tmp_path / "slices.npy", slices)
    for number, factor in enumerate((1 - 0.25, 1 + 0.25)):
        with open_kspace(tmp_path / "slices.npy") as file:
            np.testing.assert_allclose(abs(file.slice(number).samples), abs(factor * k) / 2**0.5, atol=1e-12)
        assert convert_mri(tmp_path / "slices.npy", slice_number=number).measurement.y.shape == (1, 2, COILS, *SHAPE)
