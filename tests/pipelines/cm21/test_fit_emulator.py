"""Training an emulator on a toy universe whose map from initial conditions to lightcones is known."""

from __future__ import annotations

from pathlib import Path

import examples.lightcone_prior_example as example
import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.datasets.cm21.lightcone_file import DENSITY, TEMPERATURE, Lightcones, lightcone_grid, lightcone_writer
from infield.datasets.cm21.training import LightconeFile, Windows
from infield.pipelines.commands.fit import run
from infield.pipelines.package_data import CONFIGS
from infield.priors.cm21.emulator_training import EmulatorTraining, _in_bands
from infield.priors.cm21.initial_density import InitialDensity
from infield.priors.cm21.prior_entry import load_lightcone_prior

CONFIG = CONFIGS / "fit_emulator.yaml"
SIDE, DEPTH = 8, 32
LAW = InitialDensity(torch.tensor([-1.0, 1.0]), torch.tensor([1.5, -3.0]), finer=2, points=SIDE)


def universe(box: np.ndarray, tvir: float) -> np.ndarray:
    """A lightcone `(x, y, los)`: dense places are ionised, more of them near and where `tvir` is small."""
    n = len(box) // 2
    density = box.reshape(n, 2, n, 2, n, 2).mean((1, 3, 5))
    density = (density / density.std())[..., np.arange(DEPTH) % n]
    s = np.linspace(0, 1, DEPTH)
    return np.where(density > 2 * s - 1 + (tvir - 5), 0, -10 + 14 * density + 5 * s)


def cones(path: Path, n: int, *, density: bool = True, ranges: tuple[float, float] = (4, 6)) -> Path:
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    tvir, zeta = rng.uniform(4, 6, n), rng.uniform(10, 250, n)
    about = Lightcones(
        grid=lightcone_grid((SIDE, SIDE), 4.0, 9000 + 4.0 * np.arange(DEPTH)),
        redshift=np.linspace(7.5, 8, DEPTH),
        samples=n,
        parameters={"ION_Tvir_MIN": tvir, "HII_EFF_FACTOR": zeta},
        provenance={"simulator": "toy", "ranges": {"ION_Tvir_MIN": list(ranges), "HII_EFF_FACTOR": [10, 250]}},
    )
    box = (2 * SIDE,) * 3 if density else None
    writer = lightcone_writer(path, about, run={"seed": 0}, title="toy", box=box)
    for i in range(n):
        begun = 2 * LAW.draw((SIDE, SIDE), generator).numpy().transpose(1, 2, 0)
        fields = {TEMPERATURE: universe(begun, tvir[i])[None]} | ({DENSITY: begun[None]} if density else {})
        writer.write_block(i, fields)
    writer.finish()
    return path


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return cones(tmp_path_factory.mktemp("toy") / "cones.zarr", 48)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return example.save(tmp_path_factory.mktemp("base") / "flow.ckpt", points=SIDE, depth=DEPTH)


def options(path: Path, prior: Path, where: Path, steps: int, *others: str) -> list[str]:
    return [
        "--config", str(CONFIG), "--data.init_args.path", str(path), "--model.init_args.prior", str(prior),
        "--data.init_args.window", "16", "--data.init_args.batch_size", "8", "--data.init_args.validation", "0.1",
        "--model.init_args.network.init_args.widths", "[16, 16]", "--model.init_args.network.init_args.encoder", "16",
        "--model.init_args.rising", "50",
        "--model.init_args.warmup", "5", "--trainer.default_root_dir", str(where), "--trainer.max_steps", str(steps),
        "--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--trainer.logger", "false",
        "--trainer.enable_progress_bar", "false", "--average.decay", "0.9", *others,
    ]  # fmt: skip


@pytest.mark.slow
def test_it_learns_the_map_of_a_universe(toy, base, tmp_path):
    assert run(options(toy, base, tmp_path, 400, "--model.init_args.learning_rate", "4e-3")) == 0
    prior = load_lightcone_prior(tmp_path / "lightcones.ckpt")
    assert prior.emulator.provenance["prior"] == load_lightcone_prior(base).sha256
    assert prior.emulator.provenance["training"]["steps"] == 400
    boxes = [LAW.draw((SIDE, SIDE), torch.Generator().manual_seed(seed)) for seed in (1001, 1002)]
    point = {"ION_Tvir_MIN": 5.0, "HII_EFF_FACTOR": 100.0}
    one = prior.conditioned_emulator(prior.theta(point))
    found, other = (one.of(box).numpy() for box in boxes)
    expected = universe(boxes[0].numpy().transpose(1, 2, 0), 5.0)

    def wrong(cone: np.ndarray) -> tuple[float, float]:
        both = (cone != 0) & (expected != 0)
        return float(((cone == 0) != (expected == 0)).mean()), float(np.abs(cone - expected)[both].mean())

    (places, kelvins), (floor_scaling, far) = wrong(found), wrong(other)
    assert places < 0.6 * floor_scaling and kelvins < 0.6 * far, (places, floor_scaling, kelvins, far)
    # What is drawn has as many zeros as the universe, at parameters of few and of many.
    for tvir in (4.4, 5.6):
        drawn = prior.draw({**point, "ION_Tvir_MIN": tvir}, torch.Generator().manual_seed(0), n=12).numpy()
        true = [
            universe(LAW.draw((SIDE, SIDE), torch.Generator().manual_seed(i)).numpy().transpose(1, 2, 0), tvir)
            for i in range(12)
        ]
        assert abs((drawn == 0).mean() - (np.array(true) == 0).mean()) < 0.05
        assert np.abs(drawn.mean((0, 1, 2)) - np.mean(true, (0, 1, 2))).mean() < 2


@pytest.mark.slow
def test_a_run_that_goes_on_is_the_same(toy, base, tmp_path, monkeypatch):
    """To the last bit, after it was stopped in its second epoch; with other windows it is another."""
    step = EmulatorTraining.training_step

    def stop(self, batch, batch_idx):
        if self.global_step == 7:  # in the second epoch of five steps
            raise RuntimeError("stopped")
        return step(self, batch, batch_idx)

    def emulator(name, *others):
        run(options(toy, base, tmp_path / name, 11, "--data.init_args.windows", "1", *others))
        return load_lightcone_prior(tmp_path / name / "lightcones.ckpt").emulator

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="stopped"):
        patch.setattr(EmulatorTraining, "training_step", stop)
        emulator("part")
    whole, part, other = (
        emulator("whole"), emulator("part", "--ckpt_path", "last"), emulator("other", "--data.init_args.seed", "1")
    )  # fmt: skip
    assert part.provenance["training"]["steps"] == 11
    weights = whole.network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in part.network.state_dict().items())
    assert not all(torch.allclose(v, weights[name], atol=1e-4) for name, v in other.network.state_dict().items())
    with pytest.raises(InfieldError, match=r"'emulator\.network': found"):
        emulator("part", "--model.init_args.network.init_args.encoder", "8", "--ckpt_path", "last")


def test_boxes_are_turned_and_shifted_with_their_windows(toy):
    data = LightconeFile(str(toy), window=16, boxes=True)
    data.setup("fit")
    data.keep_temperatures()
    epochs = iter(range(10**6))
    windows = Windows(data, data.training, lambda: next(epochs))
    as_they_were = []
    for number in range(20):
        values, theta, start, box = windows[number]
        unmoved = universe(data.boxes[number, 0].float().numpy(), float(theta[0]))[..., int(start) : int(start) + 16]
        as_they_were.append(((values[0].numpy() == 0) == (unmoved == 0)).mean())
        assert box.shape == (1, 16, 16, 16) and int(start) % 2 == 0
        expected = universe(box[0].float().numpy(), float(theta[0]))[..., int(start) : int(start) + 16]
        alike = (values[0].float().numpy() == 0) == (expected == 0)
        assert alike.mean() > 0.99  # but for rounding to half precision
    assert np.mean(as_they_were) < 0.9  # boxes that stay where they were are not those of the windows
    assert len({int(windows[0][2]) for _ in range(40)}) > 3


def test_power_in_bands_is_that_of_white_noise_and_of_a_wave():
    noise = 3 * torch.randn(200, 32, 8, 8, generator=torch.Generator().manual_seed(0))
    found = _in_bands(noise).mean(0)
    assert torch.allclose(found, torch.full_like(found, 9.0), rtol=0.1)
    wave = torch.cos(2 * torch.pi * 3 * torch.arange(8) / 8).expand(1, 32, 8, 8)  # 2.36 radians per cell
    seen = _in_bands(wave)[0]
    assert seen.argmax() == len(seen) - 2 and seen.max() > 0.99 * seen.sum()  # edges: pi / 4 to pi, evenly in log k


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("--data.init_args.boxes", "false"), "without initial conditions, expected"),
        (("--model.init_args.network.init_args.seen", "90"), "found {'seen': 90, 'told': 23}, expected {'seen': 92"),
    ],
)
def test_refusals(toy, base, tmp_path, changes, words):
    with pytest.raises(InfieldError, match=words):
        run(options(toy, base, tmp_path, 1, *changes))
    assert not (tmp_path / "lightcones.ckpt").exists()


def test_refusals_of_files(base, tmp_path):
    bare = cones(tmp_path / "bare.zarr", 8, density=False)
    with pytest.raises(InfieldError, match=r"found no initial conditions, expected .*simulate anew"):
        run(options(bare, base, tmp_path, 1))
    wide = cones(tmp_path / "wide.zarr", 9, ranges=(3, 6))
    with pytest.raises(InfieldError, match=r"found parameters .*\(3.0, 6.0\).* as the prior has"):
        run(options(wide, base, tmp_path, 1))
