"""Slices of a scan as one measurement of a volume: what they share, what each keeps, and what is refused."""

import numpy as np
import pytest
import torch
import xarray as xr
from examples.kspace_examples import PSI, fourier, head, white, write_fastmri

from infield import InfieldError
from infield.datasets.formats.measurement import open_measurement
from infield.datasets.mri.convert import Undersampling, convert_mri
from infield.datasets.mri.converted import open_held_out
from infield.datasets.mri.volume import convert_mri_volume

SHAPE, DEPTH, NOISE = (48, 40), 4, 0.1
ROOT = np.linalg.cholesky(PSI)
THINNED = Undersampling(acceleration=2.0, centre_fraction=0.4)


def scan(brightness=(1.0, 0.8, 0.5, 0.6)):
    """A head whose slices grow dimmer, in noise that is the same everywhere: (slice, coil, ky, kx)."""
    image, maps = head(SHAPE)
    rng = np.random.default_rng(0)
    noise = [np.einsum("ab,bij->aij", ROOT, white(rng, len(maps), *SHAPE)) for _ in brightness]
    return np.stack([b * fourier(maps * image) + NOISE * n for b, n in zip(brightness, noise, strict=True)])


@pytest.fixture
def source(tmp_path):
    rss = np.ones((DEPTH, 20, 20)) * np.arange(1, DEPTH + 1)[:, None, None]
    return write_fastmri(tmp_path / "file1.h5", scan(), reconstruction_rss=rss)


def test_slices_share_scale_and_noise_and_keep_their_data(source, tmp_path):
    converted = convert_mri_volume(source, range(1, 4), undersampling=THINNED)
    converted.write(tmp_path / "m.zarr")
    m = open_measurement(tmp_path / "m.zarr")
    assert m.grid.names == ("z", "y", "x") and m.grid.shape == (3, *SHAPE)
    assert m.grid.axes[0].coordinates == (1.0, 2.0, 3.0) and not m.grid.axes[0].periodic
    assert m.description["name"] == "multicoil-mri-slices" and m.arrays["mask"].shape == SHAPE  # one for all
    kept = m.arrays["mask"].astype(bool)
    raw = torch.complex(*m.y[0]).numpy() * converted.scale
    np.testing.assert_allclose(raw, (scan()[1:] * kept).swapaxes(0, 1), atol=1e-6 * np.abs(raw).max())
    ones = [convert_mri(source, slice_number=n, undersampling=THINNED) for n in (1, 2, 3)]
    for z, one in enumerate(ones):
        share = one.scale / converted.scale
        np.testing.assert_array_equal(m.arrays["coil_maps"][:, z], one.measurement.arrays["coil_maps"])
        torch.testing.assert_close(m.truth[:, :, z], one.measurement.truth * share, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(m.operator.A(m.truth)[:, :, :, z], one.measurement.operator.A(m.truth[:, :, z]))
    psi = m.noise.covariance.numpy() * converted.scale**2
    assert 0.8 < np.trace(psi).real / np.trace(NOISE**2 * PSI).real < 1.5  # errs to the large side
    # brightness as it was: 0.8, 0.5, 0.6
    level = m.truth[0].norm(dim=0).flatten(1).norm(dim=1)
    torch.testing.assert_close(level / level[0], torch.tensor([1, 5 / 8, 6 / 8]).double(), rtol=0.05, atol=0)
    alone = torch.stack([one.measurement.truth[0].norm(dim=0).norm() for one in ones])
    assert not torch.allclose(alone / alone[0], level / level[0], rtol=0.1)
    assert m.operator.observed.double().mean() < 0.7


def test_what_lies_beside_the_data_has_the_slices_too(source, tmp_path):
    converted = convert_mri_volume(source, range(4), hold_out=0.05, undersampling=THINNED)
    converted.write(tmp_path / "m.zarr")
    mask, y = open_held_out(tmp_path / "m.zarr")
    assert mask.shape == (4, *SHAPE) and y.shape == (1, 2, 4, 4, *SHAPE)
    m = open_measurement(tmp_path / "m.zarr")
    assert not (mask.numpy() & np.broadcast_to(m.arrays["mask"].astype(bool), mask.shape)).any()
    held = torch.complex(*y[0]).numpy() * converted.scale
    np.testing.assert_allclose(held, (scan() * mask.numpy()[:, None]).swapaxes(0, 1), atol=1e-6 * np.abs(held).max())
    with xr.open_zarr(tmp_path / "m.zarr", consolidated=False) as file:
        assert file["data"].dims == ("coil", "z", "ky", "kx") and file["coil_maps"].dims == ("coil", "z", "y", "x")
        assert file["target_rss"].dims == ("z", "y", "x")
        np.testing.assert_allclose(file["target_file"][:, 0, 0] * converted.scale, [1, 2, 3, 4])
        assert "slice 3 of 4" in file.attrs["history"] and file.attrs["history"].count("divided by") == 1


def test_a_mask_of_every_slice(tmp_path):
    thinned = scan()
    thinned[1, :, :, 5] = 0
    path = tmp_path / "k.npy"
    np.save(path, thinned)
    m = convert_mri_volume(path, range(3)).measurement
    assert m.arrays["mask"].shape == (3, *SHAPE)
    assert [bool(m.arrays["mask"][z, :, 5].any()) for z in range(3)] == [True, False, True]


def test_what_is_refused(source, tmp_path):
    with pytest.raises(InfieldError, match="found 1 slice, expected two or more"):
        convert_mri_volume(source, [2])
    dark = scan()
    dark[2] = 0
    path = write_fastmri(tmp_path / "dark.h5", dark)
    with pytest.raises(InfieldError, match=r"dark.h5: found 0 everywhere in slice 2.*\(slice 2\)$"):
        convert_mri_volume(path, range(4))
