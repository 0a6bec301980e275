"""Operators by name: what a file may ask for, and one line for each way to ask wrongly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.physics.operators.registry import build_operator, operator_names

GRID = Grid.regular((4, 5), units="m")
POINTS = PointSet(((0.0,), (1.0,), (2.5,)))
ARRAYS = {
    "mask": np.ones((4, 5)),
    "half": np.arange(20).reshape(4, 5) % 2,
    "other half": (np.arange(20) < 8).reshape(4, 5),
    "small": np.ones((2, 3)),
    "nan": np.where(np.eye(4, 5) > 0, np.nan, 1.0),
    "third": np.full((4, 5), 1 / 3),
    "maps": np.ones((3, 4, 5), complex),
    "flat": np.ones((4, 5), complex),
    "indices": np.array([0, 3]),
    "far indices": np.array([0, 20]),
    "here": np.array([[0.1, 0.2], [0.5, 1.0]]),
    "outside": np.array([[0.1, 0.2], [0.5, 1.2]]),
    "wide": np.ones((3, 6)),
    "words": np.array(["a", "b"]),
    "complex": np.ones((3, 3), complex),
    "filter": np.ones((1, 1, 3, 3)),
}


def build(description, grid=GRID, channels=1):
    return build_operator(description, ARRAYS, grid, channels)


def named(name, parameters=None, **arrays):
    return {"name": name, "parameters": parameters or {}, "arrays": arrays}


MASK = named("mask", mask="mask")


def test_names():
    assert operator_names() == (
        *(
            "across-edges",
            "affine",
            "beer-lambert",
            "bounded",
            "compose",
            "convolution",
            "darcy",
            "display",
            "edge-gradient",
            "exp",
            "fourier",
        ),
        *(
            "helmholtz",
            "interferometer",
            "low-pass",
            "mask",
            "multi-projector",
            "multicoil-mri",
            "multicoil-mri-slices",
            "navier-stokes",
            "phases",
            "points",
            "poisson",
            "projection",
            "softplus",
            "stack",
            "sum",
            "window",
        ),
        "deepinv:<ClassName>",
    )


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"name": "masc"}, "found name 'masc', expected one of across-edges, affine, beer-lambert, bounded, compose"),
        ({}, "expected an entry 'name'"),
        ({"name": 3}, "expected an entry 'name'"),
        ("mask", "expected an entry 'name'"),
        (MASK | {"kernel": "k"}, r"operator 'mask': found the entries \['kernel'\]"),
        (MASK | {"parameters": 3}, "found parameters 3"),
        (named("mask", mask="nowhere"), r"mask: found no variable 'nowhere', expected one of .*; add 'nowhere'"),
        (named("mask"), "found no array 'mask'"),
        (named("mask", {"threshold": 1}, mask="mask"), "found parameter threshold, expected none"),
        (named("mask", mask="mask", maps="maps"), "found array maps, expected mask"),
        (named("mask", mask="small"), r"found mask of shape \(2, 3\), expected \(4, 5\) or \(1, 4, 5\)"),
        (named("mask", mask="nan"), "mask 'nan': found 4 NaN or Inf of 20 values"),
        (named("mask", mask="third"), "found 0.333.* in the mask, expected zeros and ones"),
        (named("mask", mask="words"), "mask 'words': found type <U1, expected numbers"),
        (named("fourier", mask="small"), r"found mask of shape \(2, 3\), expected \(4, 5\)"),
        (named("points"), r"found the arrays \[\], expected coordinates or indices"),
        (named("points", coordinates="here", indices="indices"), "expected coordinates or indices"),
        (named("points", coordinates="maps"), r"found coordinates of shape \(3, 4, 5\), expected \(sensors, 2\)"),
        (
            named("points", coordinates="outside"),
            r"sensor 1 lies outside the domain: found x = 1.2, expected -0.125 to 1.125",
        ),
        (named("points", indices="far indices"), "index 20 of sensor 1, expected 0 to 19"),
        (named("points", indices="here"), "found indices float64"),
        (named("convolution"), "found neither, expected an array 'kernel' or the parameter 'gaussian_width'"),
        (named("convolution", {"gaussian_width": 1.0}, kernel="small"), "found both"),
        (named("convolution", kernel="wide"), r"found a kernel of shape \(3, 6\), expected at most \(4, 5\)"),
        (named("convolution", kernel="complex"), "found a complex kernel"),
        (
            named("convolution", {"boundary": "open"}, kernel="small"),
            "found boundary 'open', expected one of periodic, zero",
        ),
        (named("convolution", {"gaussian_width": 0}), "found gaussian_width 0, expected a finite number above zero"),
        (named("convolution", {"gaussian_width": "1"}), "found gaussian_width '1'"),
        (named("convolution", {"gaussian_width": [1.0] * 3}), "found 3 gaussian_width, expected one or 2"),
        (named("convolution", {"gaussian_width": 1e9}), "found gaussian_width 1000000000.0, expected at most"),
        (named("window"), "found shape None, expected whole numbers"),
        (
            named("window", {"shape": [4, 6]}),
            r"found shape \[4, 6\], expected whole numbers from 1 to those of \(4, 5\)",
        ),
        (named("window", {"shape": [0, 5]}), r"found shape \[0, 5\]"),
        (named("window", {"shape": [4]}), r"found shape \[4\]"),
        (named("window", {"shape": [4, 5.0]}), r"found shape \[4, 5.0\]"),
        (named("window", {"shape": [4, 5], "periodic": True}), "found periodic True, expected 2 of true and false"),
        (named("window", {"shape": [4, 5], "periodic": [True, 1]}), r"found periodic \[True, 1\]"),
        (named("window", {"torus": [8, 8]}), "found parameter torus, expected shape, periodic"),
        (named("affine", scale="small"), r"found scale of shape \(2, 3\), expected \(1, 1, 1\) or \(1, 4, 5\)"),
        (named("multicoil-mri", coil_maps="maps", mask="mask"), "found a field of 1 channels on 2 axes"),
        ({"name": "compose", "operators": []}, "expected .* with a list of operators"),
        ({"name": "compose"}, "expected .* with a list of operators"),
        ({"name": "compose", "operators": [MASK], "weights": [1]}, "expected .* with a list of operators"),
        ({"name": "sum", "operators": [MASK]}, r"expected \['name', 'operators', 'weights'\]"),
        ({"name": "sum", "weights": [1, 2], "operators": [MASK]}, r"found weights \[1, 2\], expected 1 finite numbers"),
        ({"name": "sum", "weights": ["a"], "operators": [MASK]}, "finite numbers"),
        (
            {"name": "sum", "weights": [1, 1], "operators": [MASK, named("points", indices="indices")]},
            "one and the same",
        ),
        (named("deepinv:Inpaint"), "found no class"),
        (named("deepinv:Tensor"), "found no class"),
        (named("deepinv:GaussianNoise"), "found no class"),
        (named("deepinv:Inpainting", {"maks": 1}), "found parameter maks, expected .*img_size.*mask"),
        (named("deepinv:Inpainting", mask="small"), r"found an error of deepinv for a field of shape \(1, 4, 5\)"),
    ],
)
def test_bad_descriptions(description, message):
    with pytest.raises(InfieldError, match=message) as error:
        build(description)
    assert "\n" not in str(error.value)


def test_bad_fields():
    coordinates = named("points", coordinates="here")
    with pytest.raises(InfieldError, match="found coordinates for a field on scattered points, expected indices"):
        build(coordinates, POINTS)
    for description in (named("convolution", {"gaussian_width": 1.0}), named("fourier", mask="mask")):
        with pytest.raises(InfieldError, match="found a field on scattered points, expected one on a regular grid"):
            build(description, POINTS)
    with pytest.raises(InfieldError, match=r"found 3 channels, expected 1 \(real\) or 2 \(complex\)"):
        build(named("fourier", mask="mask"), channels=3)
    with pytest.raises(InfieldError, match=r"found coil_maps of shape \(4, 5\), expected \(coils, 4, 5\)"):
        build(named("multicoil-mri", coil_maps="flat", mask="mask"), channels=2)
    with pytest.raises(InfieldError, match=r"2 channels on 2 axes, expected 2 channels .* on 3 axes, slices first"):
        build(named("multicoil-mri-slices", coil_maps="flat", mask="mask"), channels=2)
    with pytest.raises(InfieldError, match=r"found coil_maps of shape \(4, 5\), expected \(coils, 2, 4, 5\)"):
        build(named("multicoil-mri-slices", coil_maps="flat", mask="mask"), Grid.regular((2, 4, 5)), channels=2)
    uneven = Grid((Axis("y", (0.0, 1.0, 2.0, 4.0)), Axis("x", (0.0, 1.0, 2.0, 3.0, 4.0))))
    with pytest.raises(InfieldError, match="found uneven spacing along axis 'y'"):
        build(named("convolution", {"gaussian_width": 1.0}), uneven)


def test_sensors_know_their_places():
    A = build(named("points", coordinates="here"))
    assert A.data_grid == PointSet(((0.1, 0.2), (0.5, 1.0)), ("y", "x"), "m", "sensor")
    A = build(named("points", indices="indices"))
    assert A.data_grid.coordinates == tuple(map(tuple, GRID.points()[[0, 3]].tolist()))


def test_composition_acts_on_the_data_of_the_inner_operator():
    picked = named("points", indices="indices")
    A = build({"name": "compose", "operators": [picked, named("fourier", mask="mask")]}, channels=1)
    x = torch.randn(2, 1, 4, 5, dtype=torch.float64)
    spectrum = build(named("fourier", mask="mask")).A(x).flatten(2)
    assert A.data_shape == (2, 2) and torch.equal(A.A(x), spectrum[:, :, [0, 3]])


def test_observed_of_composites():
    composed = build(
        {"name": "compose", "operators": [named("mask", mask="half"), named("convolution", kernel="half")]}
    )
    assert torch.equal(composed.observed[0], torch.from_numpy(ARRAYS["half"] > 0))
    turned = build({"name": "compose", "operators": [named("convolution", kernel="half"), named("mask", mask="half")]})
    assert turned.observed is None
    parts = [named("mask", mask="half"), named("mask", mask="other half")]
    summed = build({"name": "sum", "weights": [1, 1], "operators": parts})
    either = (ARRAYS["half"] > 0) | ARRAYS["other half"]
    assert torch.equal(summed.observed[0], torch.from_numpy(either))


@pytest.mark.parametrize("name", ["deepinv:Inpainting", "deepinv:MRI", "deepinv:MultiCoilMRI"])
def test_observed_of_deepinv_operators(name):
    arrays = {"mask": "half"} | ({"coil_maps": "maps"} if "Coil" in name else {})
    A = build(named(name, **arrays), channels=2)
    y = A.A(torch.ones(1, 2, 4, 5).double() + torch.rand(1, 2, 4, 5).double())
    assert A.observed.shape == A.data_shape == y.shape[1:]
    assert (y[0][~A.observed] == 0).all() and (A.observed.float().mean() == 0.5)


def test_deepinv_operator_that_changes_the_grid():
    A = build(named("deepinv:Downsampling", {"factor": 2, "filter": None}), Grid.regular((4, 6)))
    assert A.data_shape == (1, 2, 3) and A.data_grid.shape == (2, 3)
    assert A.A(torch.zeros(1, 1, 4, 6).double()).dtype == torch.float64
