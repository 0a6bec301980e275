"""Average velocities in two parts, drift and rate, and what a training begins with: the middle, and other weights."""

from __future__ import annotations

import pytest
import torch
from examples.gaussian_average import TAU, GaussianAverage
from torch import Generator, nn

from infield import InfieldError
from infield.core.grid import Grid
from infield.datasets.mri.operator_family import UndersampledKspace
from infield.datasets.training.operator_families import Inpainting
from infield.priors.amortised.average_velocity import AverageVelocity, load_average_velocity, to_entry
from infield.priors.base import Standardisation
from infield.priors.networks.unet import UNet
from infield.priors.training import measurement_family as family_training
from infield.priors.training.mean_flow import MeanFlow, _some

GRID = Grid.regular((8, 8), 1.0, periodic=True)


def model_of(network: nn.Module, channels: int = 1, shape: tuple[int, ...] = (8, 8)) -> AverageVelocity:
    one = torch.ones(channels, *[1] * len(shape), dtype=torch.float64)
    return AverageVelocity(
        name="test", network=network, standardisation=Standardisation(0 * one, one), event_shape=(channels, *shape),
        power=torch.tensor(TAU**2), noise=(0.0, 0.2), serves={"operator": "mask", "numbers": {"observed": [0.2, 0.8]}},
    )  # fmt: skip


def flow_of(network: nn.Module, channels: int = 1, family=None, **settings) -> MeanFlow:
    settings = {"tau": TAU, "noise": (0.1, 0.1), "operators": 1, **settings}
    flow = MeanFlow(network, family or Inpainting((0.5, 0.5)), **settings)
    flow.grid, flow.model = GRID, model_of(network, channels)
    return flow


def unet(channels: int = 1, seed: int | None = 0, gated: bool = True) -> UNet:
    """Trained where there is a seed: with a head that is not zero."""
    torch.manual_seed(seed or 0)
    network = UNet((1 + gated) * channels, 2, widths=(8,), inputs=3 * channels, times=3)
    if seed is not None:
        nn.init.normal_(network.head.weight, std=0.3)
    return network


class Parts(nn.Module):
    """`GaussianAverage` by its drift and its rate, which depend on the place alone."""

    channels = 2

    def __init__(self, halved: bool = False) -> None:
        super().__init__()
        self.whole, self.halved = GaussianAverage(), halved

    def forward(self, x, numbers):
        _, mean, mask = x.chunk(3, dim=1)
        drift = self.whole(torch.cat([mean, mean, mask], dim=1), numbers)
        rate = self.whole(torch.cat([mean + 1, mean, mask], dim=1), numbers) - drift
        return torch.cat([drift, rate * (0.5 if self.halved else 1)], dim=1)


class GaussianAverageOfAName(UNet):
    """A closed form that passes for a network with a description."""

    def __init__(self) -> None:
        super().__init__(1, 2, (8,), inputs=3, times=3)
        self.exact = GaussianAverage()

    def forward(self, x, numbers):
        return self.exact(x, numbers)


@pytest.fixture(autouse=True)
def described(monkeypatch):
    of = family_training.network_description
    named = {"name": "unet", "arguments": GaussianAverageOfAName().arguments}
    kind = GaussianAverageOfAName
    monkeypatch.setattr(family_training, "network_description", lambda n: named if type(n) is kind else of(n))


def test_drift_and_rate_are_the_average_velocity_of_a_gaussian():
    generator = Generator().manual_seed(0)
    z, mean = (torch.randn((5, 1, 8, 8), generator=generator, dtype=torch.float64) for _ in range(2))
    mask = (torch.rand((5, 1, 8, 8), generator=generator) < 0.5).double()
    r, t, s = torch.tensor([[0.0, 0.2, 0.5, 0.3, 0.0], [1.0, 0.2, 0.9, 0.4, 0.0], [0.1] * 5], dtype=torch.float64)
    told = (z, r, t, torch.cat([mean, mask], dim=1), s)
    exact = model_of(GaussianAverage()).velocity(*told)
    assert torch.allclose(model_of(Parts()).velocity(*told), exact, atol=1e-10)
    assert not torch.allclose(model_of(Parts(halved=True)).velocity(*told), exact, atol=0.1)


@pytest.mark.parametrize("family", [Inpainting((0.5, 0.5)), UndersampledKspace("random", (2.0,))])
def test_no_drift_and_no_rate_leave_the_source_and_any_leave_exact_data(family):
    x_1 = torch.randn((4, 2, 8, 8), generator=Generator().manual_seed(1), dtype=torch.float64)
    for seed in (None, 0):
        flow = flow_of(unet(2, seed).double(), 2, family, noise=(0.0, 0.0), noiseless=1.0)
        m = flow._batch(x_1, Generator().manual_seed(2), again=True)
        operator = family.draw(GRID, 2, Generator().manual_seed(2))  # the first that the generator gives
        zero = torch.zeros(4, dtype=torch.float64)
        draws = m.x_0 + m.u(m.x_0, zero, zero + 1, torch.arange(4))
        assert torch.allclose(operator.A(draws), operator.A(x_1), atol=1e-10)
        assert torch.equal(draws, m.x_0) == (seed is None)
        assert not torch.allclose(draws, x_1, atol=0.1)
        unconfined = m.x_0 + flow.model.velocity(m.x_0, zero, zero + 1, m.seen, m.noise)
        assert torch.allclose(operator.A(unconfined), operator.A(x_1), atol=1e-10) == (seed is None)


def test_one_part_is_told_the_field_and_two_how_far_it_is_from_the_mean():
    heard = []
    for gated in (True, False):
        model = model_of(unet(gated=gated))
        model.network.register_forward_pre_hook(lambda network, inputs: heard.append(inputs[0][:, :1]))
        assert model.gated == gated
        z, mean = torch.full((1, 1, 8, 8), 3.0), torch.full((1, 1, 8, 8), 2.0)
        model.velocity(z, torch.zeros(1), torch.ones(1), torch.cat([mean, mean], dim=1), torch.zeros(1))
    assert (heard[0] == 1).all() and (heard[1] == 3).all()


def test_the_middle_goes_to_the_mean_of_the_posterior():
    """Where what moves it is exact; what is a tenth of the way off has a larger loss. The rate has no part in it."""

    class Off(GaussianAverage):
        def forward(self, x, numbers):
            return super().forward(x, numbers) + 0.3

    x_1 = torch.randn((400, 1, 8, 8), generator=Generator().manual_seed(3))
    losses = []
    for network in (GaussianAverage(), Off()):
        flow = flow_of(unet())
        object.__setattr__(flow.model, "network", network)
        losses.append(flow._loss_of_middle(x_1, Generator().manual_seed(4)).mean())
    assert losses[1] > losses[0] + 0.05
    flow = flow_of(unet(), middle=1)
    flow._loss_of_middle(x_1[:8], Generator().manual_seed(4)).mean().backward()
    head, stem = flow.network.head.weight.grad, flow.network.stem.weight.grad
    assert (head[4:] == 0).all() and (head[:4] != 0).any()  # four points of a cell: drift, then rate
    assert (stem[:, :4] == 0).all() and (stem[:, 4:] != 0).any()


def test_a_training_moves_the_middle_first_and_hears_of_z_later(monkeypatch):
    network = unet()
    flow = flow_of(network, middle=3, score=1.0)
    assert (network.stem.weight[:, :4] == 0).all() and (network.stem.weight[:, 4:] != 0).all()
    assert (flow_of(unet(), score=1.0).network.stem.weight != 0).all()
    monkeypatch.setattr(MeanFlow, "log", lambda *a, **k: None)
    monkeypatch.setattr(MeanFlow, "current_epoch", 0)
    monkeypatch.setattr(MeanFlow, "global_rank", 0)
    x_1, gradients = torch.randn((8, 1, 8, 8), generator=Generator().manual_seed(5)), {}
    for step in (2, 3):
        monkeypatch.setattr(MeanFlow, "global_step", step)
        network.zero_grad()
        flow.training_step(x_1, 0).backward()
        gradients[step] = network.stem.weight.grad[:, :4]
    assert (gradients[2] == 0).all() and (gradients[3] != 0).any()


def test_shares_of_a_batch_are_spread_over_its_operators():
    assert _some(8, 0.5).tolist() == [0, 2, 4, 6] and _some(8, 0.01).tolist() == [0]
    assert _some(8, 1.0).tolist() == list(range(8)) and _some(6, 0.67).tolist() == [0, 1, 3, 4]


def test_identity_and_score_have_the_examples_that_are_asked_for():
    x_1 = torch.randn((8, 1, 8, 8), generator=Generator().manual_seed(6))

    def loss(**settings) -> torch.Tensor:
        return flow_of(GaussianAverageOfAName(), score=1.0, **settings)._loss_of(x_1, Generator().manual_seed(7))

    whole, some = loss(identity=1.0, scored=0.5), loss(identity=0.25, scored=0.5)
    assert (some != 0).tolist() == [True, False, True, True, True, False, True, True]
    assert torch.allclose(some[[3, 7]], whole[[3, 7]])
    assert torch.allclose(loss(identity=0.25, scored=1.0)[0] * 2, some[0])  # the score's weight is that of its mean


def test_an_average_that_changes_wildly_in_time_does_not_outweigh_all_others(monkeypatch):
    """The identity asks for the slope in time; the weight is less where this asks for much, whatever the field was."""

    class Wild(GaussianAverage):
        def forward(self, x, numbers):
            r, t = (number[:, None, None, None] for number in numbers.T[:2])
            return super().forward(x, numbers) + (t - r) * torch.sin(1000 * r) / 3

    x_1 = torch.randn((200, 1, 8, 8), generator=Generator().manual_seed(8))
    losses = {}
    for name, network in (("exact", GaussianAverage()), ("wild", Wild())):
        for score in (0.0, 1e-9):
            flow = flow_of(unet(), score=score, corner=0.0)
            object.__setattr__(flow.model, "network", network)
            losses[name, score > 0] = flow._loss_of(x_1, Generator().manual_seed(9)).detach()
    assert losses["wild", False].max() > 1000 * losses["exact", False].max()
    assert losses["wild", True].max() < 10 < 3 * losses["exact", True].max()
    spread = flow._batch(x_1, Generator().manual_seed(9), again=True).spread
    assert 0.6 < losses["exact", True].mean() / (losses["exact", False] / spread).mean() < 1


def test_weights_of_another_posterior_are_a_start(tmp_path):
    first = unet()
    torch.save({"infield_one_step": to_entry(model_of(first))}, tmp_path / "one.ckpt")
    network = unet(seed=1)
    assert not torch.equal(network.stem.weight, first.stem.weight)
    flow = flow_of(network, start=str(tmp_path / "one.ckpt"), middle=5)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), first.parameters(), strict=True))
    assert flow.network is network and all(p.requires_grad for p in network.parameters())
    with pytest.raises(InfieldError, match=r"one.ckpt: found the network .*'widths': \[8\].*, expected .*\[4\]"):
        flow_of(UNet(2, 2, widths=(4,), inputs=3, times=3), start=str(tmp_path / "one.ckpt"))
    assert load_average_velocity(tmp_path / "one.ckpt").gated


@pytest.mark.parametrize("settings, words", [({"identity": 2.0}, "identity"), ({"middle": -1}, "middle -1")])
def test_bad_settings(settings, words):
    with pytest.raises(InfieldError, match=words):
        flow_of(unet(), **settings)


def test_each_draw_steps_in_a_frame_of_its_own():
    """Moved there and back: by whole cells nothing changes, by less what is tied to cells does."""
    model = model_of(unet())
    generator = Generator().manual_seed(10)
    z, mean = (torch.randn((4, 1, 8, 8), generator=generator) for _ in range(2))
    told, noise = torch.cat([mean, mean], dim=1), torch.full((4,), 0.1)
    still, by = torch.zeros((4, 2), dtype=torch.long), torch.tensor([[0, 0], [1, 0], [-1, 1], [2, -2]])
    zero = torch.zeros(4)
    assert torch.equal(model.step(z, told, noise, still), model.velocity(z, zero, zero + 1, told, noise))
    expected = model.velocity(z.roll((-1, 1), (2, 3)), zero, zero + 1, told.roll((-1, 1), (2, 3)), noise)
    moved, alike = model.step(z, told, noise, by), model.step(z, told, noise, still)
    assert torch.allclose(moved[2], expected.roll((1, -1), (2, 3))[2], atol=1e-5)
    assert torch.allclose(moved[[0, 3]], alike[[0, 3]], atol=1e-4)  # by whole cells, of 2 x 2 points
    assert (moved[1] - alike[1]).abs().max() > 1e-2
    open_ = model_of(UNet(2, 2, widths=(8,), inputs=3, times=3, periodic=False))
    nn.init.normal_(open_.network.head.weight)
    assert torch.equal(open_.step(z, told, noise, by), open_.step(z, told, noise, still))
