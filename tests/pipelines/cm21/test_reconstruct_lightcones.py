"""From an emulated cone through a telescope to its posterior, with the prior of lightcones at given parameters."""

from __future__ import annotations

from dataclasses import replace

import examples.lightcone_prior_example as example
import pytest
import torch
import xarray as xr

from infield.priors.cm21.prior_entry import to_entry

AT = ("--at", "ION_Tvir_MIN=4.8", "--at", "HII_EFF_FACTOR=131.341")


@pytest.fixture
def observed(infield, tmp_path):
    """A prior, and the measurement of one of its cones."""
    prior = example.save(tmp_path / "p.ckpt")
    (tmp_path / "params.yaml").write_text("ION_Tvir_MIN: 4.8\nHII_EFF_FACTOR: 131.341\n")
    cones = tmp_path / "cones.zarr"
    where = ("--prior", prior, "--params", tmp_path / "params.yaml", "-o", cones)
    assert infield("emulate", *where, "--points", 8, "--samples", 1, "--steps", 2, "--workers", 1, "--json").status == 0
    measurement = tmp_path / "m.zarr"
    telescope = ("--cells", "2-9", "--hours", 1e6)
    said = infield("convert", "lightcone-observation", cones, "-o", measurement, *telescope, "--json")
    assert said.status == 0, said.err
    return prior, measurement


def test_the_posterior_is_of_temperatures_with_exact_zeros(reconstruct, observed, tmp_path):
    prior, measurement = observed
    run = ("--prior", prior, "--with", "levels=3", "--samples", 4, "--workers", 1, "--device", "cpu", "--json")
    facts = reconstruct(measurement, "-o", tmp_path / "p.zarr", *run, *AT).summary
    assert facts["sampler"] == "faps-flow" and facts["velocity_calls"] == 3  # one a level
    assert "ION_Tvir_MIN=4.8" in facts["prior"]
    with xr.open_zarr(tmp_path / "p.zarr", consolidated=False) as posterior:
        samples = posterior["samples"].values
    assert samples.shape[0] == 4 and samples.shape[-3:] == (8, 8, 8)
    assert 0 < (samples == 0).mean() < 1
    other = reconstruct(measurement, "-o", tmp_path / "q.zarr", *run, "--at", "ION_Tvir_MIN=5.9", *AT[2:]).summary
    assert other["chi_square"] != facts["chi_square"]


def test_refusals(reconstruct, observed, tmp_path):
    prior, measurement = observed
    to = ("-o", tmp_path / "p.zarr", "--samples", 1)
    reconstruct(measurement, *to, "--prior", prior).refused(
        "found no value of ION_Tvir_MIN, expected --at ION_Tvir_MIN="
    )
    reconstruct(measurement, *to, "--prior", prior, *AT[:2], "--at", "HII_EFF_FACTOR=900").refused(
        "HII_EFF_FACTOR: found 900, expected 10 to 250"
    )
    reconstruct(measurement, *to, *AT).refused("--at", "expected one of lightcones")
    other = tmp_path / "coarse.ckpt"
    torch.save({"infield_lightcones": to_entry(replace(example.prior(), cell=8.0))}, other)
    reconstruct(measurement, *to, "--prior", other, *AT).refused("found cells of 4 Mpc along x, expected 8")
    assert not (tmp_path / "p.zarr").exists()
