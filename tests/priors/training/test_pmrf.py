"""Training of a posterior-mean rectified flow: where its loss is stationary, what it refuses, and its file."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from examples.gaussian_rectified import GRID, NOISE, POINTS, SPREAD, ExactFlow, SeesHalf, exact_mean
from torch import Generator

from infield import InfieldError
from infield.datasets.training.operator_families import Inpainting
from infield.priors.amortised import unrolled
from infield.priors.amortised.rectified_flow import from_entry, load_rectified_flow, to_entry
from infield.priors.networks.mlp import Perceptron
from infield.priors.training import measurement_family as family_training
from infield.priors.training.pmrf import PMRF

FIELDS = torch.randn((4000, 1, POINTS), generator=Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def f(tmp_path):
    """File of the exact posterior mean."""
    torch.save({unrolled.ENTRY: unrolled.to_entry(exact_mean())}, tmp_path / "unrolled.ckpt")
    return tmp_path / "unrolled.ckpt"


@pytest.fixture
def ready(monkeypatch):
    """A training whose `setup` has been called."""
    data = SimpleNamespace(grid=GRID, grid_description={}, units="1", channels=("a",), examples=lambda: FIELDS)

    def of(network, f, family=None, noise=(NOISE, NOISE), **settings):
        described = {"name": "perceptron", "arguments": {"channels": 1}}
        if isinstance(network, ExactFlow):
            monkeypatch.setattr(family_training, "network_description", lambda network: described)
        module = PMRF(network, str(f), family or SeesHalf(), noise=noise, spread=SPREAD, operators=1, **settings)
        trainer = SimpleNamespace(datamodule=data, global_rank=0)
        monkeypatch.setattr(PMRF, "trainer", trainer, raising=False)
        module.setup("fit")
        return module

    return of


def z_of_gradient(module) -> float:
    """Of the loss, over batches, in the directions of `ExactFlow`: -2 E[(x_1 - x_0 - v) feature]."""
    gradients = []
    for batch in range(40):
        some = FIELDS[100 * batch : 100 * (batch + 1)]
        loss = module.loss(some, Generator().manual_seed(batch))
        gradients.append(torch.autograd.grad(loss, module.network.theta)[0])
    g = torch.stack(gradients)
    return float((g.mean(0) / (g.std(0) / len(g) ** 0.5)).abs().max())


def test_the_exact_velocity_is_where_the_loss_is_stationary(ready, f):
    assert z_of_gradient(ready(ExactFlow(), f)) < 4.5


def test_that_of_another_spread_is_not(ready, f):
    assert z_of_gradient(ready(ExactFlow(2 * SPREAD), f)) > 10


def test_the_estimate_is_not_trained_and_the_network_is(ready, f):
    module = ready(Perceptron(1, (POINTS,), 8, 1), f)
    module.loss(FIELDS[:64], Generator().manual_seed(0)).backward()
    assert module.network.layers[-1].weight.grad.abs().max() > 0
    assert all(p.grad is None for p in module.model.mean.network.parameters())
    assert not any("mean" in name for name in module.state_dict())


def test_file_round_trip(ready, f, tmp_path):
    module = ready(Perceptron(1, (POINTS,), 8, 1), f)
    module.network.layers[-1].weight.data.normal_(generator=Generator().manual_seed(0))
    torch.save({"infield_pmrf": to_entry(module.model)}, tmp_path / "pmrf.ckpt")
    again = load_rectified_flow(tmp_path / "pmrf.ckpt")
    x, t = FIELDS[:3].float(), torch.full((3,), 0.4)
    assert torch.equal(again.velocity(x, t), module.model.velocity(x, t))
    assert again.spread == SPREAD and len(again.sha256) == 64
    assert again.provenance["mean"] == module.model.mean.sha256
    y = FIELDS[:1]
    operator = SeesHalf().draw(GRID, 1, Generator())
    assert torch.equal(again.mean.estimate(operator, y, 0.5), module.model.mean.estimate(operator, y, 0.5))
    assert from_entry(to_entry(again)).event_shape == (1, POINTS)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"noise": (0.5, 1.5)}, "found noise of standard deviation 1.5"),
        ({"family": Inpainting((0.2, 0.5))}, "found observed 0.2, expected 0.4 to 0.6"),
        ({"network": Perceptron(1, (POINTS,), inputs=2)}, "inputs 2, times 1, expected 1, 1 and 1"),
    ],
)
def test_what_the_estimate_does_not_serve(ready, f, settings, words):
    with pytest.raises(InfieldError, match=words):
        ready(**{"network": Perceptron(1, (POINTS,), 8, 1), "f": f, **settings})


def test_no_spread_is_refused(f):
    with pytest.raises(InfieldError, match="found spread 0"):
        PMRF(Perceptron(1, (POINTS,), 8, 1), str(f), SeesHalf(), spread=0.0)
