"""Wall planes as other people's codes and tools leave them, with values worked out independently."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from examples.wall_files import NT, NX, NZ, RE_TAU, smooth

from infield.datasets.wall_pressure.readers.common import UserMetadata
from infield.datasets.wall_pressure.readers.open import open_planes

pytestmark = pytest.mark.field


def read(path, **stated):
    with open_planes(path, UserMetadata(**stated)) as source:
        return source.read(range(source.planes.samples)), source.planes, source.notes


def packed(path, kind="gap"):
    """Planes in units of 2e-3 above 5, positions in units of 0.25 from 3 on, all as 16-bit integers."""
    p = np.round(smooth() / 2e-3) * 2e-3
    with netCDF4.Dataset(path, "w") as file:
        file.Re_tau = RE_TAU
        for name, size in (("time", NT), ("z", NZ), ("x", NX)):
            file.createDimension(name, size)
        for name, size in (("z", NZ), ("x", NX)):
            axis = file.createVariable(name, "i2", (name,))
            axis.set_auto_maskandscale(False)
            axis.setncatts({"scale_factor": 0.25, "add_offset": 3.0, "units": "nu/u_tau", "periodic": 1})
            axis[:] = np.arange(size) * 40
        data = file.createVariable("pressure", "i2", ("time", "z", "x"), fill_value=-32768 if kind == "gap" else False)
        data.set_auto_maskandscale(False)
        data.setncatts({"scale_factor": 2e-3, "add_offset": 5.0, "units": "rho u_tau^2"})
        stored = np.round((p - 5.0) / 2e-3).astype(np.int16)
        data[:] = stored
        if kind == "gap":
            data[2, 1, 3] = -32768
        elif kind == "missing":
            data.missing_value = np.int16(-9999)
            data[2, 1, 3] = -9999
        elif kind == "range":
            data.valid_range = np.array([-20000, 20000], dtype=np.int16)
            data[2, 1, 3] = 30000
        elif kind == "unsigned":  # a byte order of classic netCDF: the same bits, counted from 0
            data._Unsigned = "true"
            data.add_offset = 5.0 - 2e-3 * 32768
            data[:] = (stored.astype(np.int32) + 32768).astype(np.uint16).view(np.int16)
    return p


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".netcdf", ".nc", ""])
def test_packed_planes_are_unpacked_whatever_their_name(tmp_path, suffix):
    p = packed(tmp_path / f"p{suffix}", "whole")
    found, planes, _ = read(tmp_path / f"p{suffix}")
    np.testing.assert_allclose(found, p, atol=1e-9)
    for axis in planes.grid.axes:
        np.testing.assert_allclose(axis.coordinates, 3 + 10 * np.arange(axis.size), atol=1e-9)


@pytest.mark.parametrize("suffix", [".h5", ".nc"])
@pytest.mark.parametrize("kind", ["gap", "missing", "range"])
def test_a_gap_in_packed_planes_is_a_gap(tmp_path, suffix, kind):
    p = packed(tmp_path / f"p{suffix}", kind)
    found, _, _ = read(tmp_path / f"p{suffix}")
    assert np.argwhere(~np.isfinite(found)).tolist() == [[2, 1, 3]]
    np.testing.assert_allclose(found[np.isfinite(found)], p[np.isfinite(found)], atol=1e-9)


@pytest.mark.parametrize("suffix", [".h5", ".nc"])
def test_unsigned_planes(tmp_path, suffix):
    p = packed(tmp_path / f"p{suffix}", "unsigned")
    np.testing.assert_allclose(read(tmp_path / f"p{suffix}")[0], p, atol=1e-9)
