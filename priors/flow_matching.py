"""Flow matching (Lipman et al. 2023, arXiv:2210.02747; in function space: Kerrigan et al. 2024, arXiv:2305.17209).

    x_t = t x_1 + (1 - t) x_0,   x_0 ~ N(0, C_0) independent of x_1,   target  x_1 - x_0,   t ~ U[0, 1].

The loss is that of `priors.flow.Parametrisation`, in coordinates whitened by the source, or with `skip: scalar` that of
`priors.field_space.FieldParametrisation`, in field space.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Generator, Tensor, nn

from infield import InfieldError, import_torchvision_first
from infield.priors.checkpoint import ENTRY, from_entry, network_description, to_entry
from infield.priors.covariance import Covariance, from_draws
from infield.priors.field_space import FieldParametrisation
from infield.priors.flow import FlowPrior, Parametrisation, Skip
from infield.priors.modes import Hartley
from infield.priors.prior import Standardisation
from infield.priors.regrid import OnPoints
from infield.priors.regrid import source_on as source_on
from infield.priors.source import Lattice, law_from_spec
from infield.priors.training import adamw_with_cosine, training_record

import_torchvision_first()
from lightning.pytorch import LightningModule  # noqa: E402
from lightning.pytorch.callbacks import WeightAveraging  # noqa: E402
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig  # noqa: E402

_VALIDATION = 2**31
"""Stands for the epoch in the random numbers of validation, which are the same in every epoch."""


@runtime_checkable
class TrainingFields(Protocol):
    """What training asks of the trainer's data module; its batches are fields `(batch, channel, *space)` in units."""

    grid: Lattice
    grid_description: dict[str, Any]
    units: str
    channels: tuple[str, ...]

    def examples(self) -> Tensor:
        """Training fields in units for mean and covariance, shape `(examples, channel, *space)`."""
        ...


class FlowMatching(LightningModule):
    """Trains the network of a `FlowPrior`; standardisation and covariance come from the training fields at the start.

    Arguments:
        network: A `priors.unet.UNet`, `priors.fno.FNO` or `priors.point_network.PointNetwork`, made for the channels
            and axes of the data.
        source: Law of the source by name, e.g. `{law: matern, nu: 0.5, length: 0.05}`, length in the units of the grid.
        rank: Factors of the stored covariance.
        skip: `gaussian`: the network adds to the closed-form velocity of the Gaussian with the data's spectrum; `none`:
            it learns the whole velocity, of fields whitened by the source; `scalar`: it learns the whole velocity in
            field space, and the prior can be taken to other grids.
        emphasis: Of small scales in the loss, from 0 to 1, with `skip: scalar` (see `priors.field_space`); the other
            losses are in whitened coordinates, in which all scales count alike.
        learning_rate: Of AdamW, at its peak; it falls to a hundredth by a cosine over a run of known length.
        warmup: Steps of linear warm-up.
        weight_decay: Of AdamW.
        seed: Of the random numbers of the path. They derive from seed, epoch and batch, so that a run that was stopped
            between epochs and goes on is the same as one that never stopped.
    """

    prior: FlowPrior

    def __init__(
        self,
        network: nn.Module,
        source: dict[str, Any] | None = None,
        rank: int = 64,
        skip: Skip = "gaussian",
        emphasis: float = 0.0,
        learning_rate: float = 1e-3,
        warmup: int = 100,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.description = network_description(network)
        self.source = dict(source or {"law": "white"})
        self.law = law_from_spec(self.source)
        if not 0 <= emphasis <= 1 or (emphasis and skip != "scalar"):
            raise InfieldError(
                f"flow: found emphasis {emphasis} with `skip: {skip}`, expected 0 to 1, and above 0 only with "
                "`skip: scalar`"
            )
        self.network, self.rank, self.skip, self.seed, self.emphasis = network, rank, skip, seed, emphasis
        self.learning_rate, self.warmup, self.weight_decay = learning_rate, warmup, weight_decay

    def setup(self, stage: str) -> None:
        """Measure the training fields: standardisation, mean, covariance in the modes of the source."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self._check(data)
        fields = data.examples().to(torch.float64)
        space = tuple(range(2, fields.ndim))
        shift = fields.mean((0, *space)).reshape(-1, *[1] * len(space))
        scale = fields.std((0, *space)).reshape(shift.shape)
        if not (scale > 0).all():
            flat = [name for name, s in zip(data.channels, scale.flatten().tolist(), strict=True) if not s > 0]
            raise InfieldError(
                f"training fields: channel {', '.join(flat)}: found one value only, expected fields that vary"
            )
        standardisation = Standardisation(shift, scale)
        x = standardisation.from_units(fields)
        source = source_on(self.law, data.grid, len(data.channels))
        if isinstance(self.network, OnPoints):
            self.network = self.network.on(data.grid.points())
        name = self.description["name"]
        self.prior = FlowPrior(
            name=f"flow, {name}, from {self.law}",
            network=self.network,
            source=source,
            covariance=covariance_of(x, source, self.rank),
            mean=x.mean(0),
            standardisation=standardisation,
            skip=self.skip,
            grid_description=data.grid_description,
            units=data.units,
            channels=data.channels,
            provenance={"kind": "flow", "network": name, "source": self.source, "seed": self.seed, "examples": len(x)}
            | ({"emphasis": self.emphasis} if self.emphasis else {}),
        )

    def _check(self, data: Any) -> None:
        if not isinstance(data, TrainingFields):
            raise InfieldError(
                f"data of a flow: found {type(data).__name__}, expected a data module with grid, units, channels and "
                "examples"
            )
        found = (self.description["arguments"]["channels"], self.description["arguments"]["ndim"])
        expected = (len(data.channels), data.grid.ndim)
        if found != expected:
            raise InfieldError(
                f"network {self.description['name']}: found {found[0]} channels on {found[1]} axes, expected "
                f"{expected[0]} on {expected[1]} as the training fields have"
            )

    def on_fit_start(self) -> None:
        self._working = self._in_single_precision()

    def on_validation_start(self) -> None:
        self._working = self._in_single_precision()

    def _in_single_precision(self) -> Parametrisation | FieldParametrisation:
        parametrisation = self.prior.parametrisation.to(self.device, torch.float32)
        if isinstance(parametrisation, FieldParametrisation):
            return replace(parametrisation, emphasis=self.emphasis)
        return parametrisation

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.loss(batch, self._generator(self.current_epoch, batch_idx))
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        loss = self.loss(batch, self._generator(_VALIDATION, batch_idx))
        self.log("validation_loss", loss, prog_bar=True, batch_size=len(batch), sync_dist=True)

    def loss(self, fields: Tensor, generator: Generator) -> Tensor:
        """Mean loss of fields `(batch, channel, *space)` in units, with random numbers of a CPU generator."""
        x_1 = self.prior.standardisation.from_units(fields).float()
        n = len(x_1)
        # One time in each of n equal intervals: uniform, with less noise than n independent times.
        t = (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator)) / n
        white = torch.randn(x_1.shape, generator=generator)
        return self._working.field_loss(self.network, x_1, white.to(x_1), t.to(x_1)).mean()

    def _generator(self, epoch: int, batch: int) -> Generator:
        seeds = np.random.SeedSequence((self.seed, epoch, batch, self.global_rank))
        return Generator().manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        return adamw_with_cosine(self, self.learning_rate, self.weight_decay, self.warmup)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the prior. The callback that averages has already put its weights in place of the current ones."""
        prefix = "network."
        weights = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
        training = training_record(self.trainer, checkpoint)
        prior = replace(self.prior, provenance={**self.prior.provenance, "training": training})
        checkpoint[ENTRY] = to_entry(prior, weights)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the standardisation and covariance of the first run."""
        entry = checkpoint.get(ENTRY)
        if entry is None:
            raise InfieldError(
                f"checkpoint to go on from: '{ENTRY}': found no such entry, expected one of `infield fit`"
            )
        now = to_entry(self.prior, {})
        for key in ("network", "skip", "grid", "units", "channels"):
            if entry[key] != now[key]:
                raise InfieldError(
                    f"checkpoint to go on from: '{ENTRY}.{key}': found {_short(entry[key])}, expected "
                    f"{_short(now[key])} as this run has; use the run's own configuration, or start afresh in another "
                    "directory"
                )
        self.prior = from_entry(entry, self.network)


class AveragedWeights(WeightAveraging):
    """Exponential moving average of the weights; a validation and a prior's file use it.

    The decay grows as (1 + n) / (10 + n) to its final value, so that a short run does not keep the first weights.

    Arguments:
        decay: Final decay, in [0, 1).
    """

    def __init__(self, decay: float = 0.998) -> None:
        def average(averaged: Tensor, current: Tensor, n: Tensor | int) -> Tensor:
            return averaged + (1 - min(decay, (1 + int(n)) / (10 + int(n)))) * (current - averaged)

        super().__init__(avg_fn=average)


def _short(value: Any, length: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."


def covariance_of(x: Tensor, source: Covariance, rank: int) -> Covariance:
    """Covariance of standardised fields in the source's modes: leading directions, and what they leave of each mode.

    In Fourier modes what they leave is averaged over k and -k, as a stationary measure has it.

    Arguments:
        x: Fields, shape `(examples, channel, *space)`.
        source: The source; its modes are used.
        rank: Leading directions to keep, at most what the examples support.
    """
    estimate = from_draws(source.modes, x, rank=min(rank, len(x) - 2, x[0].numel()))
    if not isinstance(source.modes, Hartley):
        return estimate
    space = tuple(range(1, x.ndim - 1))
    opposite = estimate.diagonal.flip(space).roll([1] * len(space), space)
    return replace(estimate, diagonal=(estimate.diagonal + opposite) / 2)
