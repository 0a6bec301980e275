"""`infield fit` with pairs: what a run leaves, how it goes on, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from infield import InfieldError
from infield.pipelines.commands.fit import run
from infield.pipelines.package_data import CONFIGS
from infield.priors.base import Standardisation
from infield.priors.networks.fno import FNO
from infield.priors.storage.checkpoint import load_flow_prior
from infield.priors.surrogates.learned_map import ENTRY, LearnedMap, load_learned_map
from infield.priors.surrogates.training import OperatorLearning, error_of

CONFIG = CONFIGS / "fit_surrogate_2d.yaml"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """y = 3 + smoothed x, zero on the first row."""
    x = np.random.default_rng(0).standard_normal((120, 8, 8)).astype("f4")
    u = 3 + x + np.roll(x, 1, 1) + np.roll(x, 1, 2)
    u[:, 0] = 0
    dims = ("sample", "y", "x")
    coords = {d: (d, np.arange(8) / 8, {"units": "m"}) for d in "yx"}
    variables = {"coefficient": (dims, 5 + 2 * x, {"units": "K"}), "solution": (dims, u, {"units": "Pa"})}
    path = tmp_path_factory.mktemp("pairs") / "pairs.zarr"
    xr.Dataset(variables, coords).to_zarr(path, consolidated=False)
    return path


def options(data: Path, directory: Path, epochs: int, *more: str) -> list[str]:
    values = {
        "data.init_args.path": data,
        "data.init_args.batch_size": 20,
        "data.init_args.validation": 0.25,
        "model.init_args.network.init_args.modes": 3,
        "model.init_args.network.init_args.width": 8,
        "model.init_args.network.init_args.layers": 1,
        "model.init_args.learning_rate": 0.03,
        "model.init_args.warmup": 2,
        "trainer.default_root_dir": directory,
        "trainer.max_steps": 4 * epochs,
        "trainer.accelerator": "cpu",
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
    }
    return ["--config", str(CONFIG), *(word for k, v in values.items() for word in (f"--{k}", str(v))), *more]


@pytest.fixture(scope="module")
def trained(pairs, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    assert run(options(pairs, directory, 12)) == 0
    return directory


def test_a_run_leaves_a_map_with_the_errors_of_the_weights_that_it_leaves(trained, pairs):
    stored = load_learned_map(trained / "surrogate.ckpt")
    data = xr.open_zarr(pairs, consolidated=False).isel(sample=slice(90, None))
    x, u = (torch.from_numpy(data[name].values)[:, None] for name in ("coefficient", "solution"))
    with torch.no_grad():
        torch.testing.assert_close(stored.residuals, u - stored.map(x), rtol=1e-4, atol=1e-4)
    assert torch.equal(stored.witness, torch.stack([x[0], u[0]]))
    assert stored.units == ("K", "Pa") and stored.operator is None
    assert stored.residuals[..., 0, :].abs().max() == 0  # the row that never varies
    error = stored.provenance["error"]
    assert error == error_of(stored.residuals, u) and error["pairs"] == 30
    untrained = float((u - u.mean(0)).norm() / u.norm())
    assert error["relative_l2"] < 0.9 * untrained
    assert stored.provenance["training"]["averaged"] and len(stored.sha256) == 64


def test_what_is_a_surrogate_is_no_prior(trained):
    assert sorted(path.name for path in trained.glob("*.ckpt")) == ["last.ckpt", "surrogate.ckpt"]
    assert set(torch.load(trained / "surrogate.ckpt", weights_only=True)) == {ENTRY}
    with pytest.raises(InfieldError, match="this checkpoint is a surrogate"):
        load_flow_prior(trained / "surrogate.ckpt")


def test_a_run_goes_on_as_if_it_had_not_stopped_and_not_from_another(pairs, tmp_path, monkeypatch):
    run(options(pairs, tmp_path / "whole", 3))

    def stop(module, batch, batch_idx):
        if module.global_step == 6:
            raise RuntimeError("stopped")
        return step(module, batch, batch_idx)

    step = OperatorLearning.training_step
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="stopped"):
        patch.setattr(OperatorLearning, "training_step", stop)
        run(options(pairs, tmp_path / "parts", 3))
    run(options(pairs, tmp_path / "parts", 3, "--ckpt_path", "last"))
    whole, parts = (load_learned_map(tmp_path / name / "surrogate.ckpt") for name in ("whole", "parts"))
    assert torch.equal(whole.residuals, parts.residuals)
    wider = ["--model.init_args.network.init_args.width", "12", "--ckpt_path", "last"]
    with pytest.raises(InfieldError, match=r"infield_surrogate\.network") as error:
        run(options(pairs, tmp_path / "parts", 3, *wider))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--data.init_args.validation=0.1", "found 12 that are held out, expected at least 16"),
        ("--model.init_args.residuals=3", "found residuals 3"),
        ("--model.init_args.network.init_args.channels=2", "found 2 channels on 2 axes, expected 1 on 2"),
        ("--data.init_args.solution=pressure", "'pressure': found no such variable"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(pairs, tmp_path, option, words):
    with pytest.raises(InfieldError, match=words) as error:
        run(options(pairs, tmp_path / "run", 1, option))
    assert "\n" not in str(error.value)


def test_a_map_does_not_depend_on_its_company_nor_on_the_precision_of_what_it_is_given():
    torch.manual_seed(0)
    network = FNO(1, 2, 4, 8, 2).eval()
    torch.nn.init.normal_(network.head.weight)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    learned = LearnedMap(
        network, Standardisation(280 * one, 3 * one), Standardisation(one, torch.rand(1, 64, 64).double())
    )
    x = 280 + 3 * torch.randn(9, 1, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        together = learned(x)  # in parts
        assert together.dtype == torch.float64
        torch.testing.assert_close(together[7:8], learned(x[7:8]), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(together.float(), learned(x.float()), rtol=1e-3, atol=1e-3)


def test_the_error_counts_what_the_mean_error_of_the_others_leaves():
    solutions = torch.ones(4, 1, 10)
    assert error_of(torch.full((4, 1, 10), 0.5), solutions)["relative_l2"] == pytest.approx(0)
    one = torch.zeros(4, 1, 10)
    one[0] = 0.4
    found = error_of(one, solutions)
    assert found["relative_l2_worst"] == pytest.approx(0.4)  # none of it is excused by its own part in the mean
    assert found["relative_l2"] == pytest.approx((0.4 + 3 * 0.4 / 3) / 4)
