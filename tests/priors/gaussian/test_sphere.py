"""Matern kernels on the sphere: by the chord's length, the same wherever the poles are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from infield import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.priors.base import sample
from infield.priors.covariance.base import Covariance
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.matern import matern
from infield.priors.gaussian.sphere import on_unit_sphere
from infield.priors.storage.from_yaml import prior_from_description


def matrix(C: Covariance) -> Tensor:
    n = math.prod(C.event_shape)
    return C.apply(torch.eye(n, dtype=torch.float64).reshape(n, *C.event_shape)).flatten(1)


def uniform(n: int, seed: int = 0) -> Tensor:
    """Directions uniform on the sphere, shape `(n, 3)`."""
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((n, 3)))
    return x / x.norm(dim=1, keepdim=True)


def on_map(x: Tensor) -> PointSet:
    lon, lat = torch.rad2deg(torch.atan2(x[:, 1], x[:, 0])), torch.rad2deg(torch.asin(x[:, 2]))
    return PointSet(tuple(zip(lon.tolist(), lat.tolist(), strict=True)), ("lon", "lat"), "degrees")


def globe(n_lat: int = 7, n_lon: int = 12) -> Grid:
    """A map from pole to pole, its longitudes closed."""
    lat = Axis("y", tuple(-90 + 180 * i / (n_lat - 1) for i in range(n_lat)), "degrees_north")
    lon = Axis("x", tuple(360 * i / n_lon for i in range(n_lon)), "degrees_east", periodic=True)
    return Grid((lat, lon))


def test_points_of_the_map_are_where_they_should_be():
    x = uniform(30)
    torch.testing.assert_close(on_unit_sphere(on_map(x)), x)
    swapped = PointSet(((90.0, 10.0), (0.0, 90.0)), ("latitude", "longitude"), "degrees")
    expected = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(on_unit_sphere(swapped), expected, rtol=0, atol=1e-15)
    torch.testing.assert_close(on_unit_sphere(globe())[:12], torch.tensor([[0.0, 0.0, -1.0]]).double().expand(12, 3))


@pytest.mark.parametrize("nu", [0.5, 1.5, 4.0])
def test_the_law_is_that_of_the_chord_and_positive_definite(nu):
    x = uniform(60)
    K = matrix(Matern(nu, 0.8, 2.0, domain="sphere").covariance(on_map(x)))
    torch.testing.assert_close(K, matern(torch.cdist(x, x), nu=nu, length=0.8, variance=2.0), rtol=1e-7, atol=1e-7)
    assert torch.linalg.eigvalsh(K).min() > 0


@pytest.mark.parametrize("nu", [1.5, 4.0])
def test_of_the_great_circle_it_is_no_covariance(nu):
    """The negative control: beyond order 1/2 its matrix has negative eigenvalues (Gneiting 2013)."""
    x = uniform(300)
    great_circle = torch.acos((x @ x.mT).clamp(-1, 1)).fill_diagonal_(0)
    least = {
        "arc": torch.linalg.eigvalsh(matern(great_circle, nu=nu, length=1.5, variance=1.0)).min(),
        "chord": torch.linalg.eigvalsh(matern(2 * (great_circle / 2).sin(), nu=nu, length=1.5, variance=1.0)).min(),
    }
    assert least["arc"] < -1e-3 and least["chord"] > -1e-10
    half = torch.linalg.eigvalsh(matern(great_circle, nu=0.5, length=1.5, variance=1.0)).min()
    assert half > 0  # at order 1/2 the arc serves as well


def test_the_law_does_not_know_where_the_poles_are():
    x, law = uniform(40), Matern(1.5, 0.5, domain="sphere")
    rotation = torch.linalg.qr(uniform(3, 5)).Q
    K, rotated = (matrix(law.covariance(on_map(points))) for points in (x, x @ rotation))
    torch.testing.assert_close(rotated, K, rtol=1e-7, atol=1e-8)
    flat = Matern(1.5, 30.0)  # degrees taken for a plane
    assert (matrix(flat.covariance(on_map(x))) - matrix(flat.covariance(on_map(x @ rotation)))).abs().max() > 0.1


def test_a_map_closes_in_longitude_and_is_one_value_at_a_pole():
    K = matrix(Matern(1.5, 0.5, domain="sphere").covariance(globe())).reshape(7, 12, 7, 12)
    assert float(K[3, 0, 3, 11]) == pytest.approx(float(K[3, 0, 3, 1]))
    torch.testing.assert_close(K[0, :, 0, :], torch.ones(12, 12).double(), rtol=0, atol=1e-9)
    turned = K.roll((1, 1), (1, 3))
    torch.testing.assert_close(turned, K, rtol=1e-8, atol=1e-9)


def test_a_prior_on_the_sphere_from_a_description():
    law = {"law": "matern", "nu": 0.5, "length": 0.7, "domain": "sphere"}
    prior = prior_from_description({"prior": "gaussian", "law": law, "units": "K"}, on_map(uniform(50)), 1)
    assert "domain=sphere" in prior.name
    x = sample(prior, 2000, torch.Generator().manual_seed(0), steps=30)
    assert x.shape == (2000, 1, 50) and float(x.var()) == pytest.approx(1.0, rel=0.06)


def test_many_points_of_the_sphere_take_leading_directions():
    x = uniform(80)
    exact, few = (matrix(Matern(1.5, 2.0, rank=r, domain="sphere").covariance(on_map(x))) for r in (None, 60))
    torch.testing.assert_close(few, exact, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (PointSet(((0.0, 0.1),), ("y", "x")), "found coordinates .'y', 'x'., expected longitude and latitude"),
        (PointSet(((0.0,),), ("lon",)), "expected longitude and latitude"),
        (PointSet(((0.0, 10.0, 2.0),), ("lon", "lat", "height")), "expected longitude and latitude"),
        (PointSet(((0.0, 10.0), (0.0, 91.0)), ("lon", "lat")), "latitude 91.0 at point 1, expected -90 to 90"),
    ],
)
def test_what_is_no_sphere_is_refused(grid, message):
    with pytest.raises(InfieldError, match=message):
        Matern(domain="sphere").covariance(grid)
