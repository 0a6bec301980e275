from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from examples.processes import Forked, wait_until

from infield import InfieldError
from infield.core.grid import Grid
from infield.datasets.training.fields import EpochOrder, FieldFile
from infield.pipelines.commands.fit import run
from infield.pipelines.package_data import CONFIGS
from infield.pipelines.run.fit_callbacks import Epochs
from infield.priors.storage.checkpoint import load_flow_prior
from infield.priors.storage.flow_entry import ENTRY
from infield.priors.training.flow_matching import FlowMatching, TrainingFields


def dataset(n=40, space=(16,), periodic=1, **variable) -> xr.Dataset:
    rng = np.random.default_rng(0)
    dims = ("y", "x")[-len(space) :]
    field = 5 + rng.standard_normal((n, *space)).cumsum(-1).astype("f4")
    coords = {
        d: (d, 0.5 * np.arange(k), {"units": "m", "periodic": periodic}) for d, k in zip(dims, space, strict=True)
    }
    return xr.Dataset({"field": (("sample", *dims), field, {"units": "K"})}, coords)


@pytest.fixture
def functions(tmp_path) -> Path:
    dataset().to_zarr(tmp_path / "functions.zarr", consolidated=False)
    return tmp_path / "functions.zarr"


def options(data: Path, directory: Path, steps: int, config: str = "fit_fno_1d.yaml") -> list[str]:
    values = {
        "data.init_args.path": data,
        "data.init_args.batch_size": 8,
        "data.init_args.validation": 0.2,
        "model.init_args.rank": 4,
        "trainer.default_root_dir": directory,
        "trainer.max_steps": steps,
        "trainer.accelerator": "cpu",
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
    }
    return ["--config", str(CONFIGS / config), *(word for k, v in values.items() for word in (f"--{k}", str(v)))]


SMALL_FNO = ["--model.init_args.network.init_args.width", "8", "--model.init_args.network.init_args.modes", "4"]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return torch.load(directory / "last.ckpt", weights_only=True)[ENTRY]["weights"]


def steps(directory: Path) -> int:
    return torch.load(directory / "last.ckpt", weights_only=True)["global_step"]


def test_the_one_dimensional_configuration_gives_a_prior(functions, tmp_path):
    assert run([*options(functions, tmp_path / "run", 7), *SMALL_FNO]) == 0
    prior = load_flow_prior(tmp_path / "run" / "prior.ckpt")
    assert (prior.units, prior.channels) == ("K", ("field",))
    assert Grid.from_json(prior.grid_description).axes[0].periodic
    assert prior.provenance["training"]["steps"] == 7 and prior.provenance["training"]["averaged"]
    x = torch.randn(2, 1, 16, dtype=torch.float64)
    assert torch.equal(load_flow_prior(tmp_path / "run" / "last.ckpt").velocity(x, 0.3), prior.velocity(x, 0.3))
    current = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["current_model_state"]
    assert not torch.equal(current["network.head.weight"], prior.network.head.weight)  # the average is what is kept


def test_the_two_dimensional_configuration_gives_a_prior_with_logs(tmp_path):
    dataset(24, (10, 9)).to_netcdf(tmp_path / "fields.nc")
    small = ["--model.init_args.network.init_args.widths", "[8,8]", "--trainer.logger", "true"]
    argv = [*options(tmp_path / "fields.nc", tmp_path / "run", 3, "fit_unet_2d.yaml"), *small]
    assert run([*argv, "--trainer.log_every_n_steps", "1"]) == 0
    prior = load_flow_prior(tmp_path / "run" / "prior.ckpt")
    assert prior.velocity(torch.zeros(1, 1, 10, 9, dtype=torch.float64), 0.5).shape == (1, 1, 10, 9)
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))
    assert list((tmp_path / "run").rglob("config.yaml"))


def test_a_run_that_stopped_goes_on_as_if_it_had_not(functions, tmp_path, monkeypatch):
    run([*options(functions, tmp_path / "whole", 12), *SMALL_FNO])

    def stop_in_the_third_epoch(module, batch, batch_idx):
        if module.global_step == 10:
            raise RuntimeError("stopped")
        return training_step(module, batch, batch_idx)

    training_step = FlowMatching.training_step
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="stopped"):
        patch.setattr(FlowMatching, "training_step", stop_in_the_third_epoch)
        run([*options(functions, tmp_path / "parts", 12), *SMALL_FNO])
    assert steps(tmp_path / "parts") == 8
    run([*options(functions, tmp_path / "parts", 12), *SMALL_FNO, "--ckpt_path", "last"])
    assert steps(tmp_path / "parts") == steps(tmp_path / "whole") == 12
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    run([*options(functions, tmp_path / "other", 12), *SMALL_FNO, "--model.init_args.seed", "1"])
    other = weights(tmp_path / "other")
    assert not all(torch.equal(whole[name], other[name]) for name in whole)


def test_a_run_that_was_killed_goes_on(functions, tmp_path):
    argv = [*options(functions, tmp_path / "run", 100_000), *SMALL_FNO]
    process = Forked("infield", "fit", *argv)
    try:
        wait_until((tmp_path / "run" / "last.ckpt").exists, process)
    finally:
        process.kill()
        process.communicate()
    reached = steps(tmp_path / "run")
    assert reached > 0 and not (tmp_path / "run" / "prior.ckpt").exists()
    run([*options(functions, tmp_path / "run", reached + 6), *SMALL_FNO, "--ckpt_path", "last"])
    assert steps(tmp_path / "run") == reached + 6


def test_going_on_from_a_damaged_or_another_runs_checkpoint_is_refused(functions, tmp_path):
    argv = [*options(functions, tmp_path / "run", 4), *SMALL_FNO]
    run(argv)
    wider = ["--model.init_args.network.init_args.width", "12", "--ckpt_path", "last"]
    with pytest.raises(InfieldError, match=r"infield_prior\.network") as error:
        run([*argv, *wider])
    assert "\n" not in str(error.value)
    last = tmp_path / "run" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:2000])
    for asked in ("last", str(last)):
        with pytest.raises(InfieldError, match="cannot be read as a checkpoint"):
            run([*argv, "--ckpt_path", asked])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--model.init_args.lerning_rate", "3"], r"--model: FlowMatching: Option .*, perhaps learning_rate;"),
        (["--model.init_args.network.init_args.widht", "3"], r"'network': FNO: Option .widht. .*, perhaps width"),
        (["--trainer.max_steps", "many"], r"--trainer.max_steps: Expected a .*int.*many"),
        (["--trainer.max_steps", "0"], r"--trainer.max_steps: found 0, expected at least 1"),
        (["--trainer.accelerator", "tpu"], r"the trainer: .*(TPU|torch_xla)"),
        (["--colour", "red"], r"unrecognized arguments: --colour red; 'infield fit --help-all'"),
        (["--model", "infield.nothing.Here"], r"--model: Here: module 'infield' has no attribute 'nothing'"),
        (["--ckpt_path", "best"], "best: found no file there"),
        (["--trainer.default_root_dir", "s3://bucket/run"], "expected a path on this machine"),
    ],
)
def test_wrong_options_are_one_line(functions, tmp_path, capfd, wrong, words):
    with pytest.raises(InfieldError, match=words) as error:
        run([*options(functions, tmp_path / "run", 4), *wrong])
    said = capfd.readouterr()
    assert "\n" not in str(error.value) and "usage" not in said.err and said.out == ""
    assert not (tmp_path / "run" / "last.ckpt.lock").exists()


def test_an_interrupted_training_is_a_keyboard_interrupt(functions, tmp_path, monkeypatch):
    """The command then leaves with status 130; Lightning would leave with 1."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    try:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(FlowMatching, "training_step", interrupt)
            run([*options(functions, tmp_path / "run", 4), *SMALL_FNO])
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_does_not_go_on_with_other_data(functions, tmp_path):
    argv = [*options(functions, tmp_path / "run", 4), *SMALL_FNO]
    run(argv)
    moved = tmp_path / "moved.zarr"
    functions.rename(moved)
    again = [*options(moved, tmp_path / "run", 5), *SMALL_FNO, "--ckpt_path", "last"]
    run(again)  # negative control: the same data elsewhere
    assert steps(tmp_path / "run") == 5
    other = dataset()
    other["field"] = other["field"] + np.float32(0.001)
    other.to_zarr(moved, mode="w", consolidated=False)
    with pytest.raises(InfieldError, match="checkpoint to resume from: found other training data"):
        run(again)


def test_the_remedy_for_another_name_of_the_fields_works(infield, tmp_path):
    """Fields called `rain` beside a mask: the line names the option and the variable, and following it trains."""
    data = dataset().rename(field="rain").assign(land=("x", np.zeros(16)))
    data.to_zarr(tmp_path / "rain.zarr", consolidated=False)
    words = [str(word) for word in options(tmp_path / "rain.zarr", tmp_path / "run", 2)]
    said = infield("fit", *words).refused("'field': found no such variable", "one of land, rain")
    remedy = said.rsplit("name it: ", 1)[1].split()
    assert remedy == ["--data.init_args.variable", "rain"]
    trained = infield("fit", *words, *remedy)
    assert trained.status == 0 and "litlogger" not in trained.err and "deprecated" not in trained.err


def test_maps_of_a_series_are_samples_where_the_option_says_so(infield, tmp_path):
    """A climatologist's file: months along `time`. The line names the option, which works."""
    months = (
        dataset().rename(sample="time").assign_coords(time=("time", np.arange(40.0), {"units": "days since 2000-1-1"}))
    )
    months.to_zarr(tmp_path / "sst.zarr", consolidated=False)
    words = [str(word) for word in options(tmp_path / "sst.zarr", tmp_path / "run", 2)]
    said = infield("fit", *words).refused("dimensions (time, x)", "expected (sample, [channel,] *space)")
    remedy = said.rsplit("fields: ", 1)[1].split()
    assert remedy == ["--data.init_args.sample_axis", "time"] and infield("fit", *words, *remedy).status == 0
    as_samples = opened(tmp_path / "sst.zarr", sample_axis="time")
    dataset().to_zarr(tmp_path / "same.zarr", consolidated=False)
    same = opened(tmp_path / "same.zarr")
    assert torch.equal(as_samples.examples(), same.examples()) and as_samples.grid == same.grid


def test_a_run_limited_by_steps_counts_no_epochs():
    bar = Epochs()
    for limit, text in ((-1, "Epoch 3"), (None, "Epoch 3"), (5, "Epoch 3/4")):
        bar._trainer = SimpleNamespace(max_epochs=limit, sanity_checking=False)
        assert bar._get_train_description(3).rstrip() == text


def test_a_configuration_that_is_not_there(functions, tmp_path):
    with pytest.raises(InfieldError, match=r"missing.yaml': found no such file"):
        run([*options(functions, tmp_path / "run", 4), "--config", str(tmp_path / "missing.yaml")])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--data.init_args.validation=2", "^training fields: found batch_size 8, validation 2"),
        ("--data.init_args.path=missing.zarr", "found nothing there"),
        ("--model.init_args.network.init_args.modes=0", "^FNO: found ndim 1"),
        ("--model.init_args.network.init_args.ndim=2", "^network fno: found 1 channels on 2 axes"),
        ("--model.init_args.source.nu=-1", "^Matern kernel"),
        ("--model.init_args.source.law=brown", "one of white, matern"),
        ("--ckpt_path=missing.ckpt", "found no file there"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(functions, tmp_path, option, words):
    with pytest.raises(InfieldError, match=words) as error:
        run([*options(functions, tmp_path / "run", 4), option])
    assert "\n" not in str(error.value)


def opened(path: Path, **settings) -> FieldFile:
    data = FieldFile(str(path), batch_size=8, **settings)
    data.setup("fit")
    return data


@pytest.mark.parametrize("memory_gib", [0.0, 1.0])
@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_lazy_and_kept_fields_are_the_same(tmp_path, suffix, memory_gib):
    truth, path = dataset(), tmp_path / f"fields{suffix}"
    truth.to_zarr(path, consolidated=False) if suffix == ".zarr" else truth.to_netcdf(path)
    data = opened(path, memory_gib=memory_gib, validation=0.25)
    assert isinstance(data, TrainingFields)
    assert data.grid.spacing == (0.5,) and data.units == "K"
    assert (len(data.training), len(data.held_out)) == (30, 10)
    batches = list(data.train_dataloader())
    order = list(EpochOrder(30, 0, lambda: 0))
    expected = torch.from_numpy(truth["field"].values[order[:8]])[:, None]
    assert len(batches) == 3 and torch.equal(batches[0], expected)
    assert torch.equal(torch.cat(list(data.val_dataloader())), torch.from_numpy(truth["field"].values[30:])[:, None])
    assert opened(path, statistics=5).examples().shape == (5, 1, 16)


def test_fields_on_a_falling_axis_are_turned(tmp_path):
    truth = dataset()
    truth.isel(x=slice(None, None, -1)).to_zarr(tmp_path / "f.zarr", consolidated=False)
    data = opened(tmp_path / "f.zarr", validation=0.25)
    assert data.grid.axes[0].coordinates[0] == 0 and data.grid.spacing == (0.5,)
    assert torch.equal(torch.cat(list(data.val_dataloader()))[:, 0], torch.from_numpy(truth["field"].values[30:]))


def test_channels_and_complex_values(tmp_path):
    truth = dataset(space=(4, 6))
    two = xr.concat([truth["field"], 2 * truth["field"]], "channel").transpose("sample", "y", "channel", "x")
    coordinate = ("channel", [0, 1], {"flag_values": [0, 1], "flag_meanings": "density speed"})
    two = two.assign_coords(channel=coordinate).to_dataset(name="field")
    two.to_zarr(tmp_path / "two.zarr", consolidated=False)
    data = opened(tmp_path / "two.zarr")
    assert data.channels == ("density", "speed") and data.examples().shape == (38, 2, 4, 6)
    assert torch.equal(data.examples()[:, 1], 2 * data.examples()[:, 0])
    wave = (truth["field"] * (1 + 2j)).assign_attrs(units="1").to_dataset(name="field")
    wave.to_zarr(tmp_path / "wave.zarr", consolidated=False)
    data = opened(tmp_path / "wave.zarr")
    assert data.channels == ("real", "imag")
    torch.testing.assert_close(data.examples()[:, 1], 2 * data.examples()[:, 0])


def test_every_sample_once_in_an_order_that_changes_with_the_epoch():
    first, second = list(EpochOrder(50, 3, lambda: 0)), list(EpochOrder(50, 3, lambda: 1))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second and first == list(EpochOrder(50, 3, lambda: 0))


def broken(change):
    data = dataset()
    return change(data) or data


def with_nan(data):
    data["field"][3, 2] = np.nan


def without_coordinate(data):
    return data.drop_vars("x")


def strip_scaling(data):
    del data["field"].attrs["units"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_nan, "NaN or infinity in sample 3"),
        (without_coordinate, "'x': found no coordinate"),
        (strip_scaling, "'field.units'"),
        (lambda data: data.rename(field="density"), "expected one of density"),
        (lambda data: data.rename(sample="member"), "found dimensions"),
        (lambda data: data.isel(sample=slice(5)), "at least 8"),
        (lambda data: data.assign(field=data["field"] > 0), "values of type bool"),
    ],
)
@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_files_that_cannot_train_are_refused_in_one_line(tmp_path, change, words, suffix):
    data, path = broken(change), tmp_path / f"fields{suffix}"
    data.to_zarr(path, consolidated=False) if suffix == ".zarr" else data.to_netcdf(path)
    with pytest.raises(InfieldError, match=words) as error:
        opened(path).examples()
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))


def test_what_is_no_file_of_fields_is_refused_in_one_line(tmp_path):
    (tmp_path / "text.nc").write_text("nothing")
    (tmp_path / "empty.zarr").mkdir()
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["field"] = np.zeros((20, 8))
    for name in ("missing.zarr", "text.nc", "empty.zarr", "plain.h5"):
        with pytest.raises(InfieldError) as error:
            opened(tmp_path / name)
        assert "\n" not in str(error.value) and str(error.value).startswith(str(tmp_path / name))
