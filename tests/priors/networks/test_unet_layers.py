"""Parts of the U-Net that are our own for speed: closing axes and group norm, against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional

from infield.priors.networks import unet
from infield.priors.networks.group_norm import GroupNorm
from infield.priors.networks.periodic import FORMATS, closed
from infield.priors.networks.unet import UNet

SPACES = [(7,), (5, 6), (3, 4, 5)]


def field(space: tuple[int, ...], channels: int = 6, *, last: bool, seed: int = 0) -> Tensor:
    x = torch.randn((3, channels, *space), generator=Generator().manual_seed(seed), dtype=torch.float64)
    return x.contiguous(memory_format=FORMATS.get(x.ndim, torch.contiguous_format)) if last else x


def padded(x: Tensor) -> Tensor:
    return functional.pad(x, [1] * 2 * (x.ndim - 2), mode="circular")


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("space", SPACES)
def test_closing_is_circular_padding_with_all_its_derivatives(space, last):
    x, dx = field(space, last=last), field(space, last=last, seed=1)
    assert torch.equal(closed(x), padded(x))
    g = torch.randn(padded(x).shape, generator=Generator().manual_seed(2), dtype=torch.float64)
    x.requires_grad_()
    ours, theirs = (torch.autograd.grad((f(x) * g).sum(), x)[0] for f in (closed, padded))
    assert torch.allclose(ours, theirs, atol=1e-13)
    assert not torch.allclose(ours, g[(..., *[slice(1, -1)] * len(space))], atol=0.1)  # what was added counts
    assert torch.equal(torch.func.jvp(closed, (x.detach(),), (dx,))[1], padded(dx))
    if last and len(space) > 1:
        assert closed(x).is_contiguous(memory_format=FORMATS[x.ndim])


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_group_norm_is_torchs_with_all_its_derivatives(space, last, groups):
    norm = GroupNorm(groups, 6).double()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter, generator=Generator().manual_seed(3))
    x, dx, g = (field(space, last=last, seed=seed) for seed in (0, 1, 2))
    x = (2 + 3 * x).requires_grad_()

    def theirs(x: Tensor) -> Tensor:
        return functional.group_norm(x, groups, norm.weight, norm.bias, norm.eps)

    assert torch.allclose(norm(x), theirs(x), atol=1e-12)
    wanted = (x, norm.weight, norm.bias)
    found, expected = (torch.autograd.grad((f(x) * g).sum(), wanted) for f in (norm, theirs))
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-11)
    x, h = x.detach(), 1e-6
    slope = torch.func.jvp(norm, (x,), (dx,))[1]
    finite = (theirs(x + h * dx) - theirs(x - h * dx)) / (2 * h)
    assert torch.allclose(slope, finite, atol=1e-7)
    mean = torch.func.jvp(norm, (x,), (torch.ones_like(x),))[1]  # a shift of all values changes nothing
    assert mean.abs().max() < 1e-11 and slope.abs().max() > 0.1


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_order_of_axes_in_memory_changes_nothing_but_rounding(ndim, monkeypatch):
    """The same weights, with channels last in memory and not; a field that is shifted in one of them is another."""
    space = {1: (16,), 2: (8, 12), 3: (4, 8, 4)}[ndim]
    torch.manual_seed(0)
    last = UNet(2, ndim, (8, 16)).double()
    torch.nn.init.normal_(last.head.weight)
    monkeypatch.setattr(unet, "FORMATS", {})
    plain = UNet(2, ndim, (8, 16)).double()
    plain.load_state_dict(last.state_dict())
    x = torch.randn((2, 2, *space), generator=Generator().manual_seed(1), dtype=torch.float64)
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    expected = plain(x, t)
    monkeypatch.setattr(unet, "FORMATS", FORMATS)
    if ndim > 1:
        strides = [w.stride() for w in (last.stem.weight, plain.stem.weight)]
        assert strides[0] != strides[1]
    assert torch.allclose(last(x, t), expected, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(last(x.roll(1, -1), t), expected, atol=0.1)


def test_half_of_the_precision_gives_gradients_of_nearly_the_same_direction():
    """bf16, as trainings have it."""
    torch.manual_seed(0)
    network = UNet(2, 2, (8, 16), inputs=6, times=3)
    torch.nn.init.normal_(network.head.weight, std=0.1)
    x, numbers = torch.randn(4, 6, 16, 16), torch.rand(4, 3)
    g = torch.randn(4, 2, 16, 16)
    gradients = []
    for autocast in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            (network(x, numbers).float() * g).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    full, half = gradients
    assert 0 < (half - full).norm() < 0.03 * full.norm()
