"""Trends along fields that are known everywhere, and axes that are turned by a stated angle."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from infield import InfieldError
from infield.core.grid import Axis, Grid
from infield.datasets.formats.measurement import open_measurement
from infield.datasets.tables.scattered import Scattered, convert_table
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.sensors import PointSensors
from infield.pipelines.run.fitted_field import FitOptions, fit_to_points
from infield.posterior.kriging.fit import Settings
from infield.posterior.kriging.fitted import FittedField

SLOPE = -6.5


def height(lon, lat):
    return 1.0 + np.sin(1.5 * lon) * np.cos(2 * lat)


@pytest.fixture(scope="module")
def measurement(tmp_path_factory):
    """Temperatures that fall with height, from a table and a model of heights."""
    folder, rng = tmp_path_factory.mktemp("heights"), np.random.default_rng(0)
    lon, lat = rng.uniform(5, 9, 120), rng.uniform(47, 50, 120)
    z = 2 * np.stack([lon, lat], 1)
    smooth = np.sin(0.2 * z[:, 0]) + np.cos(0.3 * z[:, 1])
    temperature = 12 + smooth + SLOPE * height(lon, lat) + 0.1 * rng.standard_normal(120)
    pd.DataFrame({"lon": lon, "lat": lat, "t": temperature}).to_csv(folder / "t.csv", index=False)
    fine = np.linspace(4.5, 9.5, 251), np.linspace(46.5, 50.5, 201)
    dem = height(fine[0][:, None], fine[1][None, :])
    coordinates = {"lon": ("lon", fine[0]), "lat": ("lat", fine[1][::-1])}
    xr.Dataset({"height": (("lon", "lat"), dem[:, ::-1], {"units": "km"})}, coordinates).to_netcdf(folder / "dem.nc")
    asked = Scattered(
        value="t", at=("lon", "lat"), grid=(0.05,), noise_std=0.1, covariates=(("height", folder / "dem.nc"),)
    )
    convert_table(folder / "t.csv", asked).write(folder / "m.zarr", source="t")
    return open_measurement(folder / "m.zarr")


def test_a_covariate_lies_on_the_grid_by_name_and_direction(measurement):
    lat, lon = (np.array(axis.coordinates) for axis in measurement.grid.axes)
    known = measurement.context["height"]
    np.testing.assert_allclose(known.value[0, 0].numpy(), height(lon[None], lat[:, None]), atol=2e-3)
    assert known.units == "km"


def test_the_mean_follows_the_covariate_and_says_by_how_much(measurement):
    with_heights, without = (
        FittedField.of(measurement, covariates=names, hyper="plug-in") for names in (("height",), ())
    )
    found = with_heights.provenance["covariates"]["height"]
    assert abs(found["slope"] - SLOPE) < 4 * found["error"] < 0.8
    assert with_heights.fit.log_evidence > without.fit.log_evidence + 20
    lat, lon = (np.array(axis.coordinates) for axis in measurement.grid.axes)
    z = 2 * np.stack(np.meshgrid(lon, lat), -1)
    truth = 12 + np.sin(0.2 * z[..., 0]) + np.cos(0.3 * z[..., 1]) + SLOPE * height(lon[None], lat[:, None])
    errors = [
        np.sqrt(np.mean((f.moments_at(f.grid.points(), 0)[0].mean.numpy() - truth.ravel()) ** 2))
        for f in (with_heights, without)
    ]
    assert errors[0] < 0.05 and errors[1] > 3 * errors[0]  # negative control: without heights the map is worse


def test_unknown_and_constant_covariates_are_refused(measurement):
    with pytest.raises(InfieldError, match="'depth'"):
        FittedField.of(measurement, covariates=("depth",))
    flat = replace(measurement.context["height"], value=torch.ones_like(measurement.context["height"].value))
    with pytest.raises(InfieldError, match="the same everywhere"):
        FittedField.of(replace(measurement, context={"height": flat}), covariates=("height",))


def turned(units=("m", "m"), n=150):
    """Lengths 0.6 and 0.1, turned by 30 degrees."""
    rng = np.random.default_rng(2)
    x, angle = rng.random((n, 2)), np.deg2rad(30)
    c, s = np.cos(angle), np.sin(angle)
    z = x @ np.array([[c, s], [-s, c]]).T / np.array([0.6, 0.1])
    r = np.sqrt(3) * np.linalg.norm(z[:, None] - z, axis=-1)
    f = np.linalg.cholesky((1 + r) * np.exp(-r) + 1e-9 * np.eye(n)) @ rng.standard_normal(n)
    line = tuple(np.linspace(0, 1, 8).tolist())
    grid = Grid(tuple(Axis(name, line, unit) for name, unit in zip("yx", units, strict=True)))
    y = torch.from_numpy(f + 0.05 * rng.standard_normal(n))[None, None]
    operator = PointSensors.at_coordinates(grid, 1, torch.from_numpy(x))
    return Measurement(y=y, operator=operator, noise=GaussianNoise(torch.tensor(0.0025)), grid=grid)


def test_a_stated_angle_is_kept_and_the_right_one_is_worth_most():
    free = FittedField.of(turned(), hyper="plug-in").fit
    assert free.law.azimuth is not None
    fits = {}
    for shift in (0.0, math.pi / 4):
        settings = Settings(shapes=("isotropic", "turned"), azimuth=free.law.azimuth + shift)
        fits[shift] = FittedField.of(turned(), settings=settings, hyper="plug-in").fit
    assert fits[0.0].law.azimuth == pytest.approx(free.law.azimuth) and "azimuth" not in fits[0.0].family.names
    assert fits[0.0].log_evidence == pytest.approx(free.log_evidence, abs=0.5)
    assert fits[math.pi / 4].log_evidence < free.log_evidence - 10


def test_axes_of_unlike_units_cannot_be_turned():
    with pytest.raises(InfieldError, match="two open axes of one unit"):
        fit_to_points(turned(units=("days", "m")), None, FitOptions(azimuth=30.0), 0, None)
