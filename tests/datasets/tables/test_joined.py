"""A table brought onto the field of another file, and both joined: places, units, noise and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from infield import InfieldError
from infield.datasets.formats.measurement import open_measurement
from infield.datasets.tables.gridded import Gridded, convert_grid
from infield.datasets.tables.joined import join
from infield.datasets.tables.scattered import Scattered, convert_table
from infield.posterior.kriging.measured import is_point_data


def plane(lon, lat):
    return 280 + 0.5 * lon + 0.25 * lat


@pytest.fixture
def files(tmp_path):
    """A satellite's grid in kelvin with gaps, and buoys in degrees Celsius, two of them outside of it."""
    lon, lat = np.linspace(4, 8, 9), np.linspace(50, 53, 7)
    sst = plane(lon[None, :], lat[:, None])
    sst[2, 3:5] = np.nan
    xr.Dataset(
        {"sst": (("lat", "lon"), sst, {"units": "K"})},
        {"lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon, {"units": "degrees_east"})},
    ).to_netcdf(tmp_path / "satellite.nc")
    convert_grid(tmp_path / "satellite.nc", Gridded(variable="sst")).write(tmp_path / "s.zarr", source="satellite")
    rng = np.random.default_rng(0)
    at = rng.uniform(4, 8, 20), rng.uniform(50, 53, 20)
    at[0][:2] = 30, -20
    buoys = pd.DataFrame({"longitude": at[0], "latitude": at[1], "t": plane(*at) - 273.15})
    buoys.to_csv(tmp_path / "buoys.csv", index=False)
    return tmp_path


ASKED = Scattered(value="t", at=("longitude", "latitude"), grid=(), units="degC", noise_std=0.2)


def onto(folder, **more):
    asked = Scattered(**{**vars(ASKED), "onto": folder / "s.zarr", **more})
    return convert_table(folder / "buoys.csv", asked)


def test_satellite_and_buoys_in_one_measurement(files):
    converted = onto(files)
    assert any("2 data lie outside" in note for note in converted.notes)
    converted.write(files / "b.zarr", source="buoys")
    join([files / "s.zarr", files / "b.zarr"]).write(files / "both.zarr", source="both")
    both = open_measurement(files / "both.zarr")
    assert both.count == 63 - 2 + 18 and both.units == "K" and both.channels == ("sst",)
    lat, lon = (np.array(axis.coordinates) for axis in both.grid.axes)
    field = torch.from_numpy(plane(lon[None, :], lat[:, None]))[None, None]
    off = (both.y - both.operator.A(field))[0][both.observed]
    assert off.abs().max() < 1e-6  # every datum at its place, in the units of the field
    assert is_point_data(both) and both.noise.estimated
    assert both.noise.models[1].variance == pytest.approx(0.04)


def test_other_fields_are_refused_and_the_remedy_works(files):
    alone = convert_table(files / "buoys.csv", Scattered(**{**vars(ASKED), "grid": (0.5,)}))
    alone.write(files / "alone.zarr", source="buoys")
    with pytest.raises(InfieldError, match="onto") as error:
        join([files / "s.zarr", files / "alone.zarr"])
    assert "onto" in error.value.parameters
    onto(files).write(files / "b.zarr", source="buoys")
    join([files / "s.zarr", files / "b.zarr"])


def test_a_field_and_a_projection_exclude_each_other(files):
    with pytest.raises(InfieldError, match="one of them"):
        onto(files, project=True)


def test_a_missing_axis_is_refused(files):
    with pytest.raises(InfieldError, match="a column for the axis 'lat'"):
        onto(files, at=("longitude",))
