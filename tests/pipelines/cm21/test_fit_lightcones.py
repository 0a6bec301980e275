"""Training on files of lightcones: what comes out is a prior, a stopped run goes on, what cannot serve is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from infield import InfieldError
from infield.datasets.cm21.lightcone_file import TEMPERATURE, Lightcones, lightcone_grid, lightcone_writer
from infield.datasets.cm21.training import LightconeFile, Windows
from infield.pipelines.commands.fit import run
from infield.pipelines.package_data import CONFIGS
from infield.priors.cm21.prior_entry import load_lightcone_prior
from infield.priors.cm21.training import LightconeMatching

SIDE, DEPTH, CELL = 8, 32, 4.0
MORE = {"statistics_steps": 100, "spectra_steps": 100, "draws": 3}


def cones(path: Path, n: int = 24, *, cell: float = CELL) -> Path:
    """Bubbles of zeros, more of them where a parameter is small, in a field that rises along the line of sight."""
    rng = np.random.default_rng(0)
    tvir, zeta = rng.uniform(4, 6, n), rng.uniform(10, 250, n)
    s = np.linspace(0, 1, DEPTH)
    fields = 10 * s + 2 * rng.standard_normal((n, SIDE, SIDE, DEPTH))
    smooth = ndimage.gaussian_filter(rng.standard_normal(fields.shape), (0, 1.5, 1.5, 1.5), mode="wrap")
    fields[smooth / smooth.std() > 2 * s - 1 + (tvir[:, None, None, None] - 5)] = 0
    about = Lightcones(
        grid=lightcone_grid((SIDE, SIDE), cell, 8900 + CELL * np.arange(DEPTH)),
        redshift=np.linspace(7.5, 8, DEPTH),
        samples=n,
        parameters={"ION_Tvir_MIN": tvir, "HII_EFF_FACTOR": zeta},
        provenance={"simulator": "bubbles", "ranges": {"ION_Tvir_MIN": [4, 6], "HII_EFF_FACTOR": [10, 250]}},
    )
    writer = lightcone_writer(path, about, run={"seed": 0}, title="bubbles")
    for i, cone in enumerate(fields.astype(np.float32)):
        writer.write_block(i, {TEMPERATURE: cone[None]})
    writer.finish()
    return path


@pytest.fixture(scope="module")
def bubbles(tmp_path_factory) -> Path:
    return cones(tmp_path_factory.mktemp("bubbles") / "cones.zarr")


def options(path: Path, where: Path, steps: int, *others: str) -> list[str]:
    return [
        "--config", str(CONFIGS / "fit_lightcones.yaml"), "--data.init_args.path", str(path),
        "--data.init_args.window", "16", "--data.init_args.workers", "0",
        "--model.init_args.network.init_args.widths", "[8, 8]", "--model.init_args.warmup", "5",
        "--model.init_args.statistics_steps", "50", "--model.init_args.spectra_steps", "30",
        "--model.init_args.draws", "1",
        "--data.init_args.validation", "0.1", "--data.init_args.batch_size", "4", "--data.init_args.windows", "1",
        "--trainer.default_root_dir", str(where), "--trainer.max_steps", str(steps), "--trainer.accelerator", "cpu",
        "--trainer.precision", "32-true", "--trainer.logger", "false", "--trainer.enable_progress_bar", "false",
        *others,
    ]  # fmt: skip


@pytest.mark.slow
def test_it_learns_and_leaves_a_prior(tmp_path):
    many = cones(tmp_path / "cones.zarr", 64)
    more = [f"--model.init_args.{name}={value}" for name, value in MORE.items()]
    assert run(options(many, tmp_path / "run", 60, "--model.init_args.learning_rate", "3e-3", *more)) == 0
    prior = load_lightcone_prior(tmp_path / "run" / "lightcones.ckpt")
    assert prior.ranges == {"ION_Tvir_MIN": (4.0, 6.0), "HII_EFF_FACTOR": (10.0, 250.0)}
    assert prior.cell == CELL and prior.points == (SIDE, SIDE) and len(prior.distance) == DEPTH
    training = prior.provenance["training"]
    assert training["steps"] == 60 and training["validation_loss"] < 0.97  # 1 before training
    few, many = (
        prior.draw({"ION_Tvir_MIN": tvir, "HII_EFF_FACTOR": 100.0}, torch.Generator().manual_seed(0), n=4, steps=8)
        for tvir in (5.8, 4.2)
    )
    assert few.shape == (4, SIDE, SIDE, DEPTH) and few.isfinite().all()
    assert (many == 0).double().mean() > (few == 0).double().mean() + 0.2
    near, far = few[..., :8], few[..., -8:]  # neutral voxels rise from 0 to 10 mK along the line of sight
    assert abs(float(far[far != 0].mean()) - 8.9) < 3 < float(far[far != 0].mean() - near[near != 0].mean())


@pytest.mark.slow
def test_a_stopped_run_is_the_run_that_never_stopped(bubbles, tmp_path, monkeypatch):
    step = LightconeMatching.training_step

    def stop(self, batch, batch_idx):
        if self.global_step == 7:  # in the second epoch of five steps
            raise RuntimeError("stopped")
        return step(self, batch, batch_idx)

    def weights(name, *others):
        run(options(bubbles, tmp_path / name, 11, *others))
        return torch.load(tmp_path / name / "lightcones.ckpt")["infield_lightcones"]["weights"]

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="stopped"):
        patch.setattr(LightconeMatching, "training_step", stop)
        weights("parts")
    assert (tmp_path / "parts" / "last.ckpt").exists()
    whole, parts, other = (
        weights("whole"),
        weights("parts", "--ckpt_path", "last"),
        weights("other", "--model.init_args.seed", "1"),
    )
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    assert not all(torch.allclose(value, other[name], atol=1e-4) for name, value in whole.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [("--trainer.strategy", "ddp", "--trainer.devices", "2", "--trainer.accumulate_grad_batches", "2")]
)
def test_one_step_on_two_processes(bubbles, tmp_path, settings):
    main = tmp_path / "main.py"  # a file, for the second process starts the command anew
    main.write_text(
        "import sys\nfrom infield.pipelines.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    command = [sys.executable, str(main), "fit", *options(bubbles, tmp_path, 1, *settings)]
    checkpointing = ["--model.init_args.network.init_args.checkpointing", "true", "--data.init_args.batch_size", "1"]
    found = subprocess.run(
        [*command, *checkpointing], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert load_lightcone_prior(tmp_path / "lightcones.ckpt").provenance["training"]["steps"] == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="FSDP needs an accelerator")
@pytest.mark.xfail(reason="failed in its first step on an H200, with gradient clipping; not tried again without")
def test_one_sharded_step_on_an_accelerator(bubbles, tmp_path):
    where = options(bubbles, tmp_path, 1, "--trainer.strategy", "fsdp", "--trainer.devices", "1")
    where += ["--trainer.gradient_clip_val", "null"]
    where[where.index("cpu")] = "cuda"
    assert run(where) == 0
    assert load_lightcone_prior(tmp_path / "lightcones.ckpt").provenance["training"]["steps"] == 1


def data_of(path: Path, **settings) -> LightconeFile:
    data = LightconeFile(str(path), **{"window": 8, **settings})
    data.setup("fit")
    data.apply(lambda cone: torch.cat([cone, cone == 0], dim=1), lambda found: found)
    return data


def test_windows_are_parts_of_their_cone_and_all_parts_are_seen(bubbles):
    data = data_of(bubbles)
    epochs = iter(range(10**6))
    windows = Windows(data, data.training, lambda: next(epochs))
    starts = []
    for _ in range(120):
        values, theta, start = windows[3]
        part = data.values[3, ..., int(start) : int(start) + 8]
        assert torch.equal(theta, data.theta[3]) and values.shape == part.shape
        assert torch.equal(values.flatten(1, 2).sort(1).values, part.flatten(1, 2).sort(1).values)  # slice by slice
        spectra = [torch.fft.fft2(v.double(), dim=(1, 2)).abs() for v in (values, part)]
        assert torch.allclose(*(s.flatten(1, 2).sort(1).values for s in spectra), atol=1e-6)  # no voxel left its place
        starts.append(int(start))
    assert min(starts) == 0 and max(starts) == DEPTH - 8 and len(set(starts)) > 15
    assert starts.count(0) > 5  # the nearest cells are not seen once in 25 windows only
    again = Windows(data, data.training, lambda: 7)
    assert all(torch.equal(a, b) for a, b in zip(again[3], again[3], strict=True))


def test_windows_may_begin_at_a_few_places_of_each_cone(bubbles):
    data = data_of(bubbles, starts=3)
    epochs = iter(range(10**6))
    windows = Windows(data, data.training, lambda: next(epochs))
    each = [{int(windows[cone][2]) for _ in range(60)} for cone in range(6)]
    assert all(1 <= len(starts) <= 3 for starts in each) and len(set().union(*each)) > 6


def test_several_files_are_one(bubbles, tmp_path):
    other = cones(tmp_path / "more.zarr", 8)
    both, one, two = LightconeFile([str(bubbles), str(other)], window=8), data_of(bubbles), data_of(other)
    both.setup("fit")
    assert torch.equal(both.theta, torch.cat([one.theta, two.theta]))
    assert both.temperature.shape[0] == 32 and both.facts["file"] == "cones.zarr, more.zarr"
    both.apply(lambda cone: torch.cat([cone, cone == 0], dim=1), lambda found: found)
    assert torch.equal(both.values, torch.cat([one.values, two.values]))
    few = LightconeFile([str(bubbles), str(other)], window=8, cones=10)
    few.setup("fit")
    assert torch.equal(few.theta, one.theta[:10])
    with pytest.raises(InfieldError, match=r"oblong.zarr: 'x, y, los': found others, expected those of .*cones.zarr"):
        LightconeFile([str(bubbles), str(cones(tmp_path / "oblong.zarr", 8, cell=3.0))], window=8).setup("fit")


@pytest.mark.slow
def test_maps_that_are_kept_are_those_that_are_made(bubbles, tmp_path):
    """Also where some are kept and others not: the same run, to the last bit."""
    found = []
    for kept in (0, 5):
        more = ["--model.init_args.kept", str(kept), "--data.init_args.starts", "2"]
        assert run(options(bubbles, tmp_path / str(kept), 12, *more)) == 0
        found.append(load_lightcone_prior(tmp_path / str(kept) / "lightcones.ckpt").network.state_dict())
    assert all(torch.allclose(one, found[1][name], atol=1e-6) for name, one in found[0].items())


def test_processes_give_the_same_values(bubbles):
    data = LightconeFile(str(bubbles), window=8, workers=2)
    data.setup("fit")
    data.apply(_double, lambda found: found)
    assert torch.equal(data.values[:, :1] / 2, data_of(bubbles).values[:, :1])


def _double(cone):
    return 2 * cone


def test_refusals(bubbles, tmp_path):
    for settings, words in (
        ({"window": 64}, "found 32 cells of the line of sight, expected at least 64; lower `window`"),
        ({"parameters": ["L_X"]}, "'L_X': found no parameter of this name that varies"),
        ({"batch_size": 64}, "cones to train on"),
        ({"validation": 1.5}, "validation 1.5"),
    ):
        with pytest.raises(InfieldError, match=words):
            data_of(bubbles, **settings)
    with pytest.raises(InfieldError, match="cells of 3 to 4 Mpc, expected cubes"):
        data_of(cones(tmp_path / "oblong.zarr", 8, cell=3.0))
    with pytest.raises(InfieldError, match=r"expected \{'channels': 2, 'inputs': 10, 'numbers': 2\}"):
        run(options(bubbles, tmp_path, 1, "--model.init_args.network.init_args.inputs", "6"))
