"""Data sets as a person makes them: right solutions, the same bytes whatever happens, one line for errors."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
import torch
from examples.zarr_files import contents

from infield.core.grid import Grid
from infield.datasets.formats.simulation import SimulationWriter, open_simulation
from infield.datasets.training.fields import FieldFile
from infield.physics.operators.registry import build_operator
from infield.pipelines.commands import simulate as verb
from infield.pipelines.commands.fit import run as fit
from infield.pipelines.package_data import CONFIGS
from infield.pipelines.run.simulations import make_simulation
from infield.priors.storage.checkpoint import load_flow_prior


@pytest.fixture
def simulate(infield):
    return lambda *arguments: infield("simulate", *arguments)


@pytest.mark.parametrize("kind", ["darcy", "poisson", "helmholtz", "navier-stokes"])
def test_solutions_solve_the_equation(simulate, tmp_path, kind):
    path = tmp_path / "s.zarr"
    said = simulate(kind, "-o", path, "--samples", 5, "--shape", 9, 12, "--dtype", "float64", "--workers", 1, "--json")
    summary = said.summary
    assert summary["kind"] == kind and summary["samples"] == 5 and summary["shape"] == [9, 12] and said.err == ""
    group = open_simulation(path)
    assert group["solution"].dims == ("sample", "y", "x") and group["solution"].attrs["units"] == "1"
    described = json.loads(group.attrs["parameters"])
    assert described == summary["parameters"] and group.attrs["seed"] == 0
    grid = Grid.regular((9, 12), periodic=kind == "navier-stokes")
    operator = build_operator(described["operator"], {}, grid, 1)
    coefficient = torch.from_numpy(group["coefficient"].values)[:, None]
    torch.testing.assert_close(
        operator.A(coefficient)[:, 0], torch.from_numpy(group["solution"].values), rtol=1e-6, atol=1e-12
    )
    assert not np.array_equal(group["coefficient"][0], group["coefficient"][1])


@pytest.mark.parametrize("law", ["matern", "gibbs", "truncated", "log-normal", "mixture"])
def test_processes(simulate, tmp_path, law):
    path = tmp_path / "p.zarr"
    said = simulate("process", "--law", law, "-o", path, "--samples", 40, "--points", 16, "--workers", 1)
    assert said.status == 0 and f"process {law}" in said.out
    group = open_simulation(path)
    assert group["field"].shape == (40, 16) and group["field"].dims == ("sample", "x")
    np.testing.assert_allclose(group["x"], np.arange(16) / 16)
    assert "solution" not in group


def test_parameters_reach_law_and_equation(simulate, tmp_path):
    settings = ("high=5", "low=2", "coefficient=value", "forcing=3.0")
    arguments = [word for setting in settings for word in ("--with", setting)]
    said = simulate("darcy", "-o", tmp_path / "s.zarr", "--samples", 3, "--points", 7, "--json", *arguments)
    described = said.summary["parameters"]
    assert described["law"]["high"] == 5 and described["operator"]["parameters"] == {
        "forcing": 3.0,
        "coefficient": "value",
    }
    group = open_simulation(tmp_path / "s.zarr")
    assert set(np.unique(group["coefficient"])) == {2, 5}
    assert group["coefficient"].attrs["long_name"] == "permeability a"


ARGUMENTS = ("navier-stokes", "--samples", 18, "--points", 8, "--json")


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(verb, "block_size", lambda simulation: 4)


def test_workers_and_interruptions_do_not_matter(simulate, tmp_path, small_blocks, monkeypatch):
    whole = tmp_path / "whole.zarr"
    assert simulate(*ARGUMENTS, "-o", whole, "--workers", 1).status == 0
    assert simulate(*ARGUMENTS, "-o", tmp_path / "three.zarr", "--workers", 3).status == 0
    assert contents(whole) == contents(tmp_path / "three.zarr")
    path, write, left = tmp_path / "s.zarr", SimulationWriter.write_block, [2]

    def interrupted(self, b, fields):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(self, b, fields)

    with monkeypatch.context() as patch:
        patch.setattr(SimulationWriter, "write_block", interrupted)
        assert simulate(*ARGUMENTS, "-o", path).status == 130
    assert not path.exists() and (tmp_path / "s.zarr.partial").exists()
    simulate(*ARGUMENTS, "-o", path, "--seed", 1).refused("'seed': found 0, expected 1", "s.zarr.partial")
    assert simulate(*ARGUMENTS, "-o", path).status == 0
    assert contents(path) == contents(whole) and not (tmp_path / "s.zarr.partial").exists()
    assert simulate(*ARGUMENTS, "-o", path, "--seed", 1, "--overwrite").status == 0
    assert contents(path) != contents(whole)  # negative control


def test_a_sample_depends_on_seed_and_number_alone(small_blocks):
    simulation = make_simulation("poisson", shape=(6, 6))
    blocks = {n: verb.draw_block(simulation, 3, 4, n)["solution"] for n in (0, 1)}
    assert np.array_equal(verb.draw_block(simulation, 3, 4, 1)["solution"], blocks[1])
    other = simulation.samples(3, range(5, 6))["solution"].numpy()
    np.testing.assert_allclose(other[0], blocks[1][1], rtol=1e-12, atol=1e-15)
    assert not np.allclose(blocks[0], blocks[1])
    assert not np.allclose(verb.draw_block(simulation, 4, 4, 0)["solution"], blocks[0])


def test_blocks_are_neither_tiny_nor_huge():
    sizes = [verb.block_size(make_simulation("poisson", shape=shape)) for shape in ((8, 8), (64, 64), (512, 512))]
    assert sizes == [1024, 16, 16]
    assert verb.block_size(make_simulation("process", law="gibbs")) == 512


@pytest.mark.slow
def test_a_killed_run_goes_on(start_held, simulate, tmp_path):
    """SIGKILL of a process of its own, some blocks on disk."""
    arguments = ("navier-stokes", "--samples", 96, "--points", 64, "--workers", 1, "--json")
    path, partial = tmp_path / "s.zarr", tmp_path / "s.zarr.partial"
    process = start_held("infield", "simulate", *arguments, "-o", path, held_after=1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not path.exists() and partial.exists()
    assert simulate(*arguments, "-o", path).status == 0
    assert simulate(*arguments, "-o", tmp_path / "whole.zarr").status == 0
    assert contents(path) == contents(tmp_path / "whole.zarr")


def test_a_prior_is_trained_on_it(simulate, tmp_path):
    path = tmp_path / "functions.zarr"
    assert simulate("process", "--law", "gibbs", "-o", path, "--samples", 24, "--points", 16).status == 0
    values = {
        "config": str(CONFIGS / "fit_fno_1d.yaml"),
        "data.init_args.path": path,
        "data.init_args.batch_size": 8,
        "model.init_args.rank": 4,
        "model.init_args.network.init_args.width": 8,
        "model.init_args.network.init_args.modes": 4,
        "trainer.default_root_dir": tmp_path / "run",
        "trainer.max_steps": 2,
        "trainer.accelerator": "cpu",
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
    }
    assert fit([word for key, value in values.items() for word in (f"--{key}", str(value))]) == 0
    prior = load_flow_prior(tmp_path / "run" / "prior.ckpt")
    assert prior.channels == ("field",) and Grid.from_json(prior.grid_description).shape == (16,)
    pairs = tmp_path / "pairs.zarr"
    assert simulate("darcy", "-o", pairs, "--samples", 8, "--points", 9).status == 0
    for variable in ("coefficient", "solution"):
        data = FieldFile(str(pairs), variable=variable, batch_size=4, validation=0.25)
        data.setup("fit")
        assert next(iter(data.train_dataloader())).shape == (4, 1, 9, 9)


BAD = {
    "no kind": (["burgers"], "'burgers'"),
    "samples": (["poisson", "--samples", "0"], "--samples: found 0, expected at least 1"),
    "seed": (["poisson", "--seed", "-1"], "--seed: found -1"),
    "workers": (["poisson", "--workers", "0"], "--workers: found 0"),
    "points": (["poisson", "--points", "2"], "--shape: found 2 2, expected 1 to 3 numbers of at least 3 points"),
    "both sizes": (["poisson", "--points", "9", "--shape", "9", "9"], "not allowed with argument"),
    "law": (
        ["poisson", "--law", "gibbs"],
        "--law gibbs: found a simulation whose distribution is fixed, expected a process",
    ),
    "no law": (["process"], "--law: found None, expected one of matern, gibbs, truncated, log-normal, mixture"),
    "setting": (["poisson", "--with", "alpha"], "--with alpha: expected NAME=VALUE"),
    "parameter": (["poisson", "--with", "beta=1"], "found parameter beta", "the law of the field takes alpha, tau"),
    "process parameter": (
        ["process", "--law", "gibbs", "--with", "nu=1"],
        "found no parameter nu of the process 'gibbs', expected length, slope, variance",
    ),
    "value": (["poisson", "--with", "tau=-3"], "tau: found -3, expected a finite number above zero"),
    "word": (["navier-stokes", "--with", "steps=many"], "found steps 'many', expected a whole number"),
    "rough": (["poisson", "--with", "alpha=0.9"], "alpha 0.9 on 2 axes, expected more than 1"),
    "plane": (["process", "--law", "gibbs", "--shape", "4", "4"], "found 2 axes, expected 1 for a process"),
    "line": (["navier-stokes", "--shape", "16"], "expected two uniform periodic ones"),
    "scheduler": (["poisson", "--scheduler", "nowhere"], "--scheduler nowhere: no Dask scheduler answers there"),
    "resonance": (
        ["helmholtz", "--points", "3", "--with", "wavenumber_squared=-16.0"],
        "found wavenumber_squared -16.0, a resonance",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(simulate, tmp_path, case):
    arguments, *words = BAD[case]
    simulate(*arguments, "-o", tmp_path / "s.zarr").refused(*words)
    assert list(tmp_path.iterdir()) == []


def test_a_solver_that_fails_names_the_samples(simulate, tmp_path, small_blocks):
    fast = ["navier-stokes", "--with", "amplitude=3000", "--samples", 3, "--points", 12]
    said = simulate(*fast, "-o", tmp_path / "s.zarr").refused(
        "samples 0 to 3: ", "sample 0 of the batch is too fast", "take "
    )
    assert list(tmp_path.iterdir()) == []
    steps = said.split("take ")[1].split()[0]
    assert simulate(*fast, "--with", f"steps={steps}", "-o", tmp_path / "s.zarr").status == 0


def test_a_nan_names_the_sample(simulate, tmp_path, monkeypatch, small_blocks):
    draw = verb.draw_block

    def spoiled(simulation, seed, size, block):
        fields = draw(simulation, seed, size, block)
        if block == 1:
            fields["solution"][2, 3, 3] = np.nan
        return fields

    monkeypatch.setattr(verb, "draw_block", spoiled)
    said = simulate("poisson", "-o", tmp_path / "s.zarr", "--samples", 7, "--points", 8)
    said.refused("NaN or infinity in the solution of sample 6")
    assert not (tmp_path / "s.zarr").exists()


def test_an_existing_output_is_kept(simulate, tmp_path):
    (tmp_path / "s.zarr").write_text("a thesis")
    for more in ([], ["--overwrite"]):
        simulate("poisson", "-o", tmp_path / "s.zarr", "--samples", 3, *more).refused("s.zarr")
    assert (tmp_path / "s.zarr").read_text() == "a thesis"
