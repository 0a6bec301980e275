"""A volume of multi-coil MRI by the commands: from fastMRI's format to a posterior, slices side by side."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from examples.example_files import samples

MATERN = "prior: gaussian\nlaw: {law: matern, nu: 1.5, length: 8}\nscale: 0.5\n"
COILS, DEPTH, SHAPE = 3, 3, (32, 28)


def scan() -> np.ndarray:
    """A head that shrinks and grows dim from slice to slice, k-space `(slice, coil, ky, kx)`, in noise."""
    rng, axes = np.random.default_rng(0), (-2, -1)
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    maps = np.stack([np.exp(-0.4 * ((y - np.cos(a)) ** 2 + (x - np.sin(a)) ** 2) + 1j * a) for a in (0, 2.1, 4.2)])
    heads = np.stack([(1 - z / 4) * (1 - np.hypot(y / 0.8, x / (0.7 - z / 20)) ** 2).clip(0) for z in range(DEPTH)])
    images = heads[:, None] * maps
    k = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes), axes=axes, norm="ortho"), axes)
    return k + 0.01 * (rng.standard_normal(k.shape) + 1j * rng.standard_normal(k.shape))


@pytest.fixture
def fastmri(tmp_path):
    import h5py

    with h5py.File(tmp_path / "file7.h5", "w") as file:
        file.create_dataset("kspace", data=scan().astype(np.complex64))
        file["reconstruction_rss"] = np.ones((DEPTH, *SHAPE), dtype=np.float32)
        file.attrs["acquisition"], file.attrs["max"] = "AXT2", 1.0
    return tmp_path / "file7.h5"


THIN = ["--acceleration", 2, "--centre-fraction", 0.45]


def test_from_fastmri_to_a_volume(tmp_path, infield, reconstruct, fastmri):
    said = infield("convert", "mri", fastmri, "-o", tmp_path / "v.zarr", "--volume", *THIN, "--json")
    assert said.summary["shape"] == [DEPTH, *SHAPE] and said.summary["coils"] == COILS and said.summary["truth"]
    assert 1.5 < said.summary["acceleration"] < 2.5
    (tmp_path / "prior.yaml").write_text(MATERN)
    command = [tmp_path / "v.zarr", "--prior", tmp_path / "prior.yaml", "--sampler", "dds", "--samples", 1, "--json"]
    command += ["--with", "levels=15", "--with", "tv=0.5"]
    said = reconstruct(*command, "-o", tmp_path / "p.zarr", "--slices", 2, "--workers", 1)
    assert said.summary["sampler"] == "dds" and 0.3 < said.summary["chi_square"] < 2
    found = samples(tmp_path / "p.zarr")
    with (
        xr.open_zarr(tmp_path / "v.zarr", consolidated=False) as file,
        xr.open_zarr(tmp_path / "p.zarr", consolidated=False) as p,
    ):
        truth = file["truth"].values
        assert json.loads(file.attrs["operator"])["name"] == "multicoil-mri-slices"
        assert p["samples"].dims == ("sample", "channel", "z", "y", "x") and p["z"].values.tolist() == [0, 1, 2]
        inside = (file["coil_maps"].values != 0).any(0)  # elsewhere no coil sees anything
    image, truth = inside * (found[0, 0] + 1j * found[0, 1]), inside * truth
    assert np.linalg.norm(image - truth) < 0.1 * np.linalg.norm(truth)
    assert np.linalg.norm(np.roll(image, 1, 0) - truth) > 0.2 * np.linalg.norm(truth)


def test_which_slices(tmp_path, infield, fastmri):
    said = infield("convert", "mri", fastmri, "-o", tmp_path / "v.zarr", "--slice", "1-2", "--volume", "--json")
    assert said.summary["shape"] == [2, *SHAPE]
    with xr.open_zarr(tmp_path / "v.zarr", consolidated=False) as file:
        assert file["z"].values.tolist() == [1, 2]
    out = ["-o", tmp_path / "w.zarr", "--volume"]
    infield("convert", "mri", fastmri, *out, "--slice", 1).refused("file7.h5", "found 1 slice, expected two or more")
    infield("convert", "mri", fastmri, *out, "--slice", "2-3").refused("file7.h5", "--slice 2-3", "slices 0 to 2")
    assert not (tmp_path / "w.zarr").exists()
