"""A posterior in one step by the commands: trained by its configuration, resumed, and used on measurement files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from infield.core.grid import Grid
from infield.datasets.formats.measurement import write_measurement
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.commands.fit import run
from infield.pipelines.package_data import CONFIGS
from infield.priors.amortised.average_velocity import ENTRY, load_average_velocity
from infield.priors.training.mean_flow import MeanFlow

CONFIG = CONFIGS / "fit_one_step_2d.yaml"
SMALL = {
    "data.init_args.batch_size": 8,
    "data.init_args.validation": 0.2,
    "model.init_args.network.init_args.widths": "[8,8]",
    "trainer.accelerator": "cpu",
    "trainer.logger": "false",
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
}
GRID = Grid.regular((8, 8), 1.0, names=("y", "x"), units="m", periodic=True)


def fields(path: Path) -> Path:
    """Fields of 40 samples on the grid, in K."""
    values = 5 + np.random.default_rng(0).standard_normal((40, 8, 8)).cumsum(-1).astype("f4")
    coordinates = {a.name: (a.name, np.array(a.coordinates), {"units": a.units, "periodic": 1}) for a in GRID.axes}
    xr.Dataset({"field": (("sample", "y", "x"), values, {"units": "K"})}, coordinates).to_netcdf(path)
    return path


def train(data: Path, folder: Path, steps: int, *more: str) -> Path:
    settings = {**SMALL, "data.init_args.path": data, "trainer.default_root_dir": folder, "trainer.max_steps": steps}
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    assert run(["--config", str(CONFIG), *words, *more]) == 0
    return folder / "one-step.ckpt"


def measured(path: Path, noise: float, share: float = 0.4) -> Path:
    mask = np.random.default_rng(1).random((8, 8)) < share
    description, arrays = {"name": "mask", "arrays": {"mask": "seen"}}, {"seen": mask}
    operator = build_operator(description, arrays, GRID, 1)
    y = operator.A(5 + torch.randn((1, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    measurement = Measurement(
        y=y,
        operator=operator,
        noise=GaussianNoise(torch.tensor(noise**2)),
        grid=GRID,
        units="K",
        description=description,
        arrays=arrays,
    )
    write_measurement(path, measurement)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("one_step")
    return train(fields(folder / "fields.nc"), folder / "run", 6)


def test_training_leaves_what_it_serves(trained):
    model = load_average_velocity(trained)
    assert model.units == "K" and model.event_shape == (1, 8, 8) and model.noise == (0.0, 0.1)
    assert model.serves["operator"] == "mask"
    least, greatest = model.serves["numbers"]["observed"]
    assert 0.15 < least < 0.25 < 0.45 < greatest < 0.55
    assert model.provenance["training"]["steps"] == 6


@pytest.mark.slow
def test_a_run_that_stopped_goes_on_as_if_it_had_not(tmp_path, monkeypatch):
    data = fields(tmp_path / "fields.nc")
    whole = train(data, tmp_path / "whole", 8)

    def stop_in_the_second_epoch(module, batch, batch_idx):
        if module.global_step == 6:
            raise RuntimeError("stopped")
        return training_step(module, batch, batch_idx)

    training_step = MeanFlow.training_step
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="stopped"):
        patch.setattr(MeanFlow, "training_step", stop_in_the_second_epoch)
        train(data, tmp_path / "parts", 8)
    parts = train(data, tmp_path / "parts", 8, "--ckpt_path", "last")
    first, second = (torch.load(path, weights_only=True)[ENTRY]["weights"] for path in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_reconstruct_in_one_step(trained, tmp_path, reconstruct):
    file = measured(tmp_path / "m.zarr", 0.2)
    said = reconstruct(
        file, "-o", tmp_path / "p.zarr", "--prior", trained, "--sampler", "snap", "--samples", 5, "--json"
    )
    assert said.summary["sampler"] == "snap" and said.summary["velocity_calls"] == 1
    with xr.open_zarr(tmp_path / "p.zarr", consolidated=False) as posterior:
        assert posterior["samples"].dims == ("sample", "y", "x") and np.isfinite(posterior["samples"]).all()
        assert json.loads(posterior.attrs["sampler_parameters"]) == {}


def test_exact_data_are_kept(trained, tmp_path, reconstruct):
    file = measured(tmp_path / "m.zarr", 1e-6)
    reconstruct(file, "-o", tmp_path / "p.zarr", "--prior", trained, "--sampler", "null-flow", "--samples", 3)
    with xr.open_zarr(tmp_path / "p.zarr", consolidated=False) as posterior, xr.open_zarr(file) as data:
        seen = data["seen"].values.astype(bool)
        difference = posterior["samples"].values[:, seen] - data["data"].values.reshape(8, 8)[seen]
    assert np.abs(difference).max() < 1e-5


@pytest.mark.parametrize(
    "noise, share, options, words",
    [
        (3.0, 0.4, ["--sampler", "snap"], "noise of standard deviation 3"),
        (0.2, 0.9, ["--sampler", "snap"], "found observed 0."),
        (0.2, 0.4, ["--sampler", "null-flow"], "use --sampler snap"),
        (0.2, 0.4, ["--sampler", "faps"], "a posterior in one step, expected a prior"),
    ],
)
def test_what_it_does_not_serve(trained, tmp_path, reconstruct, noise, share, options, words):
    file = measured(tmp_path / "m.zarr", noise, share)
    reconstruct(file, "-o", tmp_path / "p.zarr", "--prior", trained, *options).refused(words)
    assert not (tmp_path / "p.zarr").exists() and not (tmp_path / "p.zarr.partial").exists()
