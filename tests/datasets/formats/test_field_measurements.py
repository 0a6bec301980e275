"""Measurement files as people of geography and climate write them, with values worked out independently."""

from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
import xarray as xr

from infield import InfieldError, open_measurement
from infield.core.grid import Axis, Grid, snap
from infield.datasets.training.fields import FieldFile
from infield.physics.operators.sensors import PointSensors

pytestmark = pytest.mark.field
LAT, LON = np.array([10.0, 11.0, 12.0]), np.array([20.0, 21.0, 22.0, 23.0])


def dataset(lat=LAT, lon=LON, operator=None, units=("degrees_north", "degrees_east"), **variables):
    """A gridded field, of value 100 latitude + longitude, with a gap at the first place."""
    values = 100 * lat[:, None] + lon
    mask = np.ones(values.shape, dtype=np.int8)
    mask[0, 0] = 0
    told = {
        "field": {"dims": ["lat", "lon"], "channels": ["t"], "units": "K"},
        "operator": operator or {"name": "mask", "arrays": {"mask": "mask"}},
        "noise": {"law": "gaussian", "variance": 0.25},
    }
    return xr.Dataset(
        {
            "data": (("lat", "lon"), values * mask, {"units": "K"}),
            "mask": (("lat", "lon"), mask),
            "truth": (("lat", "lon"), values, {"units": "K"}),
            **variables,
        },
        {"lat": ("lat", lat, {"units": units[0]}), "lon": ("lon", lon, {"units": units[1]})},
        {"infield_format": "measurement", "infield_version": 1, **{k: json.dumps(v) for k, v in told.items()}},
    )


def written(path, data):
    data.to_zarr(path, zarr_format=3, consolidated=False)
    return path


def check(path, lat=LAT, lon=LON):
    """The field of `dataset`, whatever its file looks like: axes as expected, every value at its place."""
    found = open_measurement(path)
    np.testing.assert_allclose(found.grid.axes[0].coordinates, lat)
    np.testing.assert_allclose(found.grid.axes[1].coordinates, lon)
    values = 100 * np.asarray(lat)[:, None] + (np.asarray(lon) + 180) % 360 - 180
    assert int((~found.observed).sum()) == 1
    missing = (~found.observed[0]).nonzero()[0].tolist()
    np.testing.assert_allclose(found.truth[0, 0], values)
    seen = found.observed[0].numpy()
    np.testing.assert_allclose(found.y[0, 0].numpy()[seen], values[seen])
    return missing


@pytest.mark.parametrize("kind", ["zip of the contents", "zip of the folder", ".nc", "netCDF 3 with no suffix"])
def test_stores_that_are_one_file(tmp_path, kind):
    data = dataset()
    path = tmp_path / "m"
    if kind.startswith("zip"):
        folder = written(tmp_path / "m.zarr", data)
        top = folder if kind.endswith("contents") else tmp_path
        with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(top))
        shutil.rmtree(folder)
        path = tmp_path / "m.zip"
    elif kind == ".nc":
        path = tmp_path / "m.nc"
        data.to_netcdf(path)
    else:
        data.to_netcdf(path, format="NETCDF3_64BIT")
    assert check(path) == [0, 0]
    assert open_measurement(path).digest == open_measurement(path).digest


def test_files_that_are_none(tmp_path):
    (tmp_path / "m.zip").write_bytes(b"PK\x03\x04 nothing more")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "no zarr here")
    (tmp_path / "m.nc").write_bytes(b"CDF\x01" + bytes(40))
    (tmp_path / "m.txt").write_text("x")
    for name in ("m.zip", "empty.zip", "m.nc", "m.txt"):
        with pytest.raises(InfieldError) as error:
            open_measurement(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("dims", [["lat"], ["lon"], ["lat", "lon"]])
def test_decreasing_axes_are_turned(tmp_path, dims):
    data = dataset().isel({name: slice(None, None, -1) for name in dims})
    assert check(written(tmp_path / "m.zarr", data)) == [0, 0]


def test_decreasing_axes_that_nothing_is_laid_out_along(tmp_path):
    kernel = xr.Variable(("i", "j"), np.array([[0.0, 1.0], [2.0, 3.0]]))
    operator = {"name": "convolution", "parameters": {"boundary": "zero"}, "arrays": {"kernel": "kernel"}}
    data = dataset(operator=operator, kernel=kernel).isel(lat=slice(None, None, -1))
    with pytest.raises(InfieldError, match=r"'lat': found decreasing coordinates under the operator 'convolution'"):
        open_measurement(written(tmp_path / "m.zarr", data))
    open_measurement(written(tmp_path / "right.zarr", data.isel(lat=slice(None, None, -1))))  # the remedy


@pytest.mark.parametrize("falling", [False, True])
def test_longitudes_across_the_date_line(tmp_path, falling):
    lon = np.array([178.5, 179.5, -179.5, -178.5])
    data = dataset(lon=lon)
    data = data.isel(lon=slice(None, None, -1)) if falling else data
    first = -181.5 if falling else 178.5  # turns go on from where the file begins
    assert check(written(tmp_path / "m.zarr", data), lon=first + np.arange(4)) == [0, 0]


def test_sensors_across_the_date_line():
    """A sensor at -179.5 lies between 180 and 181 of the grid; 179.5 is where it says. Not so on an axis in metres."""
    grid = Grid((Axis("lat", (0.0, 1.0), "degrees_north"), Axis("lon", (179.0, 180.0, 181.0), "degrees_east")))
    x = torch.tensor([[[[0.0, 10.0, 30.0], [0.0, 10.0, 30.0]]]], dtype=torch.float64)
    sensors = PointSensors.at_coordinates(grid, 1, torch.tensor([[0.5, -179.5], [0.5, 179.5], [0.0, -179.0]]))
    np.testing.assert_allclose(sensors.A(x)[0, 0], [20.0, 5.0, 30.0])
    metres = Grid((grid.axes[0], Axis("lon", (179.0, 180.0, 181.0), "m")))
    with pytest.raises(InfieldError, match="outside the domain"):
        PointSensors.at_coordinates(metres, 1, torch.tensor([[0.5, -179.5]]))


def test_float32_sensors_on_the_border():
    axis = Axis("x", (0.1, 0.2, 0.3))
    positions = torch.from_numpy(np.array([[0.1], [0.3]], dtype=np.float32).astype(np.float64))
    x = torch.tensor([[[1.0, 2.0, 3.0]]], dtype=torch.float64)
    np.testing.assert_allclose(PointSensors.at_coordinates(Grid((axis,)), 1, positions).A(x)[0, 0], [1, 3], atol=1e-6)


def points(path, units, east=20.0):
    told = {
        "field": {"dims": ["station"], "coordinates": ["lon", "lat"], "channels": ["t"], "units": "K"},
        "operator": {"name": "points", "arrays": {"indices": "seen"}},
        "noise": {"law": "gaussian", "variance": 0.01},
    }
    return written(
        path,
        xr.Dataset(
            {"data": ("sensor", [1.0, 2.0], {"units": "K"}), "seen": ("sensor", [0, 2])},
            {
                "lon": ("station", east + np.arange(3.0), {"units": units[0]}),
                "lat": ("station", [0.0, 1.0, 2.0], {"units": units[1]}),
            },
            {"infield_format": "measurement", "infield_version": 1, **{k: json.dumps(v) for k, v in told.items()}},
        ),
    )


def test_scattered_points_in_degrees_east_and_north(tmp_path):
    found = open_measurement(points(tmp_path / "m.zarr", ("degrees_east", "degrees_north")))
    assert found.grid.axis_units == ("degrees_east", "degrees_north")
    assert type(found.grid).from_json(found.grid.to_json()) == found.grid
    for i, units in enumerate([("degrees_east", "m"), ("K", "degrees_north"), ("degrees_east", "degree_east")]):
        with pytest.raises(InfieldError, match="the same units for all coordinates"):
            open_measurement(points(tmp_path / f"{i}.zarr", units))


@pytest.mark.parametrize(
    ("first", "step", "n"), [(0.0, 1 / 47, 48), (5.2e6, 100.0, 40), (-179.95, 0.1, 3600), (1013.25, 0.37, 25)]
)
def test_positions_in_single_precision_are_even_again(tmp_path, first, step, n):
    exact = first + step * np.arange(n)
    single = exact.astype(np.float32)
    found = snap(single)
    assert Axis("x", tuple(found)).uniform
    np.testing.assert_allclose(found, exact, atol=np.spacing(np.abs(single).max()))
    assert Axis("x", tuple(snap(np.round(exact, 6)))).uniform
    bent = exact.copy()
    bent[n // 2] += 0.05 * step  # the control
    assert not Axis("x", tuple(snap(bent))).uniform
    assert "uneven spacing along axis 'x'" in Axis("x", tuple(bent)).spacings


def test_a_measurement_on_float32_positions(tmp_path):
    lat = (5.2e6 + 100.0 * np.arange(3)).astype(np.float32)
    lon = (4.1e5 + 30.0 * np.arange(4)).astype(np.float32)
    data = dataset(units=("m", "m")).assign_coords(lat=("lat", lat, {"units": "m"}), lon=("lon", lon, {"units": "m"}))
    assert open_measurement(written(tmp_path / "m.zarr", data)).grid.uniform


def test_training_on_float32_positions_takes_the_same_basis(tmp_path):
    """Positions i / 47 in single precision: the grid, and with it the modes of the prior, are those of double."""
    grids = []
    for kind in ("float32", "float64"):
        place = (np.arange(48) / 47).astype(kind)
        axes = {name: (name, place, {"units": "m", "periodic": 0}) for name in ("y", "x")}
        fields = np.random.default_rng(0).standard_normal((4, 48, 48)).astype("float32")
        made = xr.Dataset({"field": (("sample", "y", "x"), fields, {"units": "1"})}, axes)
        made.to_zarr(tmp_path / kind, zarr_format=3, consolidated=False)
        file = FieldFile(str(tmp_path / kind), batch_size=2, validation=0)
        file.setup("fit")
        grids.append(file.grid)
    single, double = grids
    assert single.uniform and double.uniform and single.shape == double.shape
    np.testing.assert_allclose(single.spacing, double.spacing, rtol=1e-6)


def test_no_sensor_at_all(tmp_path):
    operator = {"name": "points", "arrays": {"coordinates": "at"}}
    data = dataset(operator=operator, at=(("none", "axis"), np.zeros((0, 2))))
    with pytest.raises(InfieldError, match="found no sensor, expected the coordinates of at least one"):
        open_measurement(written(tmp_path / "m.zarr", data))


def test_the_operator_of_another_package_is_compared_with_its_fingerprint(tmp_path, monkeypatch):
    """The one in the file is compared, nothing is built twice; another operator is refused until it is gone."""
    from infield.core._deepinv import deepinv
    from infield.datasets.formats.measurement import write_measurement
    from infield.physics.operators import deepinv as named

    class Weights(deepinv.physics.LinearPhysics):
        version = 1.0

        def __init__(self, img_size, **settings):
            super().__init__(**settings)
            self.register_buffer("weights", self.version + torch.rand(img_size))

        def A(self, x):
            return self.weights * x

        def A_adjoint(self, y):
            return self.weights * y

    monkeypatch.setattr(deepinv.physics, "Weights", Weights, raising=False)
    operator = {"name": "deepinv:Weights", "parameters": {"seed": 3}}
    by_hand = written(tmp_path / "hand.zarr", dataset(operator=operator).drop_vars("mask"))
    found = open_measurement(by_hand)
    assert "operator_fingerprint" not in found.attributes
    write_measurement(tmp_path / "ours.zarr", found)
    assert len(json.loads(xr.open_zarr(tmp_path / "ours.zarr", consolidated=False).attrs["operator_fingerprint"])) == 8
    with monkeypatch.context() as patch:
        patch.setattr(named, "check_rebuilt", lambda *arguments: pytest.fail("built twice"))
        again = open_measurement(tmp_path / "ours.zarr")
    x = torch.ones(1, 1, 3, 4, dtype=torch.float64)
    assert torch.equal(again.operator.A(x), found.operator.A(x))
    monkeypatch.setattr(Weights, "version", 1.001)
    with pytest.raises(
        InfieldError, match=r"ours.zarr: 'operator_fingerprint': found .* now, expected .*; install"
    ) as e:
        open_measurement(tmp_path / "ours.zarr")
    assert "remove this attribute" in e.value.remedy
    said = tmp_path / "ours.zarr/zarr.json"
    about = json.loads(said.read_text(encoding="utf-8"))
    del about["attributes"]["operator_fingerprint"]
    said.write_text(json.dumps(about), encoding="utf-8")
    assert not torch.equal(open_measurement(tmp_path / "ours.zarr").operator.A(x), found.operator.A(x))
