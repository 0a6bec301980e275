"""The functions behind the commands leave the caller's process as they found it."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch
from examples.example_files import GAUSSIAN, line, save

from infield.pipelines.commands.reconstruct import reconstruct
from infield.pipelines.commands.simulate import simulate
from infield.pipelines.run.process import one_thread
from infield.pipelines.run.simulations import make_simulation


def state():
    """Threads, the state of the global generators, and the filters of warnings."""
    numpy_state = np.random.get_state()  # noqa: NPY002
    return (
        torch.get_num_threads(),
        torch.get_rng_state().tolist(),
        random.getstate(),
        (numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]),
        list(warnings.filters),
    )


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_everything_is_given_back(two_threads):
    before = state()
    with one_thread():
        assert torch.get_num_threads() == 1
        warnings.simplefilter("ignore")
        torch.randn(3), random.random(), np.random.rand()  # noqa: NPY002
        assert all(here != there for here, there in zip(state(), before, strict=True))  # each of them can be seen
    assert state() == before
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert state() == before


def test_reconstruct_and_simulate_do(tmp_path, two_threads):
    measurement = save(line(), tmp_path / "m.zarr")
    prior = tmp_path / "prior.yaml"
    prior.write_text(GAUSSIAN)
    before = state()
    reconstruct(measurement, tmp_path / "p.zarr", prior=str(prior), samples=2, workers=2, quiet=True)
    assert state() == before
    simulation = make_simulation("process", law="matern", shape=(16,), settings=["length=0.2"])
    simulate(simulation, tmp_path / "s.zarr", samples=4, workers=2, quiet=True)
    assert state() == before
