"""An emulator of lightcones: Gaussian chance and a map, local, the same on any part of the line of sight."""

import copy
import dataclasses

import examples.lightcone_prior_example as example
import pytest
import torch
from torch import nn

import infield.priors.cm21.emulator as lightcone_emulator
from infield import InfieldError
from infield.priors.cm21.density_network import DensityNetwork
from infield.priors.cm21.emulator import Emulator, zero_likely_ionised
from infield.priors.cm21.initial_density import InitialDensity
from infield.priors.cm21.prior import LightconePrior
from infield.priors.cm21.prior_entry import load_lightcone_prior, to_entry
from infield.priors.storage.checkpoint import export_prior

HERE = {"ION_Tvir_MIN": 4.8, "HII_EFF_FACTOR": 131.0}
LAW = InitialDensity(torch.tensor([-2.0, 1.0]), torch.tensor([1.0, -1.0]), finer=2, points=16)
TOLD = 23


def random(widths: tuple[int, ...] = (8, 8), seed: int = 0) -> DensityNetwork:
    network = DensityNetwork(LAW.seen, TOLD, encoder=8, widths=widths)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator) / weights[0].numel() ** 0.5)
    return network.eval().requires_grad_(False)


def prior(network: DensityNetwork | None = None, depth: int = 90) -> LightconePrior:
    emulator = Emulator(network=network or random(), density=LAW, provenance={"prior": "a"})
    return dataclasses.replace(example.prior(points=16, depth=depth), emulator=emulator)


def test_one_box_is_one_universe_at_all_parameters():
    one = prior()
    cones = one.draw(HERE, torch.Generator().manual_seed(1), n=2)
    assert cones.shape == (2, 16, 16, 90) and cones.dtype == torch.float32
    assert torch.equal(cones, one.draw(HERE, torch.Generator().manual_seed(1), n=2))
    there = {**HERE, "ION_Tvir_MIN": 5.9}
    box = LAW.draw((16, 16), torch.Generator().manual_seed(1))
    for point, expected in ((HERE, cones[0]), (there, one.draw(there, torch.Generator().manual_seed(1))[0])):
        assert torch.equal(one.conditioned_emulator(one.theta(point)).of(box), expected)
    assert not torch.allclose(one.draw(there, torch.Generator().manual_seed(1)), cones[:1], atol=0.5)
    assert one.calls() == 1 and one.calls(steps=2) == 2


def test_before_training_it_is_the_mean_of_slices():
    network = random()
    for parameter in network.head.parameters():
        nn.init.zeros_(parameter)
    nn.init.constant_(network.head.bias[8:], -9)  # nothing is ionised
    one = prior(network)
    cone = one.draw(HERE, torch.Generator().manual_seed(1))[0]
    mu = one.at(HERE).standardisation.shift[0, 0, 0]
    assert torch.allclose(cone, mu.float().expand_as(cone), atol=1e-3) and float(mu.std()) > 0.01


def test_as_many_zeros_as_are_expected_where_they_are_most_likely():
    generator = torch.Generator().manual_seed(0)
    logit = 3 * torch.randn(40, 16, 16, generator=generator) + torch.linspace(-9, 9, 40)[:, None, None]
    temperature = torch.randn(40, 16, 16, generator=generator)
    temperature[:, 0, 0] = 0.0
    logit[:, 0, 0] = -20
    found = zero_likely_ionised(temperature, logit)
    zeros = found == 0
    assert (zeros.sum((1, 2)) - torch.sigmoid(logit).sum((1, 2))).abs().max() <= 2
    for here, at in zip(zeros, logit, strict=True):
        assert not here.any() or here.all() or at[here].min() >= at[~here].max()
    assert not zeros[:, 0, 0].any() and torch.equal(
        found[~zeros & (temperature != 0)], temperature[~zeros & (temperature != 0)]
    )
    halves = (logit > 0).sum((1, 2)) - torch.sigmoid(logit).sum((1, 2))  # what a threshold of a half would make
    assert halves.abs().max() > 3


def test_a_part_of_the_line_of_sight_is_that_of_the_whole():
    one = prior()
    box = LAW.draw((16, 16), torch.Generator().manual_seed(2))
    theta = one.theta(HERE)

    def values(cells: slice | None) -> torch.Tensor:
        call = one.conditioned_emulator(theta, cells=cells)
        call.half.float()  # in single precision: bf16 would hide what is missing
        return torch.stack(call.values(box))

    whole = values(None)
    for cells in (slice(0, 33), slice(37, 60), slice(51, 90)):
        assert torch.allclose(values(cells), whole[:, cells], atol=1e-4)
    assert whole.std() > 0.1 and not torch.allclose(values(slice(38, 61)), whole[:, 37:60], atol=1e-2)


def test_stretches_with_their_halos_are_the_whole_cone(monkeypatch):
    one = prior()
    box = LAW.draw((16, 16), torch.Generator().manual_seed(2))

    def values() -> torch.Tensor:
        one._prepared.clear()
        call = one.conditioned_emulator(one.theta(HERE))
        call.half.float()
        return torch.stack(call.values(box))

    whole = values()
    monkeypatch.setattr(lightcone_emulator, "STRETCH", 28)
    assert torch.allclose(values(), whole, atol=1e-4)
    monkeypatch.setattr(DensityNetwork, "reach", 0)
    assert not torch.allclose(values(), whole, atol=1e-2)


def test_structures_come_again_with_the_box_and_change():
    one = prior(depth=60)
    x, _ = one.conditioned_emulator(one.theta(HERE)).values(LAW.draw((16, 16), torch.Generator().manual_seed(3)))
    cells = x.reshape(60, 4, 4, 4, 4)
    field = cells - cells.mean((1, 3), keepdim=True)  # what is the same in all coarse cells, a random network repeats

    def alike(a: int, b: int) -> float:
        return float(torch.corrcoef(torch.stack([field[a].flatten(), field[b].flatten()]))[0, 1])

    assert alike(20, 36) > 0.8 and abs(alike(20, 28)) < 0.5 and not torch.allclose(field[20], field[36])


def test_the_network_sees_no_farther_than_its_reach_and_closes_in_x_and_y():
    network = random().double()
    generator = torch.Generator().manual_seed(3)
    features, told = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((1, 48, 4, 4, 8), (1, TOLD, 48))
    )
    said = network.film_parameters(told)
    made = network(features, said)
    assert made.shape == (1, 2, 96, 8, 8) and made.std() > 0.1
    turned = network(features.roll(2, 2), said)
    assert torch.allclose(turned, made.roll(4, 3), atol=1e-9) and not torch.allclose(turned, made, atol=0.1)
    changed = features.clone()
    changed[:, 24] += 1
    felt = (network(changed, said) - made).abs().amax((0, 1, 3, 4)).nonzero()
    assert 8 < 48 - int(felt.min()) <= network.reach and 8 < int(felt.max()) - 49 <= network.reach
    box = torch.randn(1, 8, 8, 8, LAW.seen, generator=generator, dtype=torch.float64)
    encoded = network.encode(box)
    for axis in (1, 2, 3):
        assert torch.allclose(network.encode(box.roll(3, axis)), encoded.roll(3, axis), atol=1e-9)
    with pytest.raises(InfieldError, match="expected multiples of 4"):
        network(features[:, :5], network.film_parameters(told[..., :5]))


def test_derivatives_of_the_network_are_those_of_its_values():
    network = random((4, 4)).double().requires_grad_(True)
    generator = torch.Generator().manual_seed(3)
    box, told = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((1, 4, 4, 4, LAW.seen), (1, TOLD, 4))
    )

    def value(network: DensityNetwork) -> torch.Tensor:
        return network(network.encode(box), network.film_parameters(told)).sin().sum()

    for name in ("up.0.first.weight", "up.0.second.bias", "coarser.0.weight", "said.0.0.weight", "encoder.0.weight"):
        weights = network.get_parameter(name)
        direction = torch.randn(weights.shape, generator=generator, dtype=torch.float64)
        (slope,) = torch.autograd.grad(value(network), weights)
        ends = []
        for step in (1e-7, -1e-7):
            moved = copy.deepcopy(network).requires_grad_(False)
            moved.get_parameter(name).add_(step * direction)
            ends.append(value(moved))
        found = (ends[0] - ends[1]) / 2e-7
        assert torch.allclose(found, (slope * direction).sum(), rtol=1e-4) and found.abs() > 1e-3


def test_its_file_holds_it_or_not(tmp_path):
    one = prior()
    torch.save({"infield_lightcones": to_entry(one)}, tmp_path / "last.ckpt")
    export_prior(tmp_path / "last.ckpt", tmp_path / "lightcones.ckpt")
    again = load_lightcone_prior(tmp_path / "lightcones.ckpt")
    assert again.emulator.provenance == {"prior": "a"}
    cones = [each.draw(HERE, torch.Generator().manual_seed(1)) for each in (one, again)]
    assert torch.equal(*cones)
    export_prior(tmp_path / "last.ckpt", tmp_path / "half.ckpt", half=True)
    half = load_lightcone_prior(tmp_path / "half.ckpt").draw(HERE, torch.Generator().manual_seed(1))
    assert float((half - cones[0]).square().mean() / cones[0].var()) < 0.01
    torch.save({"infield_lightcones": to_entry(dataclasses.replace(one, emulator=None))}, tmp_path / "flow.ckpt")
    export_prior(tmp_path / "flow.ckpt", tmp_path / "alone.ckpt")
    assert load_lightcone_prior(tmp_path / "alone.ckpt").emulator is None


def test_refusals():
    one = prior()
    with pytest.raises(InfieldError, match="found 10 x 10 cells across, expected multiples of 4"):
        one.draw(HERE, torch.Generator(), points=(10, 10))
    with pytest.raises(InfieldError, match="found no cell"):
        one.draw(HERE, torch.Generator(), cells=slice(90, 95))
    with pytest.raises(InfieldError, match="widths \\[\\]"):
        DensityNetwork(widths=())


def test_a_network_is_by_default_for_boxes_of_half_the_spacing():
    assert DensityNetwork(encoder=8, widths=(8,)).arguments["seen"] == LAW.seen == 4**3 + 3 * 2**3 + 4
