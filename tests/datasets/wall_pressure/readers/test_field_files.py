"""Wall planes as other people's codes and tools leave them, with values worked out independently."""

from __future__ import annotations

import argparse

import netCDF4
import numpy as np
import pytest
import xarray as xr
from examples.wall_files import NT, NU, NX, NZ, RE_TAU, RHO, U_TAU, H, coordinates, smooth, times

from infield import InfieldError
from infield.datasets.wall_pressure.readers.common import UserMetadata
from infield.datasets.wall_pressure.readers.open import open_planes
from infield.pipelines.wall_pressure.half_heights import half_heights

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


def code(path, dims=("time", "z", "x"), *, units=None, names=None, values=None, wall=None, **settings):
    """Planes of `smooth` as netCDF with axes of any names, lengths in metres unless other units are given."""
    units = {"time": "s", "z": "m", "x": "m", "p": "Pa"} | (units or {})
    scale = {"time": 1.0, "z": 1.0, "x": 1.0, "p": 1.0} | (values or {})
    names = {"time": "time", "z": "z", "x": "x"} | (names or {})
    z, x = coordinates()
    axes = {"time": times(), "z": z, "x": x}
    p = smooth() * RHO * U_TAU**2 * scale["p"]
    data = (
        xr.DataArray(
            p, dims=("time", "z", "x"), coords={k: (k, v * scale[k], {"units": units[k]}) for k, v in axes.items()}
        )
        .transpose(*dims)
        .rename({k: v for k, v in names.items() if k != v})
    )
    if wall:
        data = data.expand_dims(wall, axis=1)
    data.attrs["units"] = units["p"]
    told = {"Re_tau": RE_TAU, "u_tau": U_TAU, "nu": NU, "half_height": H, "rho": RHO}
    data.to_dataset(name="p").assign_attrs(told).to_netcdf(path, **settings)


def check(path, **stated):
    found, planes, notes = read(path, **stated)
    np.testing.assert_allclose(found, smooth(), rtol=1e-6, atol=1e-6)
    for axis, exact in zip(planes.grid.axes, coordinates(), strict=True):
        np.testing.assert_allclose(axis.coordinates, exact * U_TAU / NU, rtol=1e-6)
    return planes, notes


@pytest.mark.parametrize("suffix", [".nc", ".h5"])
def test_a_spanwise_axis_called_y(tmp_path, suffix):
    """Each remedy is followed: the order is asked for, and taken."""
    code(tmp_path / f"p{suffix}", names={"z": "y"})
    with pytest.raises(InfieldError, match=r"the axes time, y, x, expected z \(spanwise\).*order") as error:
        read(tmp_path / f"p{suffix}")
    assert "spanwise" in str(error.value)
    check(tmp_path / f"p{suffix}", order=("time", "z", "x"))


def test_z_normal_to_the_wall_and_y_spanwise(tmp_path):
    code(tmp_path / "p.nc", names={"z": "y"}, wall="z")
    with pytest.raises(InfieldError, match=r"12 points along 'y', taken for walls.*spanwise.*order"):
        read(tmp_path / "p.nc")
    check(tmp_path / "p.nc", order=("time", "wall", "z", "x"), wall="bottom")
    code(tmp_path / "q.nc", dims=("x", "time", "z"))
    check(tmp_path / "q.nc")
    with pytest.raises(InfieldError, match="leave the order out"):  # where names say what is what, they hold
        read(tmp_path / "q.nc", order=("z", "time", "x"))


@pytest.mark.parametrize(
    ("units", "values"),
    [
        ({"p": "N m-2"}, {}),
        ({"p": "N/m^2", "z": "meter", "x": "metres"}, {}),
        ({"p": "kPa", "z": "mm", "x": "mm"}, {"p": 1e-3, "z": 1e3, "x": 1e3}),
        ({"time": "ms", "z": "cm"}, {"time": 1e3, "z": 1e2}),
        ({"p": "cm2 s-2"}, {"p": 1e4 / RHO}),
        ({"time": "seconds"}, {}),
    ],
    ids=["newton", "meter", "mm and kPa", "ms and cm", "kinematic", "seconds"],
)
def test_units_as_other_codes_spell_them(tmp_path, units, values):
    code(tmp_path / "p.nc", units=units, values=values)
    planes, notes = check(tmp_path / "p.nc")
    np.testing.assert_allclose(planes.time, times() * U_TAU / H)
    assert not any("left out" in note for note in notes)


def test_units_that_are_none(tmp_path):
    code(tmp_path / "p.nc", units={"time": "iterations"})
    planes, notes = check(tmp_path / "p.nc")
    assert planes.time is None and any("'iterations' left out, which are no units of time" in note for note in notes)
    for key, value in (("p", "K"), ("x", "s")):
        code(tmp_path / f"{key}.nc", units={key: value})
        with pytest.raises(InfieldError, match=f"in units '{value}'"):
            read(tmp_path / f"{key}.nc")


@pytest.mark.parametrize(
    ("text", "value"),
    [("pi", np.pi), ("2pi", 2 * np.pi), ("pi/2", np.pi / 2), ("4/3*pi", 4 / 3 * np.pi), ("2 pi / 3", 2 / 3 * np.pi)],
)
def test_lengths_as_people_write_them(text, value):
    assert half_heights(text) == pytest.approx(value)
    for wrong in ("", "p", "/2", "x pi"):
        with pytest.raises(argparse.ArgumentTypeError):
            half_heights(wrong)
