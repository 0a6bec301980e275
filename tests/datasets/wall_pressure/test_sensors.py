"""Sensors on a wall: where they are, what they read, and the file of their measurement."""

import numpy as np
import pytest
import torch
import xarray as xr
from examples.wall_files import smooth

from infield import InfieldError, open_measurement
from infield.core.grid import Axis, Grid
from infield.datasets.wall_pressure.sensors import WallSensors, write_wall_measurement
from infield.physics.wall_pressure.wall_units import WALL_LENGTH, wall_grid

GRID = wall_grid(180, dx_plus=4 * np.pi * 180 / 60, dz_plus=4 / 3 * np.pi * 180 / 24)
OPEN = Grid(tuple(Axis(a.name, tuple(50 + c for c in a.coordinates), WALL_LENGTH) for a in GRID.axes))
PLANE = torch.from_numpy(smooth((24, 60)))


def test_sensors_on_grid_points_read_the_plane():
    z, x = (np.array(axis.coordinates) for axis in GRID.axes)
    positions = np.array([[z[3], x[7]], [z[0], x[0]], [z[23], x[59]]])
    measurement = WallSensors.at(GRID, positions).measure(PLANE, 1e-9, 0)
    torch.testing.assert_close(measurement.y.flatten(), PLANE[[3, 0, 23], [7, 0, 59]], rtol=0, atol=1e-7)
    assert measurement.description["name"] == "points" and measurement.truth.shape == (1, 1, 24, 60)
    between = WallSensors.at(GRID, np.array([[(z[3] + z[4]) / 2, x[7]]])).measure(PLANE, 1e-9, 0)
    assert abs(float(between.y) - float(PLANE[3:5, 7].mean())) < 1e-7
    beyond = WallSensors.at(GRID, np.array([[z[5], x[59] + GRID.spacing[1] / 2]])).measure(PLANE, 1e-9, 0)
    assert abs(float(beyond.y) - float(PLANE[5, [59, 0]].mean())) < 1e-7  # between the last point and the first
    assert abs(float(beyond.y) - float(PLANE[5, 59])) > 1e-3  # negative control


def test_noise_has_the_stated_law_and_follows_the_seed():
    sensors = WallSensors.random(GRID, 1.0, 0)
    a, b, c = (sensors.measure(PLANE, 0.2, seed) for seed in (1, 1, 2))
    assert torch.equal(a.y, b.y) and not torch.equal(a.y, c.y)
    residual = (a.y - a.operator.A(a.truth)).flatten()
    n = residual.numel()
    assert abs(float(residual.std()) / 0.2 - 1) < 4 / (2 * n) ** 0.5 and abs(float(residual.mean())) < 4 * 0.2 / n**0.5
    assert float(a.noise.variance) == pytest.approx(0.04)


def test_random_share():
    a, b, c = (WallSensors.random(GRID, 0.05, seed) for seed in (0, 0, 1))
    assert a.count == 72 and a.share == 0.05 and len(np.unique(a.array)) == 72
    assert np.array_equal(a.array, b.array) and not np.array_equal(a.array, c.array)
    assert "72 sensors, 5 % of the points" in a.words
    assert WallSensors.random(GRID, 1 / GRID.size, 0).count == 1


def test_lattice():
    """Every 10th and 40th point of the long grid of Patched Flow Matching: 0.25 % of them."""
    long = Grid.regular((160, 960), (1600.0, 9600.0), names=("z", "x"), units=WALL_LENGTH, periodic=True)
    sensors = WallSensors.lattice(long, dz_plus=400.0, dx_plus=100.0)
    rows, columns = np.unravel_index(sensors.array, long.shape)
    assert sorted(set(rows)) == [0, 40, 80, 120] and sorted(set(columns)) == list(range(0, 960, 10))
    assert sensors.share == pytest.approx(0.0025)
    rows, columns = np.unravel_index(WallSensors.lattice(OPEN, 100.0, 200.0).array, OPEN.shape)
    off = np.array(OPEN.axes[1].coordinates)[np.unique(columns)] - 50 - 200 * np.arange(len(np.unique(columns)))
    assert np.abs(off).max() <= OPEN.spacing[1] / 2 + 1e-9


@pytest.mark.parametrize("grid", [GRID, OPEN], ids=["periodic", "open"])
def test_sensors_outside_the_domain_are_refused(grid):
    axis = grid.axes[1]
    inside = axis.coordinates[-1]
    for x in (inside + 2 * axis.spacing, axis.coordinates[0] - 1.0, np.nan):
        with pytest.raises(InfieldError, match=r"sensors: sensor 1 lies outside the domain: found x = .*expected"):
            WallSensors.at(grid, np.array([[60.0, 60.0], [60.0, x]]))
    WallSensors.at(grid, np.array([[60.0, inside]]))


BAD = {
    "no sensor": (lambda: WallSensors.random(GRID, 1e-5, 0), "found a share of 1e-05 of 1440 points"),
    "too many": (lambda: WallSensors.random(GRID, 1.5, 0), "found a share of 1.5"),
    "too fine": (
        lambda: WallSensors.lattice(GRID, 100.0, 5.0),
        "found a lattice of spacing 5 along x, expected 37.6991",
    ),
    "too wide": (lambda: WallSensors.lattice(GRID, 1e4, 100.0), "found a lattice of spacing 10000 along z"),
    "shape": (lambda: WallSensors.at(GRID, np.zeros((3, 3))), "positions of shape (3, 3), expected (sensors, 2)"),
    "no noise": (lambda: WallSensors.random(GRID, 0.1, 0).measure(PLANE, 0.0, 0), "noise of standard deviation 0"),
    "other plane": (lambda: WallSensors.random(GRID, 0.1, 0).measure(PLANE.mT, 0.1, 0), "plane of shape (60, 24)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    make, words = BAD[case]
    with pytest.raises(InfieldError) as caught:
        make()
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["positions", "indices"])
def test_file_of_a_measurement(tmp_path, kind):
    sensors = WallSensors.random(GRID, 0.05, 0)
    if kind == "positions":
        sensors = WallSensors.at(GRID, GRID.points()[sensors.array].numpy() + 1.0)
    measurement = sensors.measure(PLANE, 0.1, 3)
    settings = {"re_tau": 180.0, "synthetic": True, "words": sensors.words, "history": "plane 0 of long.zarr"}
    write_wall_measurement(tmp_path / "m.zarr", measurement, **settings)
    again = open_measurement(tmp_path / "m.zarr")
    torch.testing.assert_close(again.y, measurement.y, rtol=0, atol=0)
    torch.testing.assert_close(again.truth, measurement.truth, rtol=0, atol=0)
    torch.testing.assert_close(again.operator.A(again.truth), measurement.operator.A(measurement.truth))
    assert again.grid == GRID and again.channels == ("pressure",) and again.units == "1"
    file = xr.open_zarr(tmp_path / "m.zarr", consolidated=False)
    assert file["Re_tau"] == 180 and file["synthetic"] == 1
    assert file.attrs["title"].startswith("Synthetic stand-in for wall pressure, Re_tau 180: 72 sensors")
    write_wall_measurement(tmp_path / "dns.zarr", measurement, re_tau=180.0, synthetic=False)
    assert xr.open_zarr(tmp_path / "dns.zarr", consolidated=False).attrs["title"] == "Wall pressure, Re_tau 180"
