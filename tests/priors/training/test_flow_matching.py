from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from infield import InfieldError
from infield.core._lightning import LightningDataModule, Trainer
from infield.core.grid import Grid
from infield.priors.base import FlowPrior, Standardisation, sample
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley
from infield.priors.flows.flow import LearnedFlow, Parametrisation
from infield.priors.gaussian.kernels import Matern, White
from infield.priors.gaussian.prior import GaussianPrior
from infield.priors.networks.fno import FNO
from infield.priors.networks.unet import UNet
from infield.priors.training.flow_matching import (
    AveragedWeights,
    FlowMatching,
    TrainingFields,
    covariance_of,
    source_on,
)

RING = Grid.regular((32,), periodic=True)


class Fields(LightningDataModule):
    """Training fields in memory."""

    def __init__(self, fields: Tensor, grid: Grid) -> None:
        super().__init__()
        self.fields, self.grid, self.grid_description = fields, grid, grid.to_json()
        self.units, self.channels = "K", tuple(f"c{i}" for i in range(fields.shape[1]))

    def examples(self) -> Tensor:
        return self.fields

    def train_dataloader(self):
        order = torch.Generator().manual_seed(0)
        return DataLoader(list(self.fields), 32, shuffle=True, drop_last=True, generator=order)


def bumps(n: int, seed: int) -> Tensor:
    """One bump at a random place of a ring, on a little noise: far from Gaussian. Shape (n, 1, 32), in units."""
    g = torch.Generator().manual_seed(seed)
    place = torch.rand((n, 1, 1), generator=g)
    s = torch.arange(32) / 32
    return 280 + 5 * (1.5 * (2 * math.pi * (s - place)).cos()).exp() + 0.3 * torch.randn((n, 1, 32), generator=g)


def tiny(**settings) -> FlowMatching:
    torch.manual_seed(0)
    network = FNO(1, 1, 8, 16, 2, "none")
    return FlowMatching(network, **{"source": {"law": "matern", "nu": 0.5, "length": 0.1}, "warmup": 20, **settings})


def fit(module: FlowMatching, fields: Tensor, steps: int, grid: Grid = RING, **settings) -> FlowMatching:
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    trainer = Trainer(accelerator="cpu", max_steps=steps, max_epochs=-1, gradient_clip_val=1.0, **quiet, **settings)
    trainer.fit(module, datamodule=Fields(fields, grid))
    return module


@torch.no_grad()
def held_out_loss(module: FlowMatching, fields: Tensor) -> float:
    """The loss by the convention of the suite, whatever the module was trained with; 1 for the Gaussian alone."""
    module.on_validation_start()
    return float(FlowMatching.loss(module, fields, torch.Generator().manual_seed(1)))


def prior_of(
    network: nn.Module, source: Covariance, covariance: Covariance, mean: Tensor, skip="gaussian"
) -> LearnedFlow:
    return LearnedFlow(
        name="test",
        network=network,
        source=source,
        covariance=covariance,
        mean=mean,
        standardisation=Standardisation.identity(covariance.event_shape),
        skip=skip,
        grid_description={},
        units="1",
        channels=tuple("c" for _ in mean),
        provenance={},
    )


CASES = [
    (White(), RING, 1),
    (Matern(0.5, 0.1), RING, 2),
    (Matern(0.5, 0.2), Grid.regular((24,)), 1),
    (Matern(1.5, 0.1), Grid.regular((9, 12), periodic=True), 1),
]


@pytest.mark.parametrize(("law", "grid", "channels"), CASES)
@pytest.mark.parametrize("t", [0.0, 0.3, 0.99])
def test_untrained_prior_is_the_gaussian_with_its_spectrum(law, grid, channels, t):
    g = torch.Generator().manual_seed(0)
    source = source_on(law, grid, channels)
    covariance = Covariance.diagonal_in(source.modes, torch.rand(source.event_shape, generator=g).double() + 0.01)
    mean = torch.randn(source.event_shape, generator=g).double()
    network = FNO(channels, grid.ndim, 4, 8, 1)
    exact = GaussianPrior(
        name="exact",
        source=source,
        covariance=covariance,
        mean=mean,
        standardisation=Standardisation.identity(source.event_shape),
        provenance={},
    )
    x = 3 * torch.randn((5, *source.event_shape), generator=g).double()
    expected = exact.velocity(x, t)

    def error(prior: LearnedFlow) -> float:
        return float((prior.velocity(x, t) - expected).norm() / expected.norm())

    prior = prior_of(network, source, covariance, mean)
    assert isinstance(prior, FlowPrior)
    assert error(prior) < 1e-11
    assert error(prior_of(network, source, covariance, mean, skip="none")) > 0.05
    assert error(prior_of(network, source, covariance, 0 * mean)) > 0.01 or t == 0.99


def test_every_field_of_a_batch_may_have_its_own_time():
    torch.manual_seed(0)
    network = FNO(1, 1, 4, 8, 1).double()
    nn.init.normal_(network.head.weight)
    source = Matern(0.5, 0.1).covariance(RING)
    p = Parametrisation(source, Matern(1.5, 0.2).covariance(RING).diagonal, torch.zeros(1, 32).double())
    single = lambda x, t: network(x.double(), t.double())  # noqa: E731
    u, t = torch.randn(4, 1, 32).double(), torch.tensor([0.0, 0.2, 0.7, 1.0]).double()
    alone = torch.cat([p.velocity(single, u[i : i + 1], t[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(p.velocity(single, u, t), alone, rtol=1e-9, atol=1e-9)


def test_loss_of_the_gaussian_alone_is_one_on_gaussian_data_and_remains_so_after_training():
    truth = Matern(2.5, 0.2).covariance(RING)
    g = torch.Generator().manual_seed(3)
    module = fit(tiny(), 10 + 2 * truth.sample(3000, g).float(), 120)
    fresh = 10 + 2 * truth.sample(3000, g).float()
    assert held_out_loss(module, fresh) == pytest.approx(1, abs=0.03)
    x, t = module.prior.standardisation.from_units(fresh[:200].double()), 0.5
    x_t = t * x + (1 - t) * module.prior.source.sample(200, g)
    skip = module.prior.velocity(x_t, t)
    nn.init.zeros_(module.network.head.weight)
    nn.init.zeros_(module.network.head.bias)
    gaussian = module.prior.velocity(x_t, t)
    assert (skip - gaussian).norm() < 0.1 * gaussian.norm()


class BackwardTime(FlowMatching):
    """The other convention: data at t = 0."""

    def loss(self, fields, generator):
        u_1 = self._working.whiten(self.prior.standardisation.from_units(fields).float())
        t, u_0 = torch.rand(len(u_1), generator=generator), torch.randn(u_1.shape, generator=generator)
        return self._working.loss(self.network, u_0, u_1, t).mean()


def scrambled(fields: Tensor) -> Tensor:
    """Fields with the same spectrum whose modes come from different examples: nearly Gaussian."""
    c = Hartley(1).analyse(fields)
    g = torch.Generator().manual_seed(5)
    mixed = torch.stack([c[torch.randperm(len(c), generator=g), :, k] for k in range(c.shape[-1])], dim=-1)
    return Hartley(1).synthesise(mixed)


def peak_spread(prior: LearnedFlow) -> float:
    return float(sample(prior, 400, torch.Generator().manual_seed(2), steps=32).amax(-1).std())


def test_training_learns_what_a_gaussian_does_not_know():
    settings = {"source": {"law": "white"}, "learning_rate": 4e-3}
    fresh = bumps(1000, 1)
    module = fit(tiny(**settings), bumps(2000, 0), 400, callbacks=[AveragedWeights(0.98)])
    assert held_out_loss(module, fresh) < 0.7
    assert peak_spread(module.prior) < 1.5  # every bump is 22.4 K high, give or take 0.3
    nn.init.zeros_(module.network.head.weight)
    nn.init.zeros_(module.network.head.bias)
    assert held_out_loss(module, fresh) == pytest.approx(1, abs=0.03)
    assert peak_spread(module.prior) > 3

    assert held_out_loss(fit(tiny(**settings), scrambled(bumps(2000, 0)), 200), fresh) > 0.95
    backward = tiny(**settings)
    backward.__class__ = BackwardTime
    assert held_out_loss(fit(backward, bumps(2000, 0), 200), fresh) > 1.5


@pytest.mark.slow
def test_training_in_field_space_learns_what_a_gaussian_does_not_know():
    settings = {"source": {"law": "matern", "nu": 0.5, "length": 0.2}, "skip": "scalar", "learning_rate": 4e-3}
    module = fit(tiny(**settings), bumps(2000, 0), 200, callbacks=[AveragedWeights(0.98)])
    assert peak_spread(module.prior) < 2.3
    nn.init.zeros_(module.network.head.weight)
    nn.init.zeros_(module.network.head.bias)
    assert held_out_loss(module, bumps(1000, 1)) == pytest.approx(1, abs=0.05)
    assert peak_spread(module.prior) > 3


def test_standardisation_and_covariance_are_those_of_the_fields():
    module = fit(tiny(rank=4), fields := bumps(2000, 0), 1)
    prior = module.prior
    x = prior.standardisation.from_units(fields.double())
    assert float(x.mean()) == pytest.approx(0, abs=1e-6) and float(x.std()) == pytest.approx(1, abs=1e-6)
    assert prior.covariance.rank == 4
    assert prior.covariance.trace == pytest.approx(float((x - x.mean(0)).square().sum() / (len(x) - 1)), rel=1e-3)
    d = prior.covariance.diagonal[0]
    torch.testing.assert_close(d[1:], d[1:].flip(0))
    assert isinstance(Fields(fields, RING), TrainingFields)


def test_covariance_keeps_what_the_examples_support():
    source, few = source_on(White(), RING, 1), bumps(20, 0).double()
    assert covariance_of(few, source, 64).rank == 18
    assert covariance_of(bumps(200, 0).double(), source, 64).rank == 32


def test_reduced_precision_keeps_loss_and_transforms_in_single():
    grid = Grid.regular((10, 12), periodic=True)
    fields = Matern(1.5, 0.2).covariance(grid).sample(64, torch.Generator().manual_seed(0)).float()
    seen = []

    class Watching(FlowMatching):
        def loss(self, fields, generator):
            loss = super().loss(fields, generator)
            with torch.no_grad():
                seen.append((loss.dtype, self.network.stem(torch.zeros(1, 4, 5, 6)).dtype))
            return loss

    torch.manual_seed(0)
    module = Watching(UNet(1, 2, (8, 8)), {"law": "matern", "nu": 0.5, "length": 0.1})
    fit(module, fields, 3, grid, precision="bf16-mixed")
    assert seen == [(torch.float32, torch.bfloat16)] * 3
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in module.parameters())


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: FlowMatching(nn.Linear(1, 1)), "expected one of fno, unet"),
        (lambda: tiny(source={"law": "brown"}), "one of white, matern"),
        (lambda: fit(tiny(skip="wide"), bumps(64, 0), 1), "expected one of gaussian, none"),
        (lambda: fit(tiny(), bumps(64, 0).expand(-1, 2, -1), 1), "expected 2 on 1"),
        (lambda: fit(tiny(), torch.ones(64, 1, 32), 1), "expected fields that vary"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(build, words):
    with pytest.raises(InfieldError, match=words) as error:
        build()
    assert "\n" not in str(error.value)
