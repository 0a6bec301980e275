"""`infield check`: its verdict in the posterior, and what it refuses."""

from __future__ import annotations

import json

import pytest
import xarray as xr
from examples.calibration_example import measurement

from infield.datasets.formats.measurement import write_measurement


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("check")
    write_measurement(path / "m.zarr", measurement())
    write_measurement(path / "other.zarr", measurement(seed=1))
    for name, length in (("p", 0.3), ("wrong", 0.9)):
        law = f"{{prior: gaussian, law: {{law: matern, nu: 1.5, length: {length}}}}}"
        (path / f"{name}.yaml").write_text(law, encoding="utf-8")
    return path


def test_a_verdict_stands_in_the_posterior(infield, folder):
    p = folder / "p.zarr"
    assert infield("reconstruct", folder / "m.zarr", "-o", p, "--prior", folder / "p.yaml", "--sampler", "exact",
                   "--samples", 4, "--quiet").status == 0  # fmt: skip
    kept = infield("check", folder / "m.zarr", p, "--no-record", "--json").summary
    assert "check" not in xr.open_zarr(p, consolidated=False).attrs
    found = infield("check", folder / "m.zarr", p, "--json", "--strict").summary
    attributes = xr.open_zarr(p, consolidated=False).attrs
    assert kept == found and attributes["trusted"] == found["trusted"] == "unchecked"  # of fourteen data
    assert "too few data" in attributes["trusted_because"] and json.loads(attributes["check"])["p"] == found["p"]
    said = infield("cite", p, "--methods", "--json").summary["methods"]
    assert "4 posterior samples" in said and "could not be tested" in said and "not calibrated" in said
    infield("cite", "--methods").refused("no posterior")
    infield("check", folder / "other.zarr", p).refused("measurement_sha256", "another measurement")
    infield("check", folder / "m.zarr", p, "--prior", folder / "wrong.yaml").refused("prior_sha256", "--prior")
    infield("check", folder / "m.zarr", p, "--draws", 50).refused("--draws", "at least 99")
    (folder / "p.yaml").rename(folder / "moved.yaml")
    infield("check", folder / "m.zarr", p).refused("'p.yaml', which is no file here", "give --prior")
    assert infield("check", folder / "m.zarr", p, "--prior", folder / "moved.yaml", "--quiet").status == 0
