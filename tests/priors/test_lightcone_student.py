"""A student of the flow of lightcones: Gaussian before training, local, a part of the prior's file; its training."""

import copy
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

import infield.priors.lightcone_student as lightcone_student
from infield import InfieldError
from infield.datasets.steps import Steps
from infield.priors.checkpoint import export_prior
from infield.priors.drawn_mean import fit_drawn_mean, means_of_student
from infield.priors.lightcone_distillation import LightconeDistillation, pairs_of
from infield.priors.lightcone_student import DrawnMean, OneStep, Student, low_pass
from infield.priors.lightcones import LightconePrior, load_lightcone_prior, to_entry
from infield.priors.linear_part import LinearPart
from infield.priors.local_unet import LocalUNet
from infield.priors.prior import heun
from infield.priors.slice_repeats import SliceRepeats
from infield.priors.slice_spectra import KNOTS, SliceSpectra
from infield.priors.slice_statistics import SliceStatistics
from infield.priors.student_network import StudentNetwork
from infield.priors.voxel_transform import VoxelTransform

HERE = {"ION_Tvir_MIN": 4.8, "HII_EFF_FACTOR": 131.0}
DEPTH, TOLD = 90, 10  # 90 is no multiple of the coarsest cell


def still(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)


def random(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in module.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator) / weights[0].numel() ** 0.5)
    return still(module)


def student(network: nn.Module | None = None, gain: float = 1.0) -> Student:
    network = network or StudentNetwork(2, TOLD, (8, 8))
    one = SliceSpectra(2, 2, 8)
    with torch.no_grad():
        one.layers[-1].bias.fill_(torch.tensor(gain).log())
    mean = DrawnMean(2, 2, 8)
    return Student(network=still(network), gain=still(one), mean=still(mean), provenance={"teacher": "a"})


def prior(**changes) -> LightconePrior:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        statistics, spectra = SliceStatistics(2, 2, 16), SliceSpectra(2, 2, 16)
    with torch.no_grad():
        spectra.layers[-1].bias.copy_(torch.linspace(1.0, -2.5, KNOTS).repeat(4))  # red
        statistics.layers[-1].bias[1] = -0.3  # not all is ionised
    distance = 8900 + 4.0 * torch.arange(DEPTH, dtype=torch.float64).numpy()
    settings = {
        "name": "flow of lightcones",
        "network": random(LocalUNet(2, 10, 2, (8, 8))),
        "statistics": still(statistics),
        "spectra": still(spectra),
        "repeats": None,
        "linear_part": still(LinearPart(2, 2, 16)),
        "drawn": still(SliceSpectra(2, 1, 16)),
        "transform": VoxelTransform("linear", mean=5.0, scale=20.0, fill=False),
        "ranges": {"ION_Tvir_MIN": (4.0, 6.0), "HII_EFF_FACTOR": (10.0, 250.0)},
        "cell": 4.0,
        "points": (8, 8),
        "distance": distance,
        "redshift": 7.5 + (distance - 8900) / 240,
        "provenance": {"kind": "lightcones"},
    }
    return LightconePrior(**{**settings, **changes})


@pytest.mark.parametrize("kind", ["linear", "yeo-johnson"])
def test_before_training_it_is_the_gaussian_lightcone(kind):
    transform = VoxelTransform(kind, 5.0, 20.0, fill=kind != "linear")
    one = prior(student=student(), transform=transform)
    cones = one.draw(HERE, torch.Generator().manual_seed(1), n=2)
    flow = one.at(HERE)
    xi = torch.randn((2, *flow.event_shape), generator=torch.Generator().manual_seed(1))
    expected = one.temperature(flow, xi)[:, 0]
    assert cones.shape == (2, 8, 8, DEPTH) and cones.dtype == torch.float32
    assert torch.equal(cones == 0, expected == 0) and 0.02 < float((cones == 0).double().mean()) < 0.9
    assert torch.allclose(cones, expected, atol=1e-3)
    other = one.draw({**HERE, "ION_Tvir_MIN": 5.9}, torch.Generator().manual_seed(1), n=2)
    assert not torch.allclose(other, expected, atol=1)  # what is kept of the last point is not taken for another


def test_what_power_it_lacks_is_made_up_for():
    one = prior()
    cones = [prior(student=student(gain=gain)).draw(HERE, torch.Generator().manual_seed(1)) for gain in (1, 0.5)]
    flow = one.at(HERE)
    shift = flow.standardisation.shift[0].float()
    neutral = (cones[0] != 0) & (cones[1] != 0)
    around = [(cone - shift)[neutral] for cone in cones]
    assert torch.allclose(around[1], 2 * around[0], rtol=0.01, atol=0.01) and neutral.any()


def test_it_sees_no_farther_than_its_reach_and_closes_in_x_and_y():
    network = random(StudentNetwork(2, TOLD, (8, 8))).double()
    generator = torch.Generator().manual_seed(3)
    xi, low, told = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((1, 2, 96, 8, 8), (1, 2, 48, 4, 4), (1, TOLD, 48))
    )
    said = network.say(told)
    added = network(xi, low, said)
    assert added.shape == xi.shape and added.std() > 0.1
    turned = network(xi.roll(4, 3), low.roll(2, 3), said)
    assert torch.allclose(turned, added.roll(4, 3), atol=1e-9) and not torch.allclose(turned, added, atol=0.1)
    changed = xi.clone()
    changed[:, :, 48] += 1
    felt = (network(changed, low, said) - added).abs().amax((0, 1, 3, 4)).nonzero()
    assert 8 < 48 - int(felt.min()) <= network.reach and 8 < int(felt.max()) - 48 <= network.reach
    with pytest.raises(InfieldError, match="expected multiples of 4"):
        network(xi[..., :6], low, said)


def test_derivatives_of_the_network_are_those_of_its_values():
    network = random(StudentNetwork(1, 2, (4, 4))).double().requires_grad_(True)
    generator = torch.Generator().manual_seed(3)
    xi, low, told = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((1, 1, 8, 8, 8), (1, 1, 4, 4, 4), (1, 2, 4))
    )

    def value(network: nn.Module) -> torch.Tensor:
        return network(xi, low, network.say(told)).sin().sum()

    for name in ("up.0.0.first.weight", "stem.bias", "coarser.0.weight", "said.0.0.weight"):
        weights = network.get_parameter(name)
        direction = torch.randn(weights.shape, generator=generator, dtype=torch.float64)
        (slope,) = torch.autograd.grad(value(network), weights)
        ends = []
        for step in (1e-6, -1e-6):
            moved = copy.deepcopy(network).requires_grad_(False)
            moved.get_parameter(name).add_(step * direction)
            ends.append(value(moved))
        found = (ends[0] - ends[1]) / 2e-6
        assert torch.allclose(found, (slope * direction).sum(), rtol=1e-4) and found.abs() > 1e-3


def test_stretches_with_their_halos_are_the_whole_cone(monkeypatch):
    one = prior(student=student(random(StudentNetwork(2, TOLD, (8, 8)))))

    def innovations() -> torch.Tensor:
        drawer = OneStep(one.student, one.at(HERE), one.transform)
        drawer.half.float()  # in single precision: bf16 would hide what is missing
        xi = torch.randn(2, DEPTH, 8, 8, generator=torch.Generator().manual_seed(2))
        return drawer.columns.fields(drawer.innovations(xi)) - xi

    whole = innovations()
    monkeypatch.setattr(lightcone_student, "STRETCH", 32)
    assert torch.allclose(innovations(), whole, atol=1e-5) and whole.std() > 0.1
    monkeypatch.setattr(StudentNetwork, "reach", 0)
    assert not torch.allclose(innovations(), whole, atol=1e-2)


def test_fields_on_cells_are_those_of_the_points_without_short_waves():
    one = prior(student=student())
    drawer, flow = OneStep(one.student, one.at(HERE), one.transform), one.at(HERE)
    xi = torch.randn(2, DEPTH, 8, 8, generator=torch.Generator().manual_seed(2))
    field = flow.innovations.colour(xi.movedim(1, -1)[None])[0].movedim(-1, 1)
    columns = drawer.columns.of(xi)
    assert torch.allclose(drawer.columns.fields(columns), xi, atol=1e-5)
    low = drawer.carried.on_cells(drawer.carried.colour(drawer.seen, drawer.carried.of(xi)))
    assert low.shape == (2, DEPTH // 2, 4, 4) and torch.allclose(low, low_pass(field), atol=1e-4)
    x = torch.arange(8) * torch.pi / 4
    wave = (torch.cos(x)[:, None] + torch.sin(2 * x)[:, None] + torch.cos(3 * x)).expand(2, 8, 8)
    assert torch.allclose(low_pass(wave), torch.cos(x[::2])[:, None].expand(1, 4, 4), atol=1e-6)


def test_what_is_off_in_the_mean_is_found_and_taken_out():
    network = StudentNetwork(2, TOLD, (8, 8))
    with torch.no_grad():
        network.head.bias[:8] = 0.3  # innovations of the temperature, everywhere
    one = prior(student=student(network))
    theta = torch.rand(12, 2, generator=torch.Generator().manual_seed(3))
    s = torch.linspace(0, 1, DEPTH)
    found = means_of_student(one, theta, torch.Generator().manual_seed(4))
    assert found.shape == (12, 2, DEPTH) and float(found[:, 0].mean()) > 0.3 and float(found[:, 1].abs().max()) < 1e-4
    mean = fit_drawn_mean(found, theta, s, seed=0, steps=300)
    mended = replace(one, student=replace(one.student, mean=mean))
    off = []
    for each in (one, mended):
        cone = OneStep(each.student, each.at(HERE), each.transform)
        columns = cone.innovations(torch.randn(2, DEPTH, 8, 8, generator=torch.Generator().manual_seed(5)))
        fields = cone.columns.fields(cone.columns.colour(cone.made, columns)).mul_(cone.scale).add_(cone.shift)
        plain = cone.columns.fields(cone.columns.colour(cone.made, cone.columns.of(torch.zeros(2, DEPTH, 8, 8))))
        assert not plain.any()
        off.append(fields[0].mean((1, 2)))
    flow = one.at(HERE)
    gaussian = flow.standardisation.innovations.colour(
        torch.randn(2, DEPTH, 8, 8, generator=torch.Generator().manual_seed(5)).movedim(1, -1)[None]
    )[0, 0].mean((0, 1))
    told = flow.standardisation.shift[0, 0, 0] + flow.standardisation.scale[0, 0, 0] * gaussian
    before, after = (float((one - told).abs().mean()) for one in off)
    assert after < 0.2 * before


def test_its_file_holds_it_or_not(tmp_path):
    one = prior(student=student(random(StudentNetwork(2, TOLD, (8, 8))), gain=0.9))
    torch.save({"infield_lightcones": to_entry(one)}, tmp_path / "last.ckpt")
    export_prior(tmp_path / "last.ckpt", tmp_path / "lightcones.ckpt")
    export_prior(tmp_path / "last.ckpt", tmp_path / "half.ckpt", half=True)
    again, half = (load_lightcone_prior(tmp_path / f"{name}.ckpt") for name in ("lightcones", "half"))
    cones, same, near = (p.draw(HERE, torch.Generator().manual_seed(1)) for p in (one, again, half))
    assert torch.equal(cones, same) and again.student.provenance == {"teacher": "a"}
    assert near.dtype == torch.float32 and float((near - cones).square().mean()) < 0.03 * float(cones.var())
    by_flow = again.draw(HERE, torch.Generator().manual_seed(1), steps=2)
    assert not torch.allclose(by_flow, cones, atol=1) and (again.calls(), again.calls(2)) == (1, 3)
    torch.save({"infield_lightcones": to_entry(prior())}, tmp_path / "none.ckpt")
    none = load_lightcone_prior(tmp_path / "none.ckpt")
    assert none.student is None and none.calls() == 15
    assert torch.equal(none.draw(HERE, torch.Generator().manual_seed(1), steps=2), by_flow)


def test_pairs_are_what_the_flow_does():
    one = prior()
    pairs = pairs_of(one, 3, 32, torch.Generator().manual_seed(4), steps=2)
    for i in range(3):
        flow = one.on(pairs.theta[i].double(), pairs.s[i, None].double(), (8, 8))
        xi = pairs.xi[i].movedim(1, -1)[None]
        xi_1 = heun(flow, xi, [0.0, 0.5, 1.0])
        assert torch.allclose(pairs.xi_1[i].movedim(1, -1)[None], xi_1, atol=0.05)
        assert torch.allclose(pairs.low[i], low_pass(flow.innovations.colour(xi)[0].movedim(-1, 1)), atol=1e-3)
    assert float((pairs.xi_1 - pairs.xi).std()) > 0.1


def trained(teacher, directory, steps: int, *, per_epoch: int = 32, resume: str | None = None, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = StudentNetwork(2, TOLD, (8, 8))
    settings = {"learning_rate": 1e-2, "warmup": 5, "gains": 8, "gain_steps": 40, "window": 32, **settings}
    module = LightconeDistillation(network, str(teacher), pairs=16, pairs_together=8, batch_size=4, **settings)
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=directory,
        callbacks=[ModelCheckpoint(directory, "last", enable_version_counter=False)],
    )
    trainer.fit(module, datamodule=Steps(per_epoch, 1), ckpt_path=resume)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.fixture
def teacher(tmp_path):
    torch.save({"infield_lightcones": to_entry(prior())}, tmp_path / "teacher.ckpt")
    return tmp_path / "teacher.ckpt"


def test_it_learns_what_the_flow_does_and_leaves_the_prior_with_its_student(teacher, tmp_path):
    found = trained(teacher, tmp_path / "run", 64)
    control = trained(teacher, tmp_path / "control", 1, learning_rate=1e-9, per_epoch=1, gains=0)
    assert control["validation_missed"] == pytest.approx(1, abs=1e-3)
    assert found["validation_missed"] < 0.8
    assert found["validation_log_power"] < control["validation_log_power"]
    one = load_lightcone_prior(tmp_path / "run" / "last.ckpt")
    told, given = one.student.provenance, load_lightcone_prior(teacher)
    assert told["teacher"] == given.sha256 and told["training"]["steps"] == 64
    assert all(torch.equal(a, b) for a, b in zip(one.network.parameters(), given.network.parameters(), strict=True))
    cones, gaussian = (p.draw(HERE, torch.Generator().manual_seed(1), n=2) for p in (one, prior(student=student())))
    assert cones.isfinite().all() and not torch.allclose(cones, gaussian, atol=1)


def test_a_stopped_training_goes_on_as_if_it_had_not(teacher, tmp_path, monkeypatch):
    def weights(name):
        return load_lightcone_prior(tmp_path / name / "last.ckpt").student.network.state_dict()

    trained(teacher, tmp_path / "whole", 6, per_epoch=3, gains=0)
    step = LightconeDistillation.training_step

    def stop(self, batch, batch_idx):
        if self.global_step == 4:  # in the second epoch of three steps
            raise RuntimeError("stopped")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="stopped"):
        patch.setattr(LightconeDistillation, "training_step", stop)
        trained(teacher, tmp_path / "parts", 6, per_epoch=3, gains=0)
    trained(teacher, tmp_path / "parts", 6, per_epoch=3, gains=0, resume=str(tmp_path / "parts" / "last.ckpt"))
    trained(teacher, tmp_path / "other", 3, per_epoch=3, gains=0, seed=1)
    whole, parts, other = (weights(name) for name in ("whole", "parts", "other"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    assert not all(torch.allclose(value, other[name], atol=1e-4) for name, value in whole.items())
    torch.save({"infield_lightcones": to_entry(prior(points=(16, 16)))}, tmp_path / "another.ckpt")
    with pytest.raises(InfieldError, match="provenance"):
        trained(tmp_path / "another.ckpt", tmp_path / "parts", 16, resume=str(tmp_path / "parts" / "last.ckpt"))


def test_what_cannot_be_distilled_is_refused(teacher):
    with pytest.raises(InfieldError, match=r"expected \{'channels': 2, 'told': 10\}"):
        LightconeDistillation(StudentNetwork(2, 9, (8, 8)), str(teacher))
    with pytest.raises(InfieldError, match=r"window 30.*expected a multiple of 4, at most 90"):
        LightconeDistillation(StudentNetwork(2, TOLD, (8, 8)), str(teacher), window=30)


def test_pairs_are_what_the_flow_makes_of_each_window_also_where_boxes_repeat():
    repeats = SliceRepeats(2, 2, 8, 8)
    with torch.no_grad():
        repeats.layers[-1].bias.fill_(-1.5)  # structures last for several boxes
    one = prior(repeats=still(repeats))
    pairs = pairs_of(one, 3, 32, torch.Generator().manual_seed(6), steps=3)
    for i in range(3):
        xi = pairs.xi[i, None].movedim(2, -1)
        alone, free = (
            each.evolved(each.on(pairs.theta[i], pairs.s[i, None], each.points), xi, 3)[0].movedim(-1, 1)
            for each in (one, replace(one, repeats=None))
        )
        same, other = (float((field - pairs.xi_1[i]).square().mean().sqrt()) for field in (alone, free))
        added = float((pairs.xi_1[i] - pairs.xi[i]).square().mean().sqrt())
        assert same < 1e-3 * added  # bf16
        assert other > 5 * same and other > 1e-3 * added  # a control: of boxes that do not repeat
