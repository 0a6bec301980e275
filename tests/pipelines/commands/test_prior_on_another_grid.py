"""A learned prior for a measurement on another grid than that of its training: no step for the user."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.bench.learned_regression import line
from infield.pipelines.run.prior_choice import choose_prior
from infield.posterior.samplers.faps import FAPS
from infield.priors.base import Standardisation
from infield.priors.flows.flow import LearnedFlow
from infield.priors.gaussian.kernels import Matern, law_to_spec
from infield.priors.networks.fno import FNO
from infield.priors.storage.flow_entry import ENTRY, to_entry

SOURCE = Matern(0.5, 0.1)


@pytest.fixture
def checkpoint(tmp_path):
    grid = line(32)
    source = SOURCE.covariance(grid)
    prior = LearnedFlow(
        name="test",
        network=FNO(1, 1, 4, 8, 1, padding=0.25).eval(),
        source=source,
        covariance=Matern(1.5, 0.3).covariance_in(source.modes, grid),
        mean=torch.zeros(1, 32).double(),
        standardisation=Standardisation(torch.full((1, 1), 280.0).double(), torch.full((1, 1), 3.0).double()),
        skip="scalar",
        grid_description=grid.to_json(),
        units="K",
        channels=("c0",),
        provenance={"kind": "flow", "source": law_to_spec(SOURCE)},
    )
    torch.save({ENTRY: to_entry(prior)}, tmp_path / "prior.ckpt")
    return tmp_path / "prior.ckpt"


def measurement(grid: Grid, sensors=(3, 20)) -> Measurement:
    description, arrays = {"name": "points", "arrays": {"indices": "sensor"}}, {"sensor": np.array(sensors)}
    return Measurement(
        y=torch.tensor([[[281.0, 279.0]]], dtype=torch.float64),
        operator=build_operator(description, arrays, grid, 1),
        noise=GaussianNoise(torch.tensor(0.01)),
        grid=grid,
        units="K",
        description=description,
        arrays=arrays,
    )


def test_the_prior_comes_to_the_measurement(checkpoint):
    data = measurement(line(96))
    chosen = choose_prior(str(checkpoint), data)
    assert chosen.prior.covariance.event_shape == (1, 96) and chosen.sha256 == chosen.prior.sha256
    posterior = FAPS(levels=3)(chosen.prior, data, 16, torch.Generator().manual_seed(0)).samples
    assert posterior.shape == (16, 1, 96)
    assert (posterior[:, 0, [3, 20]].mean(0) - torch.tensor([281.0, 279.0])).abs().max() < 0.3
    there = choose_prior(str(checkpoint), measurement(line(32))).prior
    assert there.covariance.event_shape == (1, 32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: replace(m, grid=Grid.regular((96,), 2.0)), "found 0 to 2.02105 1, expected 0 to 1"),
        (
            lambda m: replace(m, grid=Grid.regular((96,), 1.0, units="m")),
            "units of the measurement: found m, expected 1",
        ),
        (lambda m: replace(m, units="mK"), "found units 'K', expected 'mK'"),
    ],
)
def test_another_field_is_refused(change, words, checkpoint):
    with pytest.raises(InfieldError, match=words) as error:
        choose_prior(str(checkpoint), change(measurement(line(96))))
    assert str(error.value).startswith(f"--prior {checkpoint}") and "\n" not in str(error.value)


def test_a_checkpoint_is_read_once(checkpoint, monkeypatch):
    read, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda path, **settings: read.append(path) or load(path, **settings))
    choose_prior(str(checkpoint), measurement(line(96)))
    assert read == [checkpoint]
