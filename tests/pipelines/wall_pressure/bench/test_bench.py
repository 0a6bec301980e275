"""The bench of wall pressure: every row has its figures, its measure of spectra is right, and so are its parts."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from infield.core import registry
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.physics.wall_pressure.wall_units import wall_grid
from infield.pipelines.bench.records import Bench
from infield.pipelines.commands.fit import run as fit
from infield.pipelines.wall_pressure.bench import growth as wall_growth
from infield.pipelines.wall_pressure.bench import run as wall_pressure
from infield.pipelines.wall_pressure.bench.cases import (
    Case,
    draws_alone,
    in_half_heights,
    interpolation,
    scale_of_sensors,
    scaled,
)
from infield.pipelines.wall_pressure.bench.run import checkpoint
from infield.pipelines.wall_pressure.bench.spectra import Octaves, finer
from infield.pipelines.wall_pressure.simulate import simulate_wall_pressure
from infield.priors.storage.checkpoint import load_flow_prior
from infield.priors.wall_pressure.synthetic import WallPressure


@pytest.fixture(scope="module")
def case() -> Case:
    return Case.make(180.0, 8 * math.pi, 2, seed=3)


@pytest.mark.slow
def test_every_row_has_its_figures():
    bench = wall_pressure.run(quick=True, parts=("posteriors",))
    assert registry.table("benches")["wall-pressure"].target == wall_pressure.__name__ and bench.name == "wall-pressure"
    found = {(r.method, r.metric): r.value for r in bench.records}
    rows = ("law", "interpolation", "kriging, mean", "kriging", "prior alone")
    for row in (*(f"180 {row}" for row in (*rows, "ours")), *(f"500 {row}" for row in (*rows, "ours, fine-tuned"))):
        assert 0 < found[row, "crps"] < 3 and found[row, "low_x_db"] >= 0
    for row in ("180 ours", "500 ours, fine-tuned"):  # two levels, so that the network has no say about spectra yet
        assert found[row, "known_db"] == max(found[row, metric] for metric in ("low_x_db", "x_db", "z_db")) < 1
        assert 0.8 < found[row, "coverage_90"] < 1 and found[row, "velocity_calls"] == 2
    plain, brought = (found[f"500 ours, zero-shot from 180{words}", "x_db"] for words in ("", ", scale from sensors"))
    assert plain > 4 > 2.5 > brought
    outer = found["500 zero-shot, no inner scaling", "x_db"]
    assert outer > 10 and found["500 kriging", "crps"] < found["500 interpolation", "crps"]


def test_the_measure_is_zero_for_the_law_and_counts_decibels(case):
    octaves, law = case.octaves, WallPressure(180.0)
    many = law.draw(octaves.grid, SampleStreams(1, range(200)).normal)
    for axis, errors in octaves.errors(many).items():
        assert errors.abs().max() < 0.7, axis
        louder = octaves.errors(2 * many)[axis]
        torch.testing.assert_close(louder - errors, torch.full_like(errors, 20 * math.log10(2)))
    assert all((error.abs() < 1e-9).all() for error in octaves.errors(many, paired=many).values())
    exact = octaves.exact(1)
    assert float(exact.variance) == pytest.approx(float(octaves.variances.mean()))
    halves = octaves.against(octaves.variances / 2)
    assert all(torch.allclose(error, torch.tensor(-10 * math.log10(2)).double()) for error in halves.values())
    assert len(halves["x"]) == 7 and len(halves["z"]) == 5  # 1, 2-3, ..., the last one with Nyquist


def test_planes_on_a_finer_grid_are_the_same_function():
    x, z = (torch.arange(n, dtype=torch.float64) / n * 2 * math.pi for n in (24, 16))

    def plane(z, x):
        return torch.cos(3 * z)[:, None] * torch.sin(2 * x) + 0.5

    coarse = plane(z, x)
    fine = finer(coarse[None], (20, 36))[0]
    fine_x, fine_z = (torch.arange(n, dtype=torch.float64) / n * 2 * math.pi for n in (36, 20))
    torch.testing.assert_close(fine, plane(fine_z, fine_x))


def test_common_random_numbers_take_chance_out_of_the_comparison(case):
    """The exact flow, in steps: what is left is the error of the steps."""
    drawn, paired = draws_alone(case.kriging, case, 2, 64, seed=0)
    together, alone = (case.octaves.errors(drawn.planes[0], some)["x"] for some in (paired, None))
    assert drawn.planes.shape == (2, 2, *case.grid.shape) and drawn.velocity_calls == 64
    assert together[:6].abs().max() < 0.2 < alone[:6].abs().max()


def test_interpolation_goes_through_the_readings(case):
    plane, sensors = interpolation(case.sensors[0], case.measured[0]), case.sensors[0]
    assert torch.isfinite(plane).all()
    np.testing.assert_allclose(plane.flatten()[sensors.array], case.measured[0].y.flatten(), atol=1e-9)


def test_a_scale_from_sensors_and_lengths_in_half_heights(case):
    prior = load_flow_prior(checkpoint(180.0))
    assert 0.7 < scale_of_sensors(prior, case) < 1.3  # of 160 readings
    assert scale_of_sensors(scaled(prior, 2.0), case) == pytest.approx(scale_of_sensors(prior, case) / 2)
    outer = in_half_heights(prior, 500.0)
    ours, theirs = (Grid.from_json(p.grid_description).spacing for p in (prior, outer))
    np.testing.assert_allclose(np.array(theirs) / ours, 500 / 180)


@pytest.mark.slow
def test_growth_in_a_process_of_its_own(tmp_path):
    bench = Bench("wall-pressure", 0)
    wall_growth.add_growth(bench, checkpoint(180.0), tmp_path, (1,), 1, 1, 0)
    found = {(r.method, r.metric): r.value for r in bench.records}
    assert 100 < found["domain x 1", "peak_mib"] < 2000 and found["domain x 1", "run_seconds"] > 0
    assert found["domain x 1", "core_seconds"] > 0
    assert 0.3 < found["domain x 1", "chi_square"] < 3


def test_slope_and_growth_of_memory(tmp_path, monkeypatch):
    runs = iter([(3.0, 400.0), (8.0, 420.0), (32.0, 440.0)])

    def reconstruct(*arguments):
        seconds, peak = next(runs)
        return {"seconds": 2 * seconds, "core_seconds": seconds, "peak_mib": peak, "chi_square": 1.0}

    monkeypatch.setattr(wall_growth, "_reconstruct", reconstruct)
    bench = Bench("wall-pressure", 0)
    wall_growth.add_growth(bench, checkpoint(180.0), tmp_path, (1, 4, 16), 1, 1, 0)
    found = {(r.method, r.metric): r.value for r in bench.records}
    assert found["growth", "slope"] == pytest.approx(1) and found["growth", "memory_growth"] == pytest.approx(0.1)


def test_what_is_known_of_another_reynolds_number():
    """The figures that the bench's description gives."""
    for source, re_tau, low, high in ((180.0, 500.0, 1.8, 4.8), (500.0, 1000.0, 0.1, 3.7)):
        grid = wall_grid(re_tau, 16 * math.pi)
        octaves = Octaves(grid, WallPressure(re_tau).spectrum(grid))
        same = torch.cat(list(octaves.against(WallPressure(source).spectrum(grid)).values())).abs()
        assert low < float(same.min()) and float(same.max()) < high


def test_records_are_written_as_others(tmp_path):
    bench = Bench("wall-pressure", 0)
    bench.add("180", "180 ours", "x_db", 0.5, "dB")
    bench.write(tmp_path / "records.json")
    assert json.loads((tmp_path / "records.json").read_text())["records"][0]["unit"] == "dB"


@pytest.mark.parametrize("config", ["fit_wall_pressure", "fit_wall_pressure_gpu"])
def test_both_configurations_train(tmp_path, config):
    """A tiny version of each on the processor, one step, and one more of fine-tuning on other planes."""
    law, grid = WallPressure(180.0), wall_grid(180, math.pi, 1.0)
    simulate_wall_pressure(law, grid, tmp_path / "planes.zarr", samples=16, workers=1, quiet=True)
    network = "model.init_args.network.init_args"
    settings = {
        "data.init_args.path": tmp_path / "planes.zarr",
        "data.init_args.batch_size": 4,
        f"{network}.network.init_args.widths": "[8, 8]",
        f"{network}.patch": "[8, 16]",
        f"{network}.overlap": "[2, 4]",
        "trainer.max_steps": 1,
        "trainer.accelerator": "cpu",
        "trainer.devices": 1,
        "trainer.logger": "false",
    }
    for name, more in (("first", {}), ("tuned", {"model.init_args.initial": tmp_path / "first" / "prior.ckpt"})):
        every = {**settings, **more, "trainer.default_root_dir": tmp_path / name}
        path = f"pipelines/configs/{config}.yaml"
        fit(["--config", path, *(word for key, value in every.items() for word in (f"--{key}", str(value)))])
    first, tuned = (load_flow_prior(tmp_path / name / "prior.ckpt") for name in ("first", "tuned"))
    assert tuned.provenance["initial"]["sha256"] == first.sha256
    assert tuned.provenance["data"] == {"Re_tau": 180.0, "synthetic": 1.0}
    assert tuned.on(wall_grid(180, 2 * math.pi, 1.0)).covariance.event_shape == (
        1,
        *wall_grid(180, 2 * math.pi, 1.0).shape,
    )
