"""What `infield bench pet-longitudinal` compares: regressors with laws of their residuals, and bridges."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, TensorDataset

from infield.core._lightning import LightningDataModule, ModelCheckpoint, Trainer, seed_everything
from infield.datasets.pet.amyloid_law import AmyloidLaw
from infield.datasets.pet.brain_regions import NAMES
from infield.priors.bridges.region_bridge import ENTRY, KIND, RegionBridge, to_entry
from infield.priors.bridges.regions import RegionContext
from infield.priors.bridges.training import BridgeMatching
from infield.priors.networks.mlp import Perceptron
from infield.priors.storage.checkpoint import load_checkpoint
from infield.priors.training.flow_matching import AveragedWeights

YEARS = (0.5, 5.0)
PAIRS, BATCH = 120_000, 256

CLOCK = (0.5, 2e4, 24)
PLAIN = 120
"""Plain steps over the same range of tau."""

BROWNIAN_S = 1.0
"""Its noise is near that of counts, whose variance is the SUVR, 1 to 2."""


class LawPairs(LightningDataModule):
    """Pairs of the law of regional amyloid, as measured.

    Arguments:
        law: The law.
        steps: Batches in all.
        seed: Of the subjects.
    """

    regions = NAMES
    units = "SUVR"
    synthetic = True

    def __init__(self, law: AmyloidLaw, steps: int, seed: int) -> None:
        super().__init__()
        generator = Generator().manual_seed(seed)
        n = min(PAIRS, BATCH * steps)
        years = YEARS[0] + (YEARS[1] - YEARS[0]) * torch.rand(n, generator=generator, dtype=torch.float64)
        x_b, x_f, _ = law.pairs(n, years, generator)
        self.pairs = TensorDataset(x_b.float(), x_f.float(), years.float())
        self.seed = seed
        self.provenance: dict[str, Any] = {"data": "the law of regional amyloid", "subjects": n}

    def examples(self) -> tuple[Tensor, Tensor, Tensor]:
        x_b, x_f, years = (values[:20_000] for values in self.pairs.tensors)
        return x_b, x_f, years

    def train_dataloader(self) -> DataLoader[Any]:
        order = torch.utils.data.RandomSampler(self.pairs, generator=Generator().manual_seed(self.seed))
        batches = torch.utils.data.BatchSampler(order, BATCH, drop_last=True)
        return DataLoader(_Batches(self.pairs), sampler=batches, batch_size=None)


class _Batches(torch.utils.data.Dataset[Any]):
    """Whole batches by lists of indices: a pair at a time would take longer than the training."""

    def __init__(self, pairs: TensorDataset) -> None:
        self.pairs = pairs

    def __getitem__(self, indices: list[int]) -> Any:
        return [values[indices] for values in self.pairs.tensors]


class GaussianMatching(BridgeMatching):
    """A regression with a variance for each mode of the Gaussian model, by the likelihood: two heads."""

    def loss(self, batch: list[Tensor], number: int, epoch: int) -> Tensor:
        x_b, x_f, years = (values.float() for values in batch)
        context, zero = RegionContext(x_b, years), torch.zeros(len(x_b))
        m, towards, left, found = self.denoiser.parts(torch.zeros_like(x_b), zero, context)
        wanted = (self.denoiser.change.to_modes(x_f - m) - towards) / left
        log_sd = found[:, 1].clamp(-6, 6)
        return (((found[:, 0] - wanted) / log_sd.exp()).square() / 2 + log_sd).mean()


def train(law: AmyloidLaw, steps: int, seed: int, **options: Any) -> RegionBridge:
    """What `infield fit` does to a bridge, or, with `regression_fraction` 1, to a regression; averaged weights."""
    seed_everything(seed, verbose=False)
    kind = options.pop("kind", BridgeMatching)
    network = Perceptron(2, (len(NAMES),), width=192, depth=3, inputs=2, times=2)
    module = kind(network, clock=CLOCK, seed=seed, **options)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_steps=steps,
            accelerator="cpu",
            logger=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            gradient_clip_val=1.0,
            default_root_dir=folder,
            callbacks=[
                ModelCheckpoint(folder, filename="last", every_n_epochs=1, save_top_k=1, enable_version_counter=False),
                AveragedWeights(0.998),
            ],
        )
        trainer.fit(module, datamodule=LawPairs(law, steps, seed))
        bridge: RegionBridge = load_checkpoint(next(Path(folder).glob("last*.ckpt")), "bridge")
        return bridge


def trained(law: AmyloidLaw, name: str, steps: int, seed: int, folder: Path | None, **options: Any) -> RegionBridge:
    """`train`, or what an earlier run of the same steps and seed put into a folder; records its CPU seconds."""
    path = None if folder is None else folder / f"{name}-{steps}-{seed}.ckpt"
    if path is not None and path.exists():
        stored: RegionBridge = load_checkpoint(path, KIND)
        return stored
    start = time.process_time()
    bridge = train(law, steps, seed, **options)
    bridge.provenance["cpu_seconds"] = time.process_time() - start
    if path is not None:
        part = path.with_suffix(".part")
        torch.save({ENTRY: to_entry(bridge)}, part)
        os.replace(part, path)
    return bridge


Draw = Callable[[Tensor, float, int, Generator], Tensor]
"""From baselines `(subjects, regions)`, years and a number of draws to `(subjects, draws, regions)`."""


def residual_draws(regression: RegionBridge, law: AmyloidLaw, seed: int) -> Draw:
    """The regression with one Gaussian of its residuals an interval, from 4,000 subjects that it has not seen."""

    def draw(x_b: Tensor, years: float, n: int, generator: Generator) -> Tensor:
        baseline, follow_up, _ = law.pairs(4000, years, Generator().manual_seed(seed + 77))
        left = follow_up - regression.predict(baseline.float(), years)
        root = torch.linalg.cholesky(torch.cov(left.T)).to(x_b)
        z = torch.randn((len(x_b), n, x_b.shape[1]), generator=generator, dtype=x_b.dtype)
        return regression.predict(x_b, years)[:, None] + z @ root.T

    return draw


def heteroscedastic_draws(regression: RegionBridge) -> Draw:
    """The Gaussian of `GaussianMatching`."""

    def draw(x_b: Tensor, years: float, n: int, generator: Generator) -> Tensor:
        denoiser = regression.denoiser
        context = RegionContext(x_b, torch.full((len(x_b),), years, dtype=x_b.dtype))
        with torch.no_grad():
            m, towards, left, found = denoiser.parts(torch.zeros_like(x_b), torch.zeros(len(x_b)), context)
        z = torch.randn((n, *x_b.shape), generator=generator, dtype=x_b.dtype)
        modes = towards + left * (found[:, 0] + found[:, 1].clamp(-6, 6).exp() * z)
        return (m + denoiser.change.from_modes(modes)).movedim(0, 1)

    return draw
