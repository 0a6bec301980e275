"""A network that sees no farther than its reach, closes in x and y, and ends along the line of sight."""

import pytest
import torch
from torch.nn import functional

from infield import InfieldError
from infield.priors.networks.local_unet import LocalUNet, _Around

WIDTHS = ((8, 12), (8, 8, 8))


def network(widths=(8, 12), **settings):
    generator = torch.Generator().manual_seed(0)
    net = LocalUNet(channels=2, inputs=3, numbers=2, widths=widths, **settings)
    with torch.no_grad():
        for weights in net.parameters():  # the last layer is zero before training
            weights.copy_(torch.randn(weights.shape, generator=generator) / weights[0].numel() ** 0.5)
    return net.double()


def inputs(depth=64, side=8, n=1):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 3, side, side, depth, generator=generator, dtype=torch.float64)
    return x, torch.rand(n, generator=generator).double(), torch.rand(n, 2, generator=generator).double()


def test_it_returns_zero_before_training():
    assert (LocalUNet(2, 3, 2, (8, 12))(*(part.float() for part in inputs())) == 0).all()


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("blocks", [1, 2])
def test_what_is_beyond_the_reach_is_not_felt(widths, blocks):
    net = network(widths, blocks=blocks)
    depth = 2 * net.reach + 4 * net.multiple
    x, t, theta = inputs(depth)
    moved = x.clone()
    cell = depth // 2 + 1
    moved[..., cell] += 1
    felt = (net(moved, t, theta) - net(x, t, theta)).abs().amax((0, 1, 2, 3)) > 0
    far = (torch.arange(depth) - cell).abs() > net.reach
    assert not felt[far].any() and far.any()
    farthest = int((torch.arange(depth) - cell).abs()[felt].max())
    assert net.reach - 3 * net.multiple < farthest  # and the reach is not much larger than it must be


@pytest.mark.parametrize("widths", WIDTHS)
def test_a_part_with_its_halo_is_the_part_of_the_whole(widths):
    net = network(widths)
    m, reach = net.multiple, net.reach
    x, t, theta = inputs(2 * reach + 6 * m)
    whole = net(x, t, theta)
    part = net(x[..., m : m + 2 * reach + 2 * m], t, theta)[..., reach : reach + 2 * m]
    there = whole[..., m + reach : m + reach + 2 * m]
    assert torch.allclose(part, there, rtol=0, atol=1e-12)
    short = net(x[..., 2 * m : m + 2 * reach + 2 * m], t, theta)[..., 0 : 2 * m]  # no halo at all
    assert (short - whole[..., 2 * m : 4 * m]).abs().max() > 1e-3


def test_x_and_y_close_and_the_line_of_sight_does_not():
    net = network()
    x, t, theta = inputs()
    out = net(x, t, theta)
    for axis in (2, 3):
        assert torch.allclose(net(x.roll(net.multiple, axis), t, theta), out.roll(net.multiple, axis), atol=1e-12)
    assert not torch.allclose(net(x.roll(net.multiple, 4), t, theta), out.roll(net.multiple, 4), atol=1e-3)


def test_around_is_circular_padding_with_its_derivative():
    x, _, _ = inputs(4, 6)
    assert torch.equal(_Around.apply(x), functional.pad(x, (0, 0, 1, 1, 1, 1), mode="circular"))
    assert torch.autograd.gradcheck(_Around.apply, (x[:, :, :3, :3].clone().requires_grad_(),))


def test_checkpointing_changes_memory_and_not_the_gradient():
    gradients = []
    for checkpointing in (False, True):
        net = network(checkpointing=checkpointing)
        net(*inputs(n=2)).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert torch.equal(*gradients) and gradients[0].abs().max() > 0


@pytest.mark.parametrize("number", [0, 1])
def test_it_hears_time_and_every_parameter(number):
    net = network()
    x, t, theta = inputs()
    other = theta.clone()
    other[:, number] += 0.1
    assert (net(x, t, other) - net(x, t, theta)).abs().max() > 1e-4
    assert (net(x, t / 2, theta) - net(x, t, theta)).abs().max() > 1e-4


def test_refusals():
    with pytest.raises(InfieldError, match="found 6 x 8 x 64 points, expected multiples of 4"):
        x, t, theta = inputs()
        network()(x[:, :, :6], t, theta)
    with pytest.raises(InfieldError, match="widths"):
        LocalUNet(widths=())
