"""Common parts of trainings: random numbers, learning-rate schedule, weights, and the record of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from infield.core._lightning import LightningModule, OptimizerLRSchedulerConfig, Trainer
from infield.core.errors import InfieldError
from infield.core.version import __version__

VALIDATION = 2**31
"""Replaces the epoch in the random numbers of validation, which are the same in every epoch."""


def batch_generator(seed: int, epoch: int, batch: int, rank: int) -> Generator:
    """Return the generator of a batch, on the CPU, seeded by these numbers alone, so that a resumed run is the same.

    Arguments:
        seed: Seed of the training.
        epoch: Index of the epoch, or `VALIDATION`.
        batch: Index of the batch in the epoch.
        rank: Rank of the process.
    """
    state = np.random.SeedSequence((seed, epoch, batch, rank)).generate_state(1, np.uint64)[0]
    return Generator().manual_seed(int(state >> 1))


def standard_normal(shape: torch.Size, like: Tensor, generator: Generator) -> Tensor:
    """Standard normal numbers of a tensor's type, where it is: on an accelerator by a generator there, which the CPU's
    seeds, because to draw them on the CPU would take longer than a step of training; so they differ between devices.

    Arguments:
        shape: Shape of the result.
        like: The tensor.
        generator: On the CPU.
    """
    if like.device.type == "cpu":
        return torch.randn(shape, generator=generator).to(like)
    there = Generator(like.device).manual_seed(int(torch.randint(2**63 - 1, (), generator=generator)))
    return torch.randn(shape, generator=there, device=like.device).to(like)


def network_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights of a module's `network` in a checkpoint of Lightning's, by their names in the network."""
    prefix = "network."
    return {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}


def adamw_with_cosine(
    module: LightningModule, learning_rate: float, weight_decay: float, warmup: int
) -> OptimizerLRSchedulerConfig:
    """AdamW with a linear warm-up, then a cosine down to a hundredth over a run of known length.

    Arguments:
        module: Whose parameters are trained.
        learning_rate: At its peak.
        weight_decay: Weight decay of AdamW.
        warmup: Steps of the warm-up.
    """
    optimizer = torch.optim.AdamW(module.parameters(), learning_rate, weight_decay=weight_decay)
    total = module.trainer.estimated_stepping_batches
    if total < 1:
        raise InfieldError(
            where="training", found="no step", expected="at least one", remedy="look at the trainer's limits"
        )

    def factor(step: int) -> float:
        progress = min(step / total, 1.0)
        return min(1.0, (step + 1) / (warmup + 1)) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def resumable_entry(
    checkpoint: Mapping[str, Any], name: str, now: Mapping[str, Any], expected: str
) -> Mapping[str, Any]:
    """Return the entry of a checkpoint from which a run is resumed.

    Arguments:
        checkpoint: Checkpoint of Lightning.
        name: Key of the entry.
        now: Values of this run for the parts of the entry that must not have changed.
        expected: Text of the message if there is no such entry.

    Raises:
        InfieldError: There is no such entry, or a part differs.
    """
    entry = checkpoint.get(name)
    if entry is None:
        raise InfieldError(where=f"checkpoint to resume from: '{name}'", found="no such entry", expected=expected)
    for key, value in now.items():
        if entry[key] != value:
            raise InfieldError(
                where=f"checkpoint to resume from: '{name}.{key}'",
                found=f"{entry[key]!r:.120}",
                expected=f"{value!r:.120} as this run has",
                remedy="use the run's own configuration, or start afresh in another directory",
            )
    return entry


def training_record(trainer: Trainer, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of the run that wrote a checkpoint, in JSON types."""
    record: dict[str, Any] = {
        "steps": trainer.global_step,
        "epochs": trainer.current_epoch,
        "precision": str(trainer.precision),
        "averaged": "averaging_state" in checkpoint,
        "infield": __version__,
        "torch": str(torch.__version__),
    }
    for name in ("loss", "validation_loss"):
        if name in trainer.callback_metrics:
            record[name] = float(trainer.callback_metrics[name])
    return record
