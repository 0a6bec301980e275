"""From an emulated cone through a telescope to its posterior, with the prior of lightcones at given parameters."""

from __future__ import annotations

from dataclasses import replace

import examples.lightcone_prior_example as example
import pytest
import torch
import xarray as xr
from examples.example_files import samples

from infield.datasets.formats.measurement import open_measurement, write_measurement
from infield.physics.context import Quantity
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


def with_context(measurement, path, **numbers):
    """The same measurement with numbers in its context."""
    known = {name: Quantity(*(value if isinstance(value, tuple) else (value, "1"))) for name, value in numbers.items()}
    write_measurement(path, replace(open_measurement(measurement), context=known))
    return path


def test_parameters_come_from_the_file_and_by_hand(reconstruct, observed, tmp_path):
    """The same samples wherever the parameters are from; what is given by hand goes before the file."""
    prior, measurement = observed
    run = ("--prior", prior, "--with", "levels=2", "--samples", 2, "--workers", 1, "--device", "cpu", "--json")
    of_file = with_context(measurement, tmp_path / "c.zarr", ION_Tvir_MIN=4.8, HII_EFF_FACTOR=50.0, zeta=2.0)
    wanted = reconstruct(measurement, "-o", tmp_path / "p.zarr", *run, *AT).summary
    found = reconstruct(of_file, "-o", tmp_path / "q.zarr", *run, *AT[2:]).summary
    assert samples(tmp_path / "p.zarr").tobytes() == samples(tmp_path / "q.zarr").tobytes()
    assert found["note"].endswith("its context zeta is not used: the prior is not conditioned on it")
    assert "note" not in wanted and "ION_Tvir_MIN=4.8" in found["prior"] and "HII_EFF_FACTOR=131.341" in found["prior"]
    other = reconstruct(of_file, "-o", tmp_path / "r.zarr", *run).summary
    assert "HII_EFF_FACTOR=50" in other["prior"] and other["chi_square"] != found["chi_square"]
    in_other_units = with_context(measurement, tmp_path / "u.zarr", ION_Tvir_MIN=(4.8, "K"))
    reconstruct(in_other_units, "-o", tmp_path / "s.zarr", *run, *AT[2:]).refused(
        "context 'ION_Tvir_MIN' of the measurement: found units 'K', expected '1'"
    )


def test_refusals(reconstruct, observed, tmp_path):
    prior, measurement = observed
    to = ("-o", tmp_path / "p.zarr", "--samples", 1)
    reconstruct(measurement, *to, "--prior", prior).refused(
        "found no value of ION_Tvir_MIN, expected --at ION_Tvir_MIN=VALUE, or 'ION_Tvir_MIN' in the context"
    )
    reconstruct(measurement, *to, "--prior", prior, *AT[:2], "--at", "HII_EFF_FACTOR=900").refused(
        "HII_EFF_FACTOR: found 900, expected 10 to 250"
    )
    reconstruct(measurement, *to, *AT).refused("--at", "expected one of lightcones")
    other = tmp_path / "coarse.ckpt"
    torch.save({"infield_lightcones": to_entry(replace(example.prior(), cell=8.0))}, other)
    reconstruct(measurement, *to, "--prior", other, *AT).refused("found cells of 4 Mpc along x, expected 8")
    assert not (tmp_path / "p.zarr").exists()
