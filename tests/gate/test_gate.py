"""Negative controls of the gate: whatever changes in a file is found, and what differs from run to run is not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from gate.cases import cases
from gate.digests import differences, digest_of_array, digest_of_file


def posterior(path: Path, *, sample=0.0, place=0.0, **attributes) -> dict:
    """Digests of a small file like a posterior."""
    samples = np.random.default_rng(0).standard_normal((3, 4)).astype("f4")
    samples[1, 2] += sample
    variables = {"samples": (("sample", "x"), samples), "seconds": ("block", [attributes.pop("seconds", 1.0)])}
    x = ("x", np.arange(4.0) + place, {"units": attributes.pop("axis", "m")})
    told = {"title": "t", "seed": 3, "cost": json.dumps({"calls": 2.0, "seconds": 0.1}), "versions": "1"} | attributes
    xr.Dataset(variables, {"x": x}, told).to_zarr(path, mode="w", zarr_format=3, consolidated=False)
    return digest_of_file(path)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"sample": 1e-3}, ["samples"]),
        ({"place": 1e-3}, ["x"]),
        ({"axis": "km"}, ["(attributes)"]),
        ({"title": "u"}, ["(attributes)"]),
        ({"seed": 4}, ["(attributes)"]),
        ({"cost": json.dumps({"calls": 2.1, "seconds": 0.1})}, ["(attributes)"]),
        ({"more": 1}, ["(attributes)"]),
    ],
)
@pytest.mark.parametrize("rounding", [False, True])
def test_a_change_is_found(tmp_path, change, found, rounding):
    before, after = posterior(tmp_path / "a.zarr"), posterior(tmp_path / "b.zarr", **change)
    assert differences(before, after, rounding=rounding) == found


@pytest.mark.parametrize(
    "change",
    [{}, {"seconds": 2.0}, {"versions": "2"}, {"cost": json.dumps({"seconds": 0.2, "calls": 2.0})}],
)
def test_seconds_and_versions_are_none(tmp_path, change):
    assert differences(posterior(tmp_path / "a.zarr"), posterior(tmp_path / "b.zarr", **change)) == []


def test_rounding_lets_the_last_digits_differ_and_no_more(tmp_path):
    before, near = posterior(tmp_path / "a.zarr"), posterior(tmp_path / "b.zarr", sample=3e-7)
    assert differences(before, near) == ["samples"] and differences(before, near, rounding=True) == []


def test_types_shapes_and_whole_numbers_are_exact():
    values = np.arange(6.0)
    for other in (values.astype("f4"), values.reshape(2, 3), values[::-1]):
        assert differences({"v": digest_of_array(values)}, {"v": digest_of_array(other)}) == ["v"]
    whole = np.arange(10**6, 10**6 + 3)
    other = whole + np.array([0, 0, 1])
    assert differences({"v": digest_of_array(whole)}, {"v": digest_of_array(other)}, rounding=True) == ["v"]
    names = [{"v": digest_of_array(np.array([a, "x"]))} for a in "ab"]
    assert differences(*names, rounding=True) == ["v"]


def test_variables_that_come_and_go_are_found():
    digest = digest_of_array(np.zeros(3))
    assert differences({"a": digest, "b": digest}, {"b": digest, "c": digest}) == ["a: gone", "c: new"]


def test_the_reference_has_every_case():
    names = [name for name, _ in cases()]
    assert len(names) == len(set(names))
    reference = json.loads(gzip.decompress((Path(__file__).parent / "reference.json.gz").read_bytes()))
    assert sorted(names) == sorted(reference)
    served = [name for name, found in reference.items() if not any(k.startswith("(status") for k in found)]
    assert len(served) > 300 and not any("(status 1)" in found for found in reference.values())
