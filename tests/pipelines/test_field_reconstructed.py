"""Files of strangers all the way: converted by the command, then reconstructed, on grids of a few points.

Each line of issue 20 that claims a right posterior of such a file, and not only that it is read, has its case here.
"""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import xarray as xr
from astropy import units
from astropy.cosmology import Planck18
from examples.kspace_examples import kspace, write_fastmri
from examples.wall_files import netcdf

from infield.datasets.formats.measurement import open_measurement
from infield.physics.cm21.telescopes import spiral

pytestmark = pytest.mark.field
CELL = 16.0


def lightcone(n=6, depth=8):
    """Temperatures in mK on cubic cells of 16 Mpc, `(x, y, los)`, their redshifts and distances."""
    distance = Planck18.comoving_distance(8.0).to_value(units.Mpc) + CELL * np.arange(depth)
    grid = np.linspace(7.5, 9.5, 4001)
    z = np.interp(distance, Planck18.comoving_distance(grid).to_value(units.Mpc), grid)
    return 30 * np.random.default_rng(0).standard_normal((n, n, depth)).astype(np.float32), z, distance


@pytest.fixture
def reconstructed(infield, tmp_path):
    """Posterior of a measurement by the default prior, one sample; its mean is finite and its data are fitted."""

    def run(*more):
        path = tmp_path / "m.zarr"
        said = infield("reconstruct", path, "-o", tmp_path / "p.zarr", "--samples", 1, "--json", *more)
        assert said.status == 0, said.err
        shape = tuple(open_measurement(path).grid.shape)
        with xr.open_zarr(tmp_path / "p.zarr", consolidated=False) as posterior:
            assert np.isfinite(posterior["mean"].values).all()
            assert posterior["mean"].shape[-len(shape) :] == shape
        return said.summary

    return run


def observed(infield, folder, *more):
    """The telescope's data of a converted cone, by few antennas."""
    places = "".join(f"{east},{north}\n" for east, north in spiral(40, 250.0))
    (folder / "some.csv").write_text("east_m,north_m\n" + places)
    return infield("convert", "lightcone-observation", folder / "c.zarr", "-o", folder / "m.zarr", "--layout",
                   folder / "some.csv", "--hours", 3000, *more)  # fmt: skip


def test_a_numpy_cone_is_observed_and_reconstructed(infield, reconstructed, tmp_path):
    values, z, _ = lightcone()
    np.savez(tmp_path / "c.npz", brightness_temp=values, redshift=z, box_len_Mpc=CELL * len(values))
    assert infield("convert", "lightcone", tmp_path / "c.npz", "-o", tmp_path / "c.zarr").status == 0
    assert observed(infield, tmp_path).status == 0
    reconstructed("--prior", "matern-3/2")


def test_a_fits_cube_of_even_channels_is_observed_after_the_remedy(infield, reconstructed, tmp_path, monkeypatch):
    """Channels of equal width are uneven in distance: of many points refused with the option that resamples, which is
    followed."""
    from astropy.io import fits

    from infield.posterior.inference import empirical_bayes

    monkeypatch.setattr(empirical_bayes, "DENSE_LIMIT", 200)

    values, z, _ = lightcone()
    frequency = 1420.405751768e6 / (1 + z[0]) - 1.0e6 * np.arange(8)
    hdu = fits.PrimaryHDU(values.transpose(2, 1, 0).astype(np.float32))
    side = float(np.rad2deg(CELL / Planck18.comoving_distance(8.2).to_value(units.Mpc)))
    for axis, (kind, value, step) in enumerate(
        (("RA---SIN", 0.0, -side), ("DEC--SIN", 0.0, side), ("FREQ", frequency[0], -1.0e6)), 1
    ):
        hdu.header[f"CTYPE{axis}"], hdu.header[f"CRVAL{axis}"], hdu.header[f"CDELT{axis}"] = kind, value, step
        hdu.header[f"CRPIX{axis}"], hdu.header[f"CUNIT{axis}"] = 1.0, "Hz" if axis == 3 else "deg"
    hdu.header["BUNIT"] = "mK"
    hdu.writeto(tmp_path / "c.fits")
    assert infield("convert", "lightcone", tmp_path / "c.fits", "-o", tmp_path / "c.zarr").status == 0
    assert observed(infield, tmp_path).status == 0
    command = ("reconstruct", tmp_path / "m.zarr", "-o", tmp_path / "p.zarr", "--prior", "matern-3/2", "--samples", 1)
    infield(*command).refused("uneven spacing along axis 'los'", "off by 0.0099 of the mean", "--resample")
    again = infield("convert", "lightcone", tmp_path / "c.fits", "-o", tmp_path / "c.zarr", "--resample", "--overwrite")
    assert again.status == 0, again.err
    assert observed(infield, tmp_path, "--overwrite").status == 0
    reconstructed("--prior", "matern-3/2")


def test_packed_planes_named_h5_are_sensed_and_reconstructed(infield, reconstructed, tmp_path):
    netcdf(tmp_path / "p.h5", packed=True, format="NETCDF4", engine="netcdf4")
    said = infield("convert", "wall-pressure", tmp_path / "p.h5", "-o", tmp_path / "w.zarr", "--wall", "top")
    assert said.status == 0, said.err
    where = ("--fraction", 0.3, "--noise-std", 0.1)
    said = infield("convert", "wall-sensors", tmp_path / "w.zarr", "-o", tmp_path / "m.zarr", *where)
    assert said.status == 0, said.err
    assert 0.5 < float(open_measurement(tmp_path / "m.zarr").y.std()) < 2  # 500 times as much where packing is ignored
    reconstructed("--prior", "matern-3/2")


def test_a_table_with_semicolons_and_decimal_commas(infield, reconstructed, tmp_path):
    rng = np.random.default_rng(0)
    rows = "".join(f"{8 + a:.4f};{50 + b:.4f};{c:.3f}\n".replace(".", ",") for a, b, c in rng.random((30, 3)))
    (tmp_path / "t.csv").write_text("lon;lat;t\n" + rows)
    at = ("--value", "t", "--at", "lon", "lat", "--grid", 0.25, "--units", "degC", "--noise-std", 0.1)
    said = infield("convert", "table", tmp_path / "t.csv", "-o", tmp_path / "m.zarr", *at)
    assert said.status == 0, said.err
    reconstructed()


def test_a_grid_that_falls_and_crosses_the_date_line(infield, reconstructed, tmp_path):
    rng = np.random.default_rng(0)
    xr.Dataset(
        {"sst": (("lat", "lon"), rng.random((4, 5)), {"units": "degC"})},
        {"lat": ("lat", [13.0, 12, 11, 10], {"units": "degrees_north"}),
         "lon": ("lon", [178.0, 179, 180, -179, -178], {"units": "degrees_east"})},
    ).to_netcdf(tmp_path / "f.nc")  # fmt: skip
    said = infield("convert", "grid", tmp_path / "f.nc", "-o", tmp_path / "m.zarr", "--variable", "sst",
                   "--noise-std", 0.1)  # fmt: skip
    assert said.status == 0, said.err
    reconstructed()


def test_kspace_with_coils_last_after_the_remedy(infield, reconstructed, tmp_path):
    path = write_fastmri(tmp_path / "k.h5", kspace((64, 54)).astype(np.complex64).transpose(1, 2, 0)[None])
    command = ("convert", "mri", path, "-o", tmp_path / "m.zarr")
    infield(*command).refused("k.h5: 'kspace'", "--order")
    said = infield(*command, "--order", "slice,ky,kx,coil")
    assert said.status == 0, said.err
    reconstructed("--prior", "fitted")
    with h5py.File(path) as file:
        assert file["kspace"].shape[-1] == open_measurement(tmp_path / "m.zarr").y.shape[2]
