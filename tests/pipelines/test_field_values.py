"""Fields as people have them, through the commands: offsets that dwarf variations, calendars, contradicting data."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from infield import open_measurement
from infield.datasets.formats.measurement import write_measurement

pytestmark = pytest.mark.field

N, LENGTH, NOISE = 24, 4.0, 0.1


def measurement(path, offset, *, seen=None, noise=NOISE, data=None, coordinate=None, operator=None, units="Pa"):
    """A line of values about an offset, by xarray alone; what was measured, without the offset."""
    x = np.arange(N, dtype=float)
    seen = np.isin(np.arange(N), np.arange(0, N, 3)) if seen is None else seen
    generator = np.random.default_rng(5)
    y = np.sin(x / LENGTH) + NOISE * generator.standard_normal(N) if data is None else data
    operator = operator or {"name": "mask", "arrays": {"mask": "mask"}}
    field = {"dims": ["x"], "channels": ["p"], "units": units}
    attributes = {"Conventions": "CF-1.11", "infield_format": "measurement", "infield_version": 1}
    told = {"field": field, "operator": operator, "noise": {"law": "gaussian", "variance": noise**2}}
    xr.Dataset(
        {"data": ("x", np.where(seen, y + offset, 0), {"units": units}), "mask": ("x", seen.astype(np.int8))},
        {"x": ("x", x, {"units": "m", "periodic": 0, **(coordinate or {})})},
        attributes | {key: json.dumps(value) for key, value in told.items()},
    ).to_zarr(path, zarr_format=3, consolidated=False)
    return x[seen], y[seen]


def prior(path, mean, length=LENGTH):
    law = f"{{law: matern, nu: 1.5, length: {length}}}"
    path.write_text(f"prior: gaussian\nlaw: {law}\nmean: {mean!r}\nunits: Pa\n", encoding="utf-8")
    return path


def exact(at, y):
    """Mean and standard deviation of the field given the data, Matern 3/2 (Rasmussen & Williams, eq. 2.23)."""

    def k(a, b):
        r = np.sqrt(3) * np.abs(a[:, None] - b[None]) / LENGTH
        return (1 + r) * np.exp(-r)

    x = np.arange(N, dtype=float)
    gain = k(x, at) @ np.linalg.inv(k(at, at) + NOISE**2 * np.eye(len(at)))
    return gain @ y, np.sqrt(1 - np.einsum("ij,ij->i", gain, k(x, at)))


@pytest.mark.parametrize("offset", [0.0, 1e5, 1e8, -3e9], ids=["none", "geopotential", "pressure", "seconds"])
def test_an_offset_that_dwarfs_the_variation(tmp_path, reconstruct, offset):
    """Moments are those of the field without its offset, and the file stores what can hold them."""
    at, y = measurement(tmp_path / "m.zarr", offset)
    said = reconstruct(
        tmp_path / "m.zarr", "--prior", prior(tmp_path / "p.yaml", offset), "--samples", 256, "--output",
        tmp_path / "o.zarr", "--json",
    )  # fmt: skip
    assert 0.5 < said.summary["chi_square"] < 2
    found = xr.open_zarr(tmp_path / "o.zarr", consolidated=False)
    mean, std = exact(at, y)
    np.testing.assert_allclose(found["mean"] - offset, mean, atol=5 * std.max() / 16)
    np.testing.assert_allclose(found["std"], std, rtol=0.25)
    assert found["samples"].dtype == ("float64" if abs(offset) > 1e4 else "float32")


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_an_offset_without_a_prior(tmp_path, reconstruct, offset):
    """The law that is fitted is the same whatever the offset (the control is none at all)."""
    _, y = measurement(tmp_path / "m.zarr", offset)
    out = tmp_path / "o.zarr"
    said = reconstruct(tmp_path / "m.zarr", "--samples", 64, "--hyper", "plug-in", "-o", out, "--json")
    assert said.summary["chi_square"] < 3
    found = xr.open_zarr(out, consolidated=False)
    assert np.isfinite(found["std"]).all()
    np.testing.assert_allclose(found["mean"][::3].values - offset, y, atol=4 * NOISE)
    np.testing.assert_allclose(found["samples"].std("sample"), found["std"], rtol=0.5)


def test_noise_far_below_the_values_is_stored_too(tmp_path, reconstruct):
    """Not the field's variation alone: noise of 1e-8 beside values of 1 is lost in single precision."""
    measurement(tmp_path / "m.zarr", 0.0, noise=1e-8)
    arguments = ("--prior", prior(tmp_path / "p.yaml", 0.0), "--samples", 4, "--json")
    said = reconstruct(tmp_path / "m.zarr", *arguments, "-o", tmp_path / "o.zarr")
    assert said.summary["chi_square"] < 2
    assert xr.open_zarr(tmp_path / "o.zarr", consolidated=False)["samples"].dtype == "float64"


def test_contradicting_data_at_one_place(tmp_path, reconstruct):
    """Two sensors at one place that differ by 10^5 noise levels; the control differs by what noise allows."""
    for name, second in (("wrong", 1e4), ("right", 0.1)):
        folder = tmp_path / name
        xr.Dataset(
            {
                "data": ("sensor", [0.0, second, 1.0], {"units": "Pa"}),
                "at": (("sensor", "axis"), [[4.0], [4.0], [9.0]]),
            },
            {"x": ("x", np.arange(N, dtype=float), {"units": "m", "periodic": 0})},
            {
                "infield_format": "measurement", "infield_version": 1,
                "field": json.dumps({"dims": ["x"], "channels": ["p"], "units": "Pa"}),
                "operator": json.dumps({"name": "points", "arrays": {"coordinates": "at"}}),
                "noise": json.dumps({"law": "gaussian", "variance": NOISE**2}),
            },
        ).to_zarr(folder, zarr_format=3, consolidated=False)  # fmt: skip
        out = tmp_path / f"{name}_out"
        said = reconstruct(folder, "--prior", prior(tmp_path / "p.yaml", 0.0), "--samples", 8, "-o", out)
        assert said.status == 0
        assert ("not to be trusted: data chi-square" in said.err) == (name == "wrong"), said.err
        trusted = xr.open_zarr(out, consolidated=False).attrs["trusted"]
        assert trusted == (0 if name == "wrong" else "unchecked")


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_attributes_of_coordinates_travel(tmp_path, reconstruct, calendar):
    """Day 730 after 1998-01-01 is 2000-01-01 without leap days; a lost calendar would make it 1999-12-31."""
    told = {"units": "days since 1998-01-01", "calendar": calendar, "standard_name": "time", "long_name": "day"}
    measurement(tmp_path / "m.zarr", 0.0, coordinate=told, units="K")
    said = reconstruct(tmp_path / "m.zarr", "--samples", 2, "--hyper", "plug-in", "-o", tmp_path / "o.zarr")
    assert said.status == 0, said.err
    again = open_measurement(tmp_path / "m.zarr")
    write_measurement(tmp_path / "again.zarr", again)
    for name in ("o.zarr", "again.zarr"):
        attributes = xr.open_zarr(tmp_path / name, consolidated=False, decode_times=False)["x"].attrs
        assert {key: attributes[key] for key in told} == told
    found = xr.open_zarr(tmp_path / "o.zarr", consolidated=False)["x"].values[-1]
    assert str(found).startswith("1998-01-24")


def test_counts_take_a_built_in_prior(tmp_path, reconstruct):
    """Refused once with advice about a run without a prior; the fit is that of the default, of the stated order."""
    x = np.arange(12.0)
    rates = np.exp(2 + np.sin(x / LENGTH))
    xr.Dataset(
        {"data": ("x", np.random.default_rng(0).poisson(rates).astype(float), {"units": "1"})},
        {"x": ("x", x, {"units": "m", "periodic": 0})},
        {
            "infield_format": "measurement", "infield_version": 1,
            "field": json.dumps({"dims": ["x"], "channels": ["log_rate"], "units": "1"}),
            "operator": json.dumps({"name": "exp"}), "noise": json.dumps({"law": "poisson", "gain": 1.0}),
        },
    ).to_zarr(tmp_path / "m.zarr", zarr_format=3, consolidated=False)  # fmt: skip
    said = reconstruct(tmp_path / "m.zarr", "--prior", "matern-3/2", "--samples", 8, "-o", tmp_path / "p.zarr")
    assert said.status == 0, said.err
    mean = xr.open_zarr(tmp_path / "p.zarr", consolidated=False)["mean"].values.reshape(-1)
    assert np.abs(mean - np.log(rates)).max() < 1
