"""Training a prior of patches on short domains, and going on from it on others."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from infield import InfieldError
from infield.core._lightning import LightningDataModule, Trainer
from infield.core.grid import Grid
from infield.priors.networks.patched import Patched
from infield.priors.networks.unet import UNet
from infield.priors.storage.checkpoint import load_flow_prior
from infield.priors.storage.flow_entry import ENTRY, to_entry
from infield.priors.training.flow_matching import FlowMatching

SHORT = Grid.regular((16, 32), (0.5, 1.0), names=("z", "x"), periodic=True)
LONG = Grid.regular((16, 128), (0.5, 4.0), names=("z", "x"), periodic=True)


class Fields(LightningDataModule):
    def __init__(self, fields: Tensor, grid: Grid) -> None:
        super().__init__()
        self.fields, self.grid, self.grid_description = fields, grid, grid.to_json()
        self.units, self.channels, self.facts = "K", ("c",), {"Re_tau": 180.0}

    def examples(self) -> Tensor:
        return self.fields

    def train_dataloader(self):
        order = torch.Generator().manual_seed(0)
        return DataLoader(list(self.fields), 32, shuffle=True, drop_last=True, generator=order)


def stripes(n: int, grid: Grid, seed: int = 0) -> Tensor:
    """White noise, strong in one third of the domain and weak in the rest: what no spectrum tells. In K."""
    g = torch.Generator().manual_seed(seed)
    nz, nx = grid.shape
    place = torch.rand((n, 1, 1, 1), generator=g)
    x = torch.arange(nx) * grid.spacing[1]  # the stripes have one width on all domains
    strong = torch.cos(2 * math.pi * (x - place)) > 0.5
    return 7 + torch.where(strong, 3.0, 0.2) * torch.randn((n, 1, nz, nx), generator=g)


def network(width: int = 16, patch: tuple[int, int] = (16, 16)) -> Patched:
    torch.manual_seed(0)
    return Patched(UNet(1, 2, (width,), 1, True, False), patch, (4, 8))


def fit(module: FlowMatching, fields: Tensor, steps: int, grid: Grid = SHORT) -> FlowMatching:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet |= {"enable_checkpointing": False}
    trainer = Trainer(accelerator="cpu", max_steps=steps, max_epochs=-1, **quiet)
    trainer.fit(module, datamodule=Fields(fields, grid))
    return module


@torch.no_grad()
def held_out_loss(module: FlowMatching, prior, fields: Tensor) -> float:
    """Loss of a prior on some domain, 1 for the Gaussian alone."""
    module.prior = prior
    module.on_validation_start()
    module.eval()
    x = prior.standardisation.from_units(fields).float()
    g = torch.Generator().manual_seed(1)
    t, white = (torch.arange(len(x)) + 0.5) / len(x), torch.randn(x.shape, generator=g)
    return float(module._working.field_loss(prior.network.eval(), x, white, t).mean())


@pytest.mark.slow
def test_what_a_short_domain_teaches_holds_on_a_longer_one(tmp_path):
    module = fit(FlowMatching(network(), rank=0, warmup=10, learning_rate=5e-3), stripes(512, SHORT), 200)
    prior = module.prior
    assert prior.provenance["data"] == {"Re_tau": 180.0} and prior.covariance.rank == 0
    assert prior.mean.unique().numel() == 1 and prior.network.periodic == (True, True)
    short = held_out_loss(module, prior, stripes(64, SHORT, 1))
    long = held_out_loss(module, prior.on(LONG), stripes(64, LONG, 1))
    assert short < 0.85 and long < 0.85 and abs(short - long) < 0.05
    gaussian = held_out_loss(
        module, prior.on(LONG), 7 + float(prior.standardisation.scale) * torch.randn(64, 1, 16, 128)
    )
    assert gaussian > 0.97  # negative control: nothing to know in white noise
    torch.save({ENTRY: to_entry(prior)}, tmp_path / "prior.ckpt")
    again = load_flow_prior(tmp_path / "prior.ckpt").on(LONG)
    x = torch.randn(1, 1, *LONG.shape).double()
    assert torch.equal(again.velocity(x, 0.5), prior.on(LONG).velocity(x, 0.5))


def test_fine_tuning_starts_from_the_weights_and_measures_the_new_fields(tmp_path):
    module = fit(FlowMatching(network(4), rank=0), stripes(64, SHORT), 3)
    path = tmp_path / "prior.ckpt"
    torch.save({ENTRY: to_entry(module.prior)}, path)
    other = 100 + 2 * stripes(64, SHORT, 5)
    for given in (None, network(4)):
        tuned = fit(FlowMatching(given, rank=0, initial=str(path), learning_rate=0.0), other, 1)
        assert not tuned.prior.network.training or tuned.network is tuned.prior.network
        for name, weight in module.network.state_dict().items():
            assert torch.equal(weight, tuned.network.state_dict()[name])
        assert tuned.prior.provenance["initial"]["sha256"] == load_flow_prior(path).sha256
        assert float(tuned.prior.standardisation.shift) == pytest.approx(float(other.mean()), rel=1e-3)
        json.dumps(tuned.prior.provenance)
    moved = fit(FlowMatching(None, rank=0, initial=str(path), warmup=0), other, 2)  # negative control: it learns
    assert not torch.equal(moved.network.inner.head.weight, module.network.inner.head.weight)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: FlowMatching(), "found neither a network nor an `initial` checkpoint"),
        (lambda path: FlowMatching(network(8), rank=0, initial=str(path)), "found the network .* as configured"),
        (lambda path: FlowMatching(network(4, (16, 24)), rank=0, initial=str(path)), "found the network"),
    ],
)
def test_what_cannot_start_is_refused(make, words, tmp_path):
    module = fit(FlowMatching(network(4), rank=0), stripes(64, SHORT), 1)
    torch.save({ENTRY: to_entry(module.prior)}, tmp_path / "prior.ckpt")
    with pytest.raises(InfieldError, match=words):
        make(tmp_path / "prior.ckpt")


def test_a_law_of_patches_has_no_factors():
    with pytest.raises(InfieldError, match=r"found rank 64 .* set `rank: 0`"):
        fit(FlowMatching(network(4)), stripes(64, SHORT), 1)
    with pytest.raises(InfieldError, match="channels"):
        fit(FlowMatching(Patched(UNet(2, 2, (4,), 1, True, False), (8, 8)), rank=0), stripes(64, SHORT), 1)
    assert isinstance(network().inner, nn.Module)
