"""Unrolled networks and posterior-mean rectified flows by the commands: trained by their files, resumed, used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from infield import InfieldError
from infield.core.grid import Grid
from infield.datasets.formats.measurement import write_measurement
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.commands.fit import run
from infield.pipelines.package_data import CONFIGS
from infield.priors.amortised import rectified_flow, unrolled
from infield.priors.amortised.unrolled import load_unrolled
from infield.priors.training.pmrf import PMRF
from infield.priors.training.posterior_mean import PosteriorMean

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


def train(kind: str, data: Path, folder: Path, steps: int, *more: str) -> Path:
    settings = {**SMALL, "data.init_args.path": data, "trainer.default_root_dir": folder, "trainer.max_steps": steps}
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    assert run(["--config", str(CONFIGS / f"fit_{kind}_2d.yaml"), *words, *more]) == 0
    return folder / f"{kind}.ckpt"


def measured(path: Path, noise: float = 0.2, share: float = 0.4) -> Path:
    mask = np.random.default_rng(1).random((8, 8)) < share
    description, arrays = {"name": "mask", "arrays": {"mask": "seen"}}, {"seen": mask}
    operator = build_operator(description, arrays, GRID, 1)
    y = operator.A(5 + torch.randn((1, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    noise_law = GaussianNoise(torch.tensor(noise**2))
    facts = {"grid": GRID, "units": "K", "description": description, "arrays": arrays}
    write_measurement(path, Measurement(y=y, operator=operator, noise=noise_law, **facts))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("anchors")
    data = fields(folder / "fields.nc")
    mean = train("unrolled", data, folder / "unrolled", 6)
    flow = train("pmrf", data, folder / "pmrf", 6, "--model.init_args.mean", str(mean))
    return {"data": data, "unrolled": mean, "pmrf": flow}


def test_training_leaves_what_it_serves(trained):
    f, flow = load_unrolled(trained["unrolled"]), rectified_flow.load_rectified_flow(trained["pmrf"])
    for model in (f, flow, flow.mean):
        assert model.units == "K" and model.event_shape == (1, 8, 8) and model.noise == (0.0, 0.1)
        assert model.serves["operator"] == "mask"
        least, greatest = model.serves["numbers"]["observed"]
        assert 0.15 < least < 0.25 < 0.45 < greatest < 0.55
        assert model.provenance["training"]["steps"] == 6
    assert len(f.variances) == 5 and not (f.variances == 1).all()
    assert flow.provenance["mean"] == f.sha256 and torch.equal(flow.mean.variances, f.variances)


@pytest.mark.slow
@pytest.mark.parametrize("kind, module", [("unrolled", PosteriorMean), ("pmrf", PMRF)])
def test_a_run_that_stopped_goes_on_as_if_it_had_not(kind, module, trained, tmp_path, monkeypatch):
    first = ["--model.init_args.mean", str(trained["unrolled"])] if kind == "pmrf" else []
    whole = train(kind, trained["data"], tmp_path / "whole", 8, *first)

    def stop_in_the_second_epoch(self, batch, batch_idx):
        if self.global_step == 6:
            raise RuntimeError("stopped")
        return training_step(self, batch, batch_idx)

    training_step = module.training_step
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="stopped"):
        patch.setattr(module, "training_step", stop_in_the_second_epoch)
        train(kind, trained["data"], tmp_path / "parts", 8, *first)
    parts = train(kind, trained["data"], tmp_path / "parts", 8, *first, "--ckpt_path", "last")
    entry = {"unrolled": unrolled.ENTRY, "pmrf": rectified_flow.ENTRY}[kind]
    a, b = (torch.load(path, weights_only=True)[entry] for path in (whole, parts))
    assert all(torch.equal(a["weights"][name], b["weights"][name]) for name in a["weights"])
    assert kind == "pmrf" or torch.equal(a["variances"], b["variances"])


@pytest.mark.parametrize("kind, calls", [("unrolled", 0.5), ("pmrf", 7)])
def test_reconstruct(kind, calls, trained, tmp_path, reconstruct):
    file, given = measured(tmp_path / "m.zarr"), ["--with", "levels=7"] if kind == "pmrf" else []
    said = reconstruct(
        file, "-o", tmp_path / "p.zarr", "--prior", trained[kind], "--sampler", kind, "--samples", 3, "--json", *given
    )
    assert said.summary["sampler"] == kind and said.summary["velocity_calls"] == calls
    assert "not that of the posterior" in said.summary["caveat"]
    with xr.open_zarr(tmp_path / "p.zarr", consolidated=False) as posterior:
        samples = posterior["samples"].values
        assert samples.shape == (3, 8, 8) and np.isfinite(samples).all()
        assert json.loads(posterior.attrs["sampler_parameters"]) == ({"levels": 7} if kind == "pmrf" else {})
        assert (np.ptp(samples, 0).max() == 0) == (kind == "unrolled")


@pytest.mark.parametrize(
    "kind, noise, share, sampler, words",
    [
        ("unrolled", 3.0, 0.4, "unrolled", "noise of standard deviation 3"),
        ("pmrf", 0.2, 0.9, "pmrf", "found observed 0."),
        ("pmrf", 0.2, 0.4, "faps", "a posterior-mean rectified flow, expected a prior with a Gaussian source"),
        ("unrolled", 0.2, 0.4, "pmrf", "expected a posterior-mean rectified flow"),
    ],
)
def test_what_it_does_not_serve(kind, noise, share, sampler, words, trained, tmp_path, reconstruct):
    file = measured(tmp_path / "m.zarr", noise, share)
    reconstruct(file, "-o", tmp_path / "p.zarr", "--prior", trained[kind], "--sampler", sampler).refused(words)
    assert not (tmp_path / "p.zarr").exists() and not (tmp_path / "p.zarr.partial").exists()


def test_a_mean_of_another_family_is_refused(trained, tmp_path):
    more = ["--model.init_args.mean", str(trained["unrolled"]), "--model.init_args.noise", "[0.0,0.5]"]
    with pytest.raises(InfieldError, match=r"unrolled\.ckpt: it was not trained for this family: found noise"):
        train("pmrf", trained["data"], tmp_path / "other", 6, *more)
