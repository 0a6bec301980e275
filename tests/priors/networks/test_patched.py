"""A network of patches on domains of any size: their sum is one velocity, without a trace of their lattice."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from infield import InfieldError
from infield.priors.networks import patched
from infield.priors.networks.patched import Patched
from infield.priors.networks.unet import UNet
from infield.priors.storage.network import build_network, network_description


class Identity(nn.Module):
    def forward(self, x, t):
        assert len(x) == len(t)
        return x


class Edges(nn.Module):
    """1 on the outermost points of a patch: the worst of a network that does not know what is beyond."""

    def forward(self, x, t):
        edges = torch.ones_like(x)
        inside = tuple(slice(1, -1) for _ in x.shape[2:])
        edges[(slice(None), slice(None), *inside)] = 0
        return edges


class Times(nn.Module):
    def forward(self, x, t):
        return x + t.reshape(-1, 1, 1, 1)


def small_unet(seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    network = UNet(1, 2, (4, 8), 1, True, False)
    nn.init.normal_(network.head.weight, std=0.1)
    return network


@pytest.mark.parametrize("mode", ["overlap", "shift"])
@pytest.mark.parametrize("periodic", list(itertools.product([True, False], repeat=2)))
@pytest.mark.parametrize("shape", [(16, 24), (19, 37), (50, 16)])
def test_weights_add_up_to_one_at_every_point(mode, periodic, shape):
    x = torch.randn(3, 2, *shape).double()
    t = torch.tensor([0.2, 0.2, 0.7]).double()
    for training in (False, True):
        network = Patched(Identity(), (16, 16), (4, 6), mode, periodic, origin=(3, 40)).train(training)
        torch.testing.assert_close(network(x, t), x)


@pytest.mark.parametrize("shape", [(40,), (9, 11, 8)])
def test_any_number_of_axes(shape):
    x, t = torch.randn(2, 1, *shape).double(), torch.tensor([0.5, 0.5]).double()
    network = Patched(Identity(), (8,) * len(shape)).eval()
    torch.testing.assert_close(network(x, t), x)


@pytest.mark.parametrize("mode", ["overlap", "shift"])
def test_every_field_has_its_own_time_and_no_company(mode):
    network = Patched(Times(), (16, 16), (4, 4), mode).eval()
    x, t = torch.randn(4, 1, 20, 40), torch.tensor([0.1, 0.8, 0.8, 0.3])
    torch.testing.assert_close(network(x, t), x + t.reshape(-1, 1, 1, 1))
    unet = Patched(small_unet().double(), (16, 16), (4, 4), mode).eval()
    alone = torch.cat([unet(x[i : i + 1].double(), t[i : i + 1].double()) for i in range(4)])
    torch.testing.assert_close(unet(x.double(), t.double()), alone)


@pytest.mark.parametrize("mode", ["overlap", "shift"])
def test_the_network_sees_a_bounded_number_of_patches(mode, monkeypatch):
    seen = []

    class Counting(Identity):
        def forward(self, x, t):
            seen.append(x.numel())
            return small(x, t)

    small = small_unet().double()
    network = Patched(Counting(), (16, 16), (4, 4), mode).eval()
    x, t = torch.randn(2, 1, 64, 96).double(), torch.tensor([0.4, 0.4]).double()
    whole = network(x, t)
    at_once = max(seen)
    monkeypatch.setattr(patched, "MAX_VALUES_PER_CALL_CPU", 4 * 256)
    seen.clear()
    torch.testing.assert_close(network(x, t), whole)
    assert max(seen) <= 4 * 256 < at_once  # negative control: without the limit it saw more


def test_the_offset_depends_on_time_and_seed_and_nothing_else():
    x = torch.zeros(1, 1, 32, 48)

    def lattice(t, seed=0, fields=x):
        return Patched(Edges(), (16, 16), mode="shift", seed=seed).eval()(fields, torch.full((len(fields),), t))

    assert torch.equal(lattice(0.3), lattice(0.3))
    assert torch.equal(lattice(0.3, fields=torch.randn(5, 1, 32, 48))[4:], lattice(0.3))
    assert not torch.equal(lattice(0.3), lattice(0.31)) and not torch.equal(lattice(0.3), lattice(0.3, seed=1))


def test_over_many_times_no_point_is_nearer_to_an_edge_than_another():
    x, times = torch.zeros(1, 1, 32, 48), torch.linspace(0, 1, 4000)
    shift = Patched(Edges(), (16, 16), mode="shift").eval()
    mean = torch.cat([shift(x, t[None]) for t in times]).mean(0)
    share = 1 - (14 / 16) ** 2
    error = math.sqrt(share * (1 - share) / len(times))
    assert (mean - share).abs().max() < 5 * error
    fixed = Patched(Edges(), (16, 16), (0, 0), "overlap").eval()(x, times[:1])
    assert set(fixed.unique().tolist()) == {0.0, 1.0}  # negative control: edges are always in the same places


@pytest.mark.parametrize("mode", ["overlap", "shift"])
def test_a_part_of_a_domain_has_the_patches_of_the_whole(mode):
    """A tile that starts on the lattice sees what the whole domain sees, less a patch from its rim."""
    x, t = torch.randn(1, 1, 48, 192).double(), torch.tensor([0.6]).double()
    network = Patched(small_unet().double(), (16, 16), (4, 4), mode).eval()
    whole, start, width = network(x, t), 48, 96
    tile = x[..., start : start + width]
    part = network.covering((True, True), (0, start))(tile, t)
    inside = (..., slice(16, width - 32))
    torch.testing.assert_close(part[inside], whole[..., start : start + width][inside])
    other = network.covering((True, True), (0, start + 5))(tile, t)  # negative control: another lattice
    assert (other[inside] - part[inside]).abs().max() > 1e-3


class ShortSighted(nn.Module):
    """The mean of the points around, which at the edge of a patch knows one side only: a network at its best."""

    def forward(self, x, t):
        kernel = torch.ones(1, 1, 7, 7)
        return functional.conv2d(x, kernel, padding=3) / functional.conv2d(torch.ones_like(x), kernel, padding=3)


def seam(mode: str, overlap: tuple[int, int], steps: int = 20) -> tuple[float, float]:
    """Excess of power at the lattice's wavenumbers along x over that of their neighbours, dB, the largest of them.

    Of fields that become smooth in small steps, and of the squares of their differences: a jump of random sign between
    two patches has no place in the spectrum of the field itself.
    """
    network = Patched(ShortSighted(), (16, 16), overlap, mode).eval()
    x = torch.randn((40, 1, 32, 768), generator=torch.Generator().manual_seed(0))
    for k in range(steps):
        x = x + 2 * (network(x, torch.full((len(x),), (k + 0.5) / steps)) - x) / steps
    worst = []
    for field in (x, x.diff(dim=-1, append=x[..., :1]).square()):
        power = torch.fft.rfft(field, dim=-1).abs().square().mean((0, 1, 2))
        excess = []
        for at in {m * 768 // stride for stride in (16, 16 - overlap[1]) for m in range(1, stride // 2)}:
            beside = torch.cat([power[at - 9 : at - 1], power[at + 2 : at + 10]])
            excess.append(10 * math.log10(float(power[at] / beside.mean())))
        worst.append(max(excess))
    return worst[0], worst[1]


def test_no_seam_shows_in_either_mode():
    for mode, overlap in (("overlap", (4, 4)), ("shift", (0, 0))):
        assert max(seam(mode, overlap)) < 0.5
    field, jumps = seam("overlap", (0, 0))
    assert field < 0.5 < 3 < jumps  # negative control: the same patches, always in the same places


def test_gradients_reach_field_and_weights():
    network = Patched(small_unet().double(), (16, 16), (4, 4))
    x = torch.randn(2, 1, 16, 40, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.2, 0.9]).double()
    for training in (True, False):
        network.train(training)
        direction = torch.randn_like(x)
        (gradient,) = torch.autograd.grad(network(x, t).square().sum(), x)
        with torch.no_grad():
            ends = [network(x + h * direction, t).square().sum() for h in (1e-5, -1e-5)]
        assert float((gradient * direction).sum()) == pytest.approx(float(ends[0] - ends[1]) / 2e-5, rel=1e-6)
    network(x, t).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.inner.head.parameters())


def test_it_is_rebuilt_from_its_description():
    network = Patched(small_unet(), (16, 24), (4, 6), "shift", (True, False), (2, 3), seed=5).eval()
    again = build_network(network_description(network)).eval()
    again.load_state_dict(network.state_dict())
    x, t = torch.randn(1, 1, 20, 50), torch.tensor([0.25])
    assert torch.equal(network(x, t), again(x, t))
    assert network_description(again) == network_description(network)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "tiles"}, "found mode 'tiles', expected one of overlap, shift"),
        ({"overlap": (9, 4)}, "overlaps of at most half a patch"),
        ({"overlap": (4,)}, "one number an axis"),
        ({"network": UNet(1, 2, (4,), periodic=True)}, "is periodic on its patches; set `periodic: false`"),
    ],
)
def test_what_cannot_be_is_refused(settings, words):
    with pytest.raises(InfieldError, match=words):
        Patched(**{"network": small_unet(), "patch": (16, 16), **settings})


def test_an_open_domain_smaller_than_a_patch_is_refused():
    network = Patched(small_unet(), (16, 16), periodic=(True, False)).eval()
    with pytest.raises(InfieldError, match="found a field of 20 x 12 points, expected at least the patch, 16 x 16"):
        network(torch.zeros(1, 1, 20, 12), torch.tensor([0.5]))
    assert network(torch.zeros(1, 1, 12, 20), torch.tensor([0.5])).shape == (1, 1, 12, 20)
