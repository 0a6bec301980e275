"""Gridded files that say less, or say it otherwise, than CF would have it: right numbers, or one line that helps."""

from math import prod

import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr

from infield import InfieldError
from infield.datasets.tables.gridded import Gridded, convert_grid

LAT, LON = np.arange(10.0, 15), np.arange(20.0, 26)
VALUES = np.round(15 + 3 * np.sin(np.arange(30.0)).reshape(5, 6), 2)
VALUES.setflags(write=False)  # every test has its own


def field(**attributes):
    return xr.Dataset(
        {"sst": (("lat", "lon"), VALUES.copy(), {"units": "K", **attributes})},
        {"lat": ("lat", LAT, {"units": "degrees_north"}), "lon": ("lon", LON, {"units": "degrees_east"})},
    )


def stored(path, numbers, attributes, fill=None):
    """As a library below xarray writes it: numbers and attributes as they are."""
    with netCDF4.Dataset(path, "w") as file:
        for name, line in (("lat", LAT), ("lon", LON)):
            file.createDimension(name, len(line))
            file.createVariable(name, "f8", (name,))[:] = line
        variable = file.createVariable("sst", numbers.dtype, ("lat", "lon"), fill_value=fill)
        variable.set_auto_maskandscale(False)
        variable[:] = numbers
        variable.setncatts(attributes)
    return path


def numbers_of(found):
    return np.where(found.measurement.arrays["mask"], found.measurement.y[0, 0].numpy(), np.nan)


PACKED = np.round(VALUES * 100).astype("i2")


@pytest.mark.parametrize(
    "valid",
    [
        {"valid_range": np.array([0, 3000], "i2")},  # packed, as CF has it
        {"valid_range": np.array([0.0, 30.0])},  # unpacked, as the NetCDF Users Guide has it
        {"valid_min": np.float32(0), "valid_max": np.float32(30)},
        {"valid_range": np.array([0.0, 3000.0])},  # packed, as MATLAB writes it
    ],
)
def test_a_valid_range_of_packed_or_unpacked_numbers(tmp_path, valid):
    packed = PACKED.copy()
    packed[0, 0], packed[1, 1] = -1, 5000
    found = convert_grid(stored(tmp_path / "f.nc", packed, {"scale_factor": 0.01, **valid}), Gridded("sst"))
    right = np.where((packed < 0) | (packed > 3000), np.nan, packed * 0.01)
    np.testing.assert_allclose(numbers_of(found), right)
    assert found.facts["missing"] == 2


def test_bytes_that_mean_unsigned_numbers_with_a_range(tmp_path):
    """netCDF-3 has no unsigned bytes: 200 is written as -56, the valid range too."""
    counts = np.arange(30, dtype="u1").reshape(5, 6) * 8  # 0 to 232
    attributes = {"scale_factor": 0.1, "_Unsigned": "true", "valid_range": np.array([0, -56], "i1")}
    found = convert_grid(stored(tmp_path / "f.nc", counts.view("i1"), attributes), Gridded("sst"))
    np.testing.assert_allclose(numbers_of(found), np.where(counts > 200, np.nan, counts * 0.1))
    assert found.facts["missing"] == 4


def test_a_missing_value_in_words(tmp_path):
    values = VALUES.copy()
    values[0, 0] = -5
    marked = convert_grid(stored(tmp_path / "f.nc", values, {"missing_value": "-5"}), Gridded("sst"))
    plain = convert_grid(stored(tmp_path / "g.nc", values, {}), Gridded("sst"))  # the control: a value like any other
    assert (marked.facts["missing"], plain.facts["missing"]) == (1, 0)
    np.testing.assert_allclose(numbers_of(marked)[1:], VALUES[1:])


def test_packed_cells_that_nobody_wrote(tmp_path):
    """netCDF's own fill value, which as a packed number would be -327.67."""
    packed = PACKED.copy()
    packed[2, 3] = netCDF4.default_fillvals["i2"]
    found = convert_grid(stored(tmp_path / "f.nc", packed, {"scale_factor": 0.01}), Gridded("sst"))
    assert found.facts["missing"] == 1 and np.isnan(numbers_of(found)[2, 3])
    assert any("never written" in note for note in found.notes)
    named = convert_grid(stored(tmp_path / "g.nc", packed, {"scale_factor": 0.01}, np.int16(-1)), Gridded("sst"))
    assert numbers_of(named)[2, 3] == pytest.approx(-327.67)  # the control: the file names another fill value


@pytest.mark.parametrize("version", [2, 3])
def test_a_lost_chunk_of_zarr(tmp_path, version):
    """Of NaN it is a gap that is counted; of a number, which nobody can tell from data, it is refused."""
    field().to_zarr(tmp_path / "f.zarr", zarr_format=version, consolidated=False, encoding={"sst": {"chunks": (2, 3)}})
    named = (
        {"dimension_names": ("lat", "lon")} if version == 3 else {"attributes": {"_ARRAY_DIMENSIONS": ["lat", "lon"]}}
    )
    array = zarr.open_group(tmp_path / "g.zarr", mode="w", zarr_format=version).create_array(
        "sst", shape=(5, 6), chunks=(2, 3), dtype="f4", fill_value=0, **named
    )
    array[:] = VALUES
    assert convert_grid(tmp_path / "g.zarr", Gridded("sst")).facts["missing"] == 0  # the control: all is there
    for name in ("f.zarr", "g.zarr"):
        (tmp_path / name / "sst" / ("1.1" if version == 2 else "c/1/1")).unlink()
    found = convert_grid(tmp_path / "f.zarr", Gridded("sst"))
    assert found.facts["missing"] == prod((2, 3))
    assert "1 of 6 chunks of 'sst' are not on disk: their cells count as missing" in found.notes
    if version == 2:  # there the fill value means missing
        assert convert_grid(tmp_path / "g.zarr", Gridded("sst")).facts["missing"] == 6
        return
    with pytest.raises(InfieldError, match="1 of 6 chunks not on disk, and 6 values 0, zarr's for those"):
        convert_grid(tmp_path / "g.zarr", Gridded("sst"))
    assert convert_grid(tmp_path / "g.zarr", Gridded("sst", missing=(0.0,))).facts["missing"] == 6  # the remedies
    assert convert_grid(tmp_path / "g.zarr", Gridded("sst", no_missing=True)).facts["missing"] == 0


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_a_variable_of_a_group(tmp_path, suffix):
    """Coordinates of the group that holds it count, as netCDF-4 has it."""
    path = tmp_path / f"f.{suffix}"
    parts = {"/": field().drop_vars("sst"), "ocean/surface": field().drop_vars(["lat", "lon"])}
    for group, part in parts.items():
        if suffix == "nc":
            part.to_netcdf(path, mode="a" if path.exists() else "w", group=group)
        else:
            part.to_zarr(path, mode="a", group=group.strip("/"), consolidated=False)
    found = convert_grid(path, Gridded("ocean/surface/sst"))
    np.testing.assert_allclose(numbers_of(found), VALUES)
    assert [axis.coordinates for axis in found.measurement.grid.axes] == [tuple(LAT), tuple(LON)]
    assert found.measurement.channels == ("sst",)
    with pytest.raises(InfieldError, match="no variable 'sst', expected one of ocean/surface/sst"):
        convert_grid(path, Gridded("sst"))


@pytest.mark.parametrize("change", ["no units", "degrees", "radians"])
def test_longitudes_and_latitudes_that_state_no_degrees(tmp_path, change):
    """By their names they are degrees: closed around the circle, a meridian that comes twice left out."""
    lat, lon = np.linspace(-60, 60, 5), np.linspace(0, 360, 7)
    values = np.c_[VALUES, VALUES[:, 0]]
    scale = np.pi / 180 if change == "radians" else 1
    units = {} if change == "no units" else {"units": change}
    places = {"lat": ("lat", lat * scale, units), "lon": ("lon", lon * scale, units)}
    data = xr.Dataset({"t": (("lat", "lon"), values)}, places)
    data.to_netcdf(tmp_path / "f.nc")
    found = convert_grid(tmp_path / "f.nc", Gridded("t"))
    north, east = found.measurement.grid.axes
    assert (north.units, east.units, east.periodic) == ("degrees_north", "degrees_east", True)
    np.testing.assert_allclose(east.coordinates, lon[:-1], atol=1e-9)
    np.testing.assert_allclose(north.coordinates, lat, atol=1e-9)
    numbered = data.assign_coords(lat=np.arange(5) * 100.0, lon=np.arange(7) * 200.0)  # the control: no degrees at all
    numbered.to_netcdf(tmp_path / "g.nc")
    found = convert_grid(tmp_path / "g.nc", Gridded("t"))
    assert [axis.units for axis in found.measurement.grid.axes] == ["1", "1"]
    assert len([note for note in found.notes if "no units and holds no degrees" in note]) == 2


def test_a_latitude_beyond_the_pole(tmp_path):
    field().assign_coords(lat=("lat", LAT * 8, {"units": "degrees_north"})).to_netcdf(tmp_path / "f.nc")
    with pytest.raises(InfieldError, match="'lat': found a latitude of 96"):
        convert_grid(tmp_path / "f.nc", Gridded("sst"))


def test_coordinates_of_two_axes_that_vary_along_one(tmp_path):
    lat, lon = np.meshgrid(LAT, LON, indexing="ij")
    wide = xr.Dataset({"sst": (("y", "x"), VALUES)}, {"lat": (("y", "x"), lat), "lon": (("y", "x"), lon)})
    wide.to_netcdf(tmp_path / "f.nc")
    found = convert_grid(tmp_path / "f.nc", Gridded("sst"))
    assert [(a.name, a.coordinates) for a in found.measurement.grid.axes] == [("lat", tuple(LAT)), ("lon", tuple(LON))]
    wide.assign_coords(lat=(("y", "x"), lat + 0.01 * lon)).to_netcdf(tmp_path / "g.nc")  # the control: a bent grid
    bent = convert_grid(tmp_path / "g.nc", Gridded("sst"))
    assert [a.name for a in bent.measurement.grid.axes] == ["y", "x"]
    assert len([note for note in bent.notes if "vary along several axes" in note]) == 2


@pytest.mark.parametrize(("units", "variance"), [("cK", 0.25), ("K", 2500.0), ("", 2500.0)])
def test_a_noise_level_in_units_of_its_own(tmp_path, units, variance):
    data = field()
    data["error"] = (("lat", "lon"), np.full((5, 6), 50.0), {"units": units})
    data.to_netcdf(tmp_path / "f.nc")
    noise = convert_grid(tmp_path / "f.nc", Gridded("sst", noise_variable="error")).measurement.noise
    np.testing.assert_allclose(np.asarray(noise.variance), variance)


@pytest.mark.parametrize(("units", "said"), [("K2", "found variances, in 'K2'"), ("m", "found units 'm'")])
def test_a_noise_level_that_is_none(tmp_path, units, said):
    data = field()
    data["error"] = (("lat", "lon"), np.full((5, 6), 0.5), {"units": units})
    data["of_another"] = (("depth",), np.ones(3))
    data.to_netcdf(tmp_path / "f.nc")
    with pytest.raises(InfieldError, match=said):
        convert_grid(tmp_path / "f.nc", Gridded("sst", noise_variable="error"))
    with pytest.raises(InfieldError, match=r"'of_another': found it along \('depth',\)"):
        convert_grid(tmp_path / "f.nc", Gridded("sst", noise_variable="of_another"))


FLAGS = {
    "values": ({"flag_values": np.array([1, 2, 9], "i1"), "flag_meanings": "water land sea_ice"}, (1, 2, 9)),
    "bits": ({"flag_masks": np.array([1, 2, 8], "i1"), "flag_meanings": "water land sea_ice"}, (1, 2, 9)),
    "a share in %": ({"standard_name": "land_area_fraction", "units": "%"}, (0, 100, 20)),
}


@pytest.mark.parametrize("kind", FLAGS)
def test_land_by_flags(tmp_path, kind):
    attributes, (water, land, ice) = FLAGS[kind]
    data = field()
    data["sst"][1, 2] = data["sst"][3, 3] = np.nan  # land, and a gap under ice
    flags = np.full((5, 6), water, "i1")
    flags[1, 2], flags[3, 3] = land, ice
    data["mask"] = (("lat", "lon"), flags, attributes)
    data.to_netcdf(tmp_path / "f.nc")
    found = convert_grid(tmp_path / "f.nc", Gridded("sst", mask="mask"))
    assert (found.facts["land"], found.facts["missing"]) == (1, 1)
    data["mask"] = (("lat", "lon"), flags + 2)  # the control: numbers that nobody explains
    data.to_netcdf(tmp_path / "g.nc")
    with pytest.raises(InfieldError, match="expected 0 to 1, or flag_values or flag_masks"):
        convert_grid(tmp_path / "g.nc", Gridded("sst", mask="mask"))


def levels(tmp_path, coordinate, attributes):
    stack = np.stack([VALUES + i for i in range(len(coordinate))])
    data = xr.Dataset({"t": (("level", "lat", "lon"), stack)}, {"level": ("level", coordinate, attributes)})
    data.to_netcdf(tmp_path / "f.nc")
    return tmp_path / "f.nc"


def test_a_number_that_is_an_index_and_another_place_is_refused(tmp_path):
    """Level 3 of 1, 2, 3, 5, 7 hPa, or the level of 3 hPa? Each remedy gives what it says."""
    path = levels(tmp_path, np.array([1.0, 2, 3, 5, 7]), {"units": "hPa"})
    with pytest.raises(InfieldError, match=r"index \(of 5\) and a coordinate.*write -2 for the index, or 3.0 for"):
        convert_grid(path, Gridded("t", select={"level": "3"}))
    for text, index in (("-2", 3), ("3.0", 2), ("7", 4), ("0", 0)):
        found = convert_grid(path, Gridded("t", select={"level": text}))
        np.testing.assert_allclose(numbers_of(found), VALUES + index)


def test_dates_of_calendars_that_have_none(tmp_path):
    path = levels(tmp_path, np.arange(3), {"units": "days since 0000-01-01", "standard_name": "time"})
    np.testing.assert_allclose(numbers_of(convert_grid(path, Gridded("t", select={"time": "0000-01-02"}))), VALUES + 1)
    path = levels(tmp_path, np.arange(3), {"units": "months since 2000-01-01", "standard_name": "time"})
    with pytest.raises(InfieldError, match="found '2000-02', expected an index from 0 to 2"):
        convert_grid(path, Gridded("t", select={"time": "2000-02"}))


@pytest.mark.parametrize(
    ("coordinate", "said"),
    [(list("abcde"), "found coordinates such as 'a'"), ([10, 11, np.nan, 13, 14], "1 of 5 coordi")],
)
def test_coordinates_that_are_none(tmp_path, coordinate, said):
    field().assign_coords(lat=("lat", coordinate)).to_netcdf(tmp_path / "f.nc")
    with pytest.raises(InfieldError, match=said):
        convert_grid(tmp_path / "f.nc", Gridded("sst"))


def test_a_dimension_without_cells(tmp_path):
    with netCDF4.Dataset(tmp_path / "f.nc", "w") as file:
        for name, size in (("time", None), ("lat", 5)):
            file.createDimension(name, size)
        file.createVariable("t", "f8", ("time", "lat"))
    with pytest.raises(InfieldError, match="'time': found a dimension of 0 cells"):
        convert_grid(tmp_path / "f.nc", Gridded("t"))


@pytest.mark.parametrize("empty", [0, -1])
def test_of_a_meridian_that_comes_twice_the_one_with_data_stays(tmp_path, empty):
    """Swaths write one side of the date line or the other; values that the other side alone has are counted."""
    lon, values = np.linspace(0, 360, 7), np.c_[VALUES, VALUES[:, 0]].copy()
    values[1:, empty] = np.nan
    places = {"lat": ("lat", LAT, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})}
    xr.Dataset({"t": (("lat", "lon"), values)}, places).to_netcdf(tmp_path / "f.nc")
    found = convert_grid(tmp_path / "f.nc", Gridded("t"))
    at = np.argmin(np.mod(found.measurement.grid.axes[1].coordinates, 360))
    np.testing.assert_allclose(numbers_of(found)[:, at], VALUES[:, 0])
    assert found.facts["missing"] == 0 and not any("only it has" in note for note in found.notes)
    values[0, -1 - empty] = np.nan  # a datum that the other alone has
    xr.Dataset({"t": (("lat", "lon"), values)}, places).to_netcdf(tmp_path / "g.nc")
    found = convert_grid(tmp_path / "g.nc", Gridded("t"))
    assert found.facts["missing"] == 1 and any("and 1 values that only it has" in note for note in found.notes)
