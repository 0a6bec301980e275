from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from infield import InfieldError
from infield.priors.networks.fno import FNO, _SpectralConvolution
from infield.priors.networks.unet import UNet

NETWORKS = [
    (lambda: UNet(1, 1, (8, 16)), (21,)),
    (lambda: UNet(2, 2, (8, 16), unshuffle=False), (9, 14)),
    (lambda: UNet(1, 2, (8, 12, 16), blocks=2, periodic=False), (13, 7)),
    (lambda: UNet(1, 3, (4, 8)), (6, 5, 7)),
    (lambda: FNO(1, 1, 6, 8, 2), (21,)),
    (lambda: FNO(2, 2, 4, 8, 2, "circle"), (9, 14)),
    (lambda: FNO(1, 3, 3, 4, 2, "none"), (6, 5, 7)),
    (lambda: FNO(1, 1, 6, 8, 2, "linear", 0.25, True), (21,)),
    (lambda: FNO(1, 2, 4, 8, 2, "circle", 0.4, True), (9, 14)),
]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def trained(network: nn.Module) -> nn.Module:
    """Stands for a trained network: a head that is not zero."""
    nn.init.normal_(network.head.weight, std=0.3)
    return network


def fields(network, space, n=3) -> tuple[Tensor, Tensor]:
    return torch.randn(n, network.channels, *space), torch.linspace(0.1, 0.9, n)


@pytest.mark.parametrize(("build", "space"), NETWORKS)
def test_keeps_the_shape_of_odd_sizes_and_starts_at_zero(build, space):
    network = build()
    x, t = fields(network, space)
    assert network(x, t).shape == x.shape
    assert (network(x, t) == 0).all()
    assert (trained(network)(x, t) != 0).any()


@pytest.mark.parametrize(("build", "space"), NETWORKS)
def test_every_parameter_gets_a_gradient(build, space):
    network = trained(build())
    x, t = fields(network, space)
    (network(x, t) * torch.randn_like(x)).sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


@pytest.mark.parametrize(("build", "space"), NETWORKS)
def test_each_field_of_a_batch_is_on_its_own_and_sees_its_time(build, space):
    network = trained(build()).double()
    x, t = fields(network, space)
    together = network(x.double(), t.double())
    alone = torch.cat([network(x[i : i + 1].double(), t[i : i + 1].double()) for i in range(len(x))])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)
    later = network(x.double(), (t + 0.05).double())
    assert (later - together).abs().max() > 1e-4


@pytest.mark.parametrize(("build", "space"), NETWORKS)
def test_is_rebuilt_from_its_arguments(build, space):
    network = trained(build())
    again = type(network)(**network.arguments)
    again.load_state_dict(network.state_dict())
    x, t = fields(network, space)
    assert torch.equal(again(x, t), network(x, t))


@torch.no_grad()
def resolution_error(network: nn.Module, ndim: int) -> float:
    """Relative difference on shared points between a band-limited function at one and at twice the resolution."""

    def function(n: int) -> Tensor:
        s = torch.arange(n) / n
        f = (2 * torch.pi * s).sin() + 0.5 * (4 * torch.pi * s + 1).cos()
        return f[None, None] if ndim == 1 else (f[:, None] * f.roll(n // 4) + f)[None, None]

    t = torch.tensor([0.4])
    coarse, fine = network(function(48), t), network(function(96), t)
    shared = fine[(..., *[slice(None, None, 2)] * ndim)]
    return float((shared - coarse).norm() / coarse.norm())


@pytest.mark.parametrize("ndim", [1, 2])
def test_fno_is_the_same_operator_at_twice_the_resolution(ndim):
    assert resolution_error(trained(FNO(1, ndim, 8, 16, 3, "circle")), ndim) < 2e-3  # aliasing of the activations
    assert resolution_error(trained(UNet(1, ndim, (16, 16))), ndim) > 0.1  # a network that is tied to its grid


def test_fno_works_where_the_grid_has_fewer_modes_than_the_network():
    network = trained(FNO(1, 2, 12, 8, 2))
    x = torch.randn(2, 1, 7, 10)
    assert network(x, torch.tensor([0.2, 0.7])).shape == x.shape


@torch.no_grad()
def shift_error(network: nn.Module) -> float:
    x, t = torch.randn(2, 1, 16, 24), torch.tensor([0.2, 0.7])
    moved = network(x.roll((4, 8), (2, 3)), t)
    return float((moved - network(x, t).roll((4, 8), (2, 3))).norm() / moved.norm())


def test_periodic_networks_commute_with_shifts():
    assert shift_error(trained(UNet(1, 2, (8, 16)))) < 1e-5
    assert shift_error(trained(FNO(1, 2, 4, 8, 2, "none"))) < 1e-5
    assert shift_error(trained(UNet(1, 2, (8, 16), periodic=False))) > 1e-2
    assert shift_error(trained(FNO(1, 2, 4, 8, 2, "linear"))) > 1e-2
    assert shift_error(trained(FNO(1, 2, 4, 8, 2, "none", 0.5))) > 1e-2  # zeros between the two ends


@torch.no_grad()
def test_padding_and_gates_follow_the_domain_to_other_grids():
    network = trained(FNO(1, 1, 5, 8, 2, "linear", 0.5, True))
    t, x = torch.tensor([0.4]), torch.linspace(0, 1, 33)[:-1].sin()[None, None]
    fine = torch.linspace(0, 1, 129)[:-1].sin()[None, None]
    placed = network.placed(((0.0, 1 / 128),))
    assert torch.equal(placed(fine, t), network(fine, t))
    assert (network(fine, t)[..., ::4] - network(x, t)).norm() < 0.1 * network(x, t).norm()
    shifted = network.placed(((0.5, 1 / 128),))
    assert (shifted(fine, t) - network(fine, t)).norm() > 0.1 * network(fine, t).norm()
    assert network.places is None  # the other's places are its own


@pytest.mark.parametrize(
    "build",
    [
        lambda: UNet(1, 4),
        lambda: UNet(0, 2),
        lambda: UNet(1, 2, ()),
        lambda: FNO(1, 0),
        lambda: FNO(1, 1, coordinates="polar"),
        lambda: FNO(1, 1, padding=-0.1),
        lambda: FNO(1, 1, coordinates="none", gates=True),
        lambda: UNet(1, 1, (8, 8, 8))(torch.zeros(1, 1, 3), torch.zeros(1)),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(build):
    with pytest.raises(InfieldError) as error:
        build()
    assert "\n" not in str(error.value)
    assert "found" in str(error.value)


def test_a_field_smaller_than_half_a_coarsest_cell_is_refused():
    net = UNet(1, 2, (4, 4, 4), unshuffle=False)
    assert net(torch.zeros(1, 1, 2, 4), torch.zeros(1)).shape == (1, 1, 2, 4)
    with pytest.raises(InfieldError, match="a field of 4 x 1 points, too small for coarsest cells of 4 points"):
        net(torch.zeros(1, 1, 4, 1), torch.zeros(1))


@pytest.mark.parametrize(("space", "modes"), [((16, 10), 3), ((5, 4), 3), ((4, 7), 3), ((6, 6, 9), 4)])
def test_coefficients_below_the_cut_are_kept_each_with_the_weight_of_its_wavenumber(space, modes):
    layer = _SpectralConvolution(1, modes, len(space))
    there, here = layer._kept(torch.Size(space), torch.device("cpu"))
    for axis, n in enumerate(space):
        m = min(modes, (n + 1) // 2)  # below the Nyquist frequency
        last = axis == len(space) - 1
        k = torch.fft.fftfreq(n, 1 / n).long()[there[2 + axis].flatten()].tolist()
        assert sorted(k) == list(range(0 if last else 1 - m, m))
        width = modes if last else 2 * modes - 1
        assert [wave % width for wave in k] == here[2 + axis].flatten().tolist()
