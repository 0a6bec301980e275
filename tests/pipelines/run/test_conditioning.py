"""Priors conditioned on a field of the measurement's context, from its file to the posterior."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from examples.example_files import plane, samples, save

from infield.core import registry
from infield.datasets.formats.measurement import open_measurement, write_measurement
from infield.physics.context import Quantity
from infield.pipelines.run import prior_choice
from infield.priors.base import Standardisation
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

KIND = "toy"


class AroundABaseline:
    """A narrow Gaussian prior whose mean is a baseline field."""

    name, sha256, conditioned_on = "around a baseline", "0", {"baseline": "mK"}

    def for_field(self, grid, channels, values):
        prior = gaussian_prior(Matern(nu=1.5, length=0.1), grid)
        return replace(
            prior, standardisation=Standardisation(values["baseline"][0], torch.full((1, 1, 1), 1e-3).double())
        )


@pytest.fixture
def checkpoint(monkeypatch, tmp_path):
    """The path of a checkpoint that holds it."""
    load = registry.load
    stored = SimpleNamespace(placement="context")
    monkeypatch.setattr(registry, "load", lambda g, n: stored if (g, n) == ("checkpoints", KIND) else load(g, n))
    monkeypatch.setattr(prior_choice, "load_of_any_kind", lambda path, device: (KIND, AroundABaseline()))
    (tmp_path / "prior.ckpt").touch()
    return tmp_path / "prior.ckpt"


def with_context(path, **context):
    measurement = open_measurement(save(plane(std=10.0), path.with_name("plain.zarr")))
    write_measurement(path, replace(measurement, context=context))
    return path


def test_the_prior_is_given_the_field_of_the_file(checkpoint, reconstruct, tmp_path):
    baseline = torch.linspace(-1, 1, 12 * 16, dtype=torch.float64).reshape(1, 1, 12, 16)
    file = with_context(tmp_path / "m.zarr", baseline=Quantity(baseline, "mK"), dose=Quantity(2.0, "MBq"))
    run = ("-o", tmp_path / "p.zarr", "--prior", checkpoint, "--samples", 2, "--with", "levels=2", "--workers", 1)
    said = reconstruct(file, *run)
    assert said.status == 0, said.err
    assert "its context dose is not used: the prior is not conditioned on it" in said.err
    found = torch.from_numpy(samples(tmp_path / "p.zarr")).double()
    assert (found - baseline[0]).abs().max() < 0.01


def test_what_the_file_lacks_or_has_in_other_units_is_refused(checkpoint, reconstruct, tmp_path):
    run = ("-o", tmp_path / "p.zarr", "--prior", checkpoint, "--samples", 2)
    said = reconstruct(with_context(tmp_path / "m.zarr", dose=Quantity(2.0, "MBq")), *run)
    said.refused("prior.ckpt: found no value of baseline, expected --at baseline=VALUE, or 'baseline' in the context")
    (other := tmp_path / "other").mkdir()
    said = reconstruct(with_context(other / "m.zarr", baseline=Quantity(torch.ones(1, 1, 12, 16), "K")), *run)
    said.refused("context 'baseline' of the measurement: found units 'K', expected 'mK'")
    assert not (tmp_path / "p.zarr").exists()


def test_a_prior_without_conditions_leaves_it_with_a_note(reconstruct, tmp_path):
    file = with_context(tmp_path / "m.zarr", dose=Quantity(2.0, "MBq"))
    run = ("-o", tmp_path / "p.zarr", "--prior", "matern-3/2", "--samples", 2, "--workers", 1, "--json")
    assert "its context dose is not used" in reconstruct(file, *run).summary["note"]
