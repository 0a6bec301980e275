"""Gridded fields to measurements: unpacked, turned, ordered; gaps and land told apart; CF carried up to the map."""

import sys

import numpy as np
import pytest
import torch
import xarray as xr

from infield import InfieldError
from infield.core.grid import Grid, PointSet
from infield.datasets.formats.carried import Carried
from infield.datasets.formats.measurement import open_measurement
from infield.datasets.formats.posterior import PosteriorWriter
from infield.datasets.tables.gridded import Gridded, convert_grid
from infield.datasets.tables.maps import map_of, write_geotiff, write_netcdf
from infield.datasets.tables.projection import grid_mapping
from infield.pipelines.cli import main

MAPPING = grid_mapping((8.0, 50.0))
LAT, LON = np.array([30.0, 20, 10, 0]), np.arange(0.0, 360, 30)


def value(lat, lon):
    return 0.25 * lat + 0.125 * (lon % 360)


def ocean() -> xr.Dataset:
    """As somebody packs it: (lon, lat) in that order, latitudes decreasing, whole numbers, one gap, one land cell."""
    packed = np.round((value(LAT[None, :], LON[:, None]) - 5) / 0.125).astype(np.int16)
    packed[2, 1] = -999  # a gap
    packed[5, 3] = -999  # land
    packed[7, 0] = 3000  # out of the valid range
    sst = xr.Variable(
        ("lon", "lat"),
        packed,
        {"units": "degC", "standard_name": "sea_surface_temperature", "long_name": "temperature of the sea",
         "scale_factor": 0.125, "add_offset": 5.0, "_FillValue": np.int16(-999), "valid_max": np.int16(2000),
         "grid_mapping": "sphere"},
    )  # fmt: skip
    sea = np.ones((12, 4), dtype=np.int8)
    sea[5, 3] = 0
    return xr.Dataset(
        {
            "sst": sst,
            "sea": (("lon", "lat"), sea),
            "sphere": ((), 0, {"grid_mapping_name": "latitude_longitude", "earth_radius": 6371229.0}),
            "lat_bnds": (("lat", "two"), np.stack([LAT + 5, LAT - 5], axis=1)),
        },
        coords={
            "lat": ("lat", LAT, {"units": "degrees_north", "standard_name": "latitude", "bounds": "lat_bnds"}),
            "lon": ("lon", LON, {"units": "degrees_east", "long_name": "longitude"}),
        },
        attrs={"title": "A small sea", "institution": "Here", "history": "made"},
    )


@pytest.fixture
def source(tmp_path):
    ocean().to_netcdf(tmp_path / "ocean.data", engine="netcdf4")  # no suffix that tells
    return tmp_path / "ocean.data"


def on_grid(measurement):
    lat, lon = (np.array(axis.coordinates) for axis in measurement.grid.axes)
    return value(lat[:, None], lon[None, :])


def test_values_lie_where_they_belong(source, tmp_path):
    converted = convert_grid(source, Gridded("sst", noise_std=0.5))
    converted.write(tmp_path / "m.zarr", source=source.name)
    measurement = open_measurement(tmp_path / "m.zarr")
    lat, lon = measurement.grid.axes
    assert (lat.name, lon.name) == ("lat", "lon") and lat.coordinates == (0, 10, 20, 30)
    assert lon.periodic and not lat.periodic and lon.coordinates == tuple(LON)
    seen = measurement.observed[0].numpy()
    assert converted.facts == {"data": 45, "missing": 3, "land": None, "cells": 48} and seen.sum() == 45
    assert not seen[2, 2] and not seen[0, 5] and not seen[3, 7]  # (lat, lon) of the gap, the land, the invalid value
    np.testing.assert_allclose(measurement.y[0, 0].numpy()[seen], on_grid(measurement)[seen])
    wrong = on_grid(measurement)[::-1]  # the negative control: latitudes that nobody turned
    assert not np.allclose(measurement.y[0, 0].numpy()[seen], wrong[seen])
    assert measurement.noise.variance == 0.25


@pytest.mark.parametrize("attribute", [{}, {"standard_name": "sea_binary_mask"}])
def test_land_is_no_gap(source, tmp_path, attribute):
    dataset = xr.open_dataset(source, engine="netcdf4", mask_and_scale=False)
    dataset["sea"].attrs.update(attribute)
    dataset.load().close()
    dataset.to_netcdf(tmp_path / "again.nc", engine="netcdf4")
    facts = convert_grid(tmp_path / "again.nc", Gridded("sst", mask="sea")).facts
    assert facts == {"data": 45, "missing": 2, "land": 1, "cells": 48}


def test_a_land_mask_of_the_other_sense_is_seen_by_the_data(source, tmp_path):
    dataset = ocean()
    dataset["sea"] = 1 - dataset["sea"]
    dataset.to_netcdf(tmp_path / "land.nc", engine="netcdf4")
    assert convert_grid(tmp_path / "land.nc", Gridded("sst", mask="sea")).facts["land"] == 1
    dataset["sea"].attrs["standard_name"] = "sea_binary_mask"  # which it is not
    dataset.to_netcdf(tmp_path / "wrong.nc", engine="netcdf4")
    with pytest.raises(InfieldError, match="45 data on land"):
        convert_grid(tmp_path / "wrong.nc", Gridded("sst", mask="sea"))


def test_gaps_may_be_refused(source):
    with pytest.raises(InfieldError, match="3 of 48 values missing"):
        convert_grid(source, Gridded("sst", gaps=False))


def test_longitudes_are_turned(tmp_path):
    lon = np.array([0.0, 10, 330, 340, 350])
    field = xr.Dataset(
        {"v": (("lat", "lon"), value(np.array([0.0, 5])[:, None], lon[None, :]))},
        coords={"lat": ("lat", [0.0, 5], {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})},
    )
    field.to_netcdf(tmp_path / "cut.nc", engine="netcdf4")
    measurement = convert_grid(tmp_path / "cut.nc", Gridded("v")).measurement
    assert measurement.grid.axes[1].coordinates == (-30, -20, -10, 0, 10)
    np.testing.assert_allclose(measurement.y[0, 0], on_grid(measurement))


def test_a_cyclic_point_is_left_out(tmp_path):
    lon = np.append(LON, 360.0)
    field = xr.Dataset(
        {"v": (("lat", "lon"), value(LAT[:, None], lon[None, :]))},
        coords={"lat": ("lat", LAT, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})},
    )
    field.to_netcdf(tmp_path / "cyclic.nc", engine="netcdf4")
    axis = convert_grid(tmp_path / "cyclic.nc", Gridded("v")).measurement.grid.axes[1]
    assert axis.periodic and axis.coordinates == tuple(LON)


def months(calendar="360_day") -> xr.Dataset:
    values = np.arange(24.0).reshape(3, 2, 4)
    values[:, 0, 0] = np.nan
    values[1, 1, 1] = np.nan
    time = ("time", [15.0, 45, 75], {"units": "days since 2001-01-01", "calendar": calendar})
    return xr.Dataset({"v": (("time", "y", "x"), values)}, coords={"time": time, "x": ("x", np.arange(4.0))})


@pytest.mark.parametrize("text", ["1", "2001-02-16", "2001-02", "-2"])
def test_one_time_by_index_or_date(tmp_path, text):
    months().to_netcdf(tmp_path / "months.nc", engine="netcdf4")
    converted = convert_grid(tmp_path / "months.nc", Gridded("v", select={"time": text}, mask="always-missing"))
    assert converted.facts == {"data": 6, "missing": 1, "land": 1, "cells": 8}
    assert converted.measurement.y[0, 0].flatten().tolist() == [0, 9, 10, 11, 12, 0, 14, 15]
    assert converted.extra["time"].item() == 45 and converted.extra["time"].attrs["calendar"] == "360_day"
    assert any("'y' has no coordinate" in note for note in converted.notes)


@pytest.mark.parametrize(("text", "said"), [("2001", "3 begin so"), ("1999-01", "found '1999-01'"), ("7", "0 to 2")])
def test_no_time_or_several(tmp_path, text, said):
    months().to_netcdf(tmp_path / "months.nc", engine="netcdf4")
    with pytest.raises(InfieldError, match=said):
        convert_grid(tmp_path / "months.nc", Gridded("v", select={"time": text}))


def test_what_cf_says_travels_to_the_map(source, tmp_path):
    convert_grid(source, Gridded("sst", mask="sea", convert="K")).write(tmp_path / "m.zarr", source=source.name)
    measurement = open_measurement(tmp_path / "m.zarr")
    draws = torch.randn(5, 1, 4, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    writer = PosteriorWriter(
        tmp_path / "p.zarr", grid=measurement.grid, channels=measurement.channels, units="K", samples=5, block=3,
        run={}, dtype="float64", title="Posterior of m.zarr", carried=measurement.carried,
    )  # fmt: skip
    for b in range(2):
        rows = writer.sample_range(b)
        writer.write_block(b, draws[rows.start : rows.stop], {"velocity_calls": 1, "operator_calls": 1, "seconds": 0})
    writer.finish()
    write_netcdf(map_of(tmp_path / "p.zarr", quantiles=(0.25, 0.5), draws=(4, 1)), tmp_path / "map.nc")
    with xr.open_dataset(tmp_path / "map.nc", engine="netcdf4") as found:
        sea = np.ones((4, 12), dtype=bool)
        sea[0, 5] = False
        for name, expected in (
            ("sst", draws.mean(0)),
            ("sst_sd", draws.std(0)),
            ("sst_q25", draws.sort(0).values[:2].mean(0)),  # at .25 (5 + 1) of the ranks
            ("sst_q50", draws.quantile(0.5, 0)),
            ("sst_draws", draws[[4, 1], 0]),
        ):
            values, expected = found[name].values, expected.numpy().reshape(-1, 4, 12)
            np.testing.assert_allclose(values.reshape(-1, 4, 12)[:, sea], expected[:, sea])
            assert np.isnan(values[..., ~sea]).all() and found[name].attrs["units"] == "K"
        assert found["sst"].attrs["standard_name"] == "sea_surface_temperature"
        assert found["sst_sd"].attrs["standard_name"] == "sea_surface_temperature standard_error"
        assert found["sst"].attrs["long_name"] == "temperature of the sea"
        assert found["lat"].attrs["bounds"] == "lat_bnds" and found["lon"].attrs["long_name"] == "longitude"
        np.testing.assert_allclose(found["lat_bnds"], np.stack([LAT[::-1] - 5, LAT[::-1] + 5], axis=1))
        assert found["sphere"].attrs["earth_radius"] == 6371229.0
        assert found.attrs["institution"] == "Here" and found.attrs["history"].endswith("made")
        assert found.attrs["title"] == "Posterior of m.zarr: A small sea"
    assert main(["convert", "posterior", str(tmp_path / "p.zarr"), "-o", str(tmp_path / "draws.nc"), "--arviz"]) == 0
    with xr.open_dataset(tmp_path / "draws.nc", group="posterior") as found:
        assert found["sst"].dims == ("chain", "draw", "lat", "lon") and found.attrs["inference_library"] == "infield"
        np.testing.assert_allclose(found["sst"].values[0][:, sea], draws[:, 0].numpy()[:, sea])
        assert np.isnan(found["sst"].values[0][:, ~sea]).all() and found["lat"].attrs["units"] == "degrees_north"


def test_a_posterior_of_nothing_but_numbers_has_no_names(tmp_path):
    grid = Grid.regular((4,))
    writer = PosteriorWriter(
        tmp_path / "p.zarr", grid=grid, channels=("a", "b"), units="1", samples=1, block=1, run={}, carried=Carried()
    )
    writer.write_block(0, torch.ones(1, 2, 4), {"velocity_calls": 1, "operator_calls": 1, "seconds": 0})
    writer.finish()
    found = map_of(tmp_path / "p.zarr")
    assert set(found.data_vars) == {"field", "field_sd", "channel"} - {"channel"} and found["field"].shape == (2, 4)


def test_a_geotiff_has_a_band_for_each_and_north_on_top(tmp_path):
    grid = Grid.regular((3, 4), (20.0, 30.0), names=("y", "x"), units="km")
    writer = PosteriorWriter(tmp_path / "p.zarr", grid=grid, channels=("v",), units="m", samples=2, block=2, run={},
                             carried=Carried(variables={"crs": xr.Variable((), 0, MAPPING)}))  # fmt: skip
    draws = torch.arange(24.0).reshape(2, 1, 3, 4)
    writer.write_block(0, draws, {"velocity_calls": 1, "operator_calls": 1, "seconds": 0})
    writer.finish()
    found = map_of(tmp_path / "p.zarr", quantiles=(0.5,), draws=(1,))
    rasterio = pytest.importorskip("rasterio")
    write_geotiff(found, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.descriptions == ("v", "v_sd", "v_q50", "v_draws 1")
        assert tuple(file.bounds) == (-5, -5, 35, 25)
        np.testing.assert_allclose(file.read(1), draws.mean(0)[0].numpy()[::-1])
        assert file.crs.to_dict()["proj"] == "aeqd" and file.crs.to_dict()["units"] == "km"
        assert next(file.sample([(30, 20)]))[0] == 17  # the mean at the last point: (11 + 23) / 2


def test_without_rasterio_netcdf_is_offered(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(InfieldError, match=r"or write netCDF"):
        write_geotiff(xr.Dataset(), tmp_path / "map.tif")


def test_a_map_of_scattered_points_keeps_their_positions(tmp_path):
    grid = PointSet(((0.5,), (2.0,), (1.5,)), names=("depth",), units="m")
    writer = PosteriorWriter(
        tmp_path / "p.zarr", grid=grid, channels=("v",), units="K", samples=2, block=2, run={}, dtype="float64"
    )
    writer.write_block(0, torch.ones(2, 1, 3), {"velocity_calls": 1, "operator_calls": 1, "seconds": 0})
    writer.finish()
    write_netcdf(map_of(tmp_path / "p.zarr"), tmp_path / "map.nc")
    with xr.open_dataset(tmp_path / "map.nc") as found:
        np.testing.assert_array_equal(found["v"].coords["depth"], [0.5, 2, 1.5])
        np.testing.assert_array_equal(found["v"], [1, 1, 1])
