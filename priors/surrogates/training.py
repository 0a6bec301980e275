r"""Learning what a solver does, from pairs of a field and its solution (Kovachki et al. 2023, arXiv:2108.08481).

A map S is trained on the mean square error of the solution, and its error e = G - S (G the solver) is measured on pairs
that it has not seen. The checkpoint keeps these errors as fields, so that their law is known at whatever places a
measurement has its sensors (`posterior.models.model_error`).
"""

from __future__ import annotations

import copy
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from infield.core._lightning import LightningModule, OptimizerLRSchedulerConfig
from infield.core.errors import InfieldError
from infield.priors.base import Standardisation
from infield.priors.storage.network import network_description
from infield.priors.surrogates.learned_map import ENTRY, LearnedMap, StoredSurrogate, from_entry, to_entry
from infield.priors.training.common import adamw_with_cosine, network_weights, resumable_entry, training_record

MIN_HELD_OUT_PAIRS = 16
"""Minimum number of held-out pairs to estimate the distribution of the error."""


@runtime_checkable
class TrainingPairs(Protocol):
    """Interface of the trainer's data module; its batches are (fields, solutions), both
    `(batch, channel, *space)` in units."""

    grid_description: dict[str, Any]
    units: tuple[str, str]
    channels: tuple[tuple[str, ...], tuple[str, ...]]
    operator: dict[str, Any] | None

    def examples(self) -> tuple[Tensor, Tensor]:
        """Training pairs for mean and deviation."""
        ...

    def held_out(self, count: int) -> tuple[Tensor, Tensor]:
        """At most `count` pairs that are not trained on."""
        ...


class OperatorLearning(LightningModule):
    """Trains a network to map fields to their solutions; standardised by the training pairs at the start.

    Arguments:
        network: A `priors.networks.fno.FNO` or `priors.networks.unet.UNet`, made for the channels and axes of the data.
        residuals: Held-out pairs whose errors are kept, 16 or more.
        learning_rate: Peak learning rate of AdamW; a cosine reduces it to a hundredth over a run of known length.
        warmup: Steps of linear warm-up.
        weight_decay: Weight decay of AdamW.
    """

    def __init__(
        self,
        network: nn.Module,
        residuals: int = 256,
        learning_rate: float = 2e-3,
        warmup: int = 100,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.description = network_description(network)
        if self.description["name"] == "points":
            raise InfieldError(
                where="network of a surrogate", found="one for scattered points", expected="a fno or unet"
            )
        if residuals < MIN_HELD_OUT_PAIRS:
            raise InfieldError(
                where="surrogate", found=f"residuals {residuals}", expected=f"at least {MIN_HELD_OUT_PAIRS}"
            )
        self.network, self.residuals = network, residuals
        self.learning_rate, self.warmup, self.weight_decay = learning_rate, warmup, weight_decay

    def setup(self, stage: str) -> None:
        """Measure the training pairs, and look at those that are held out."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, TrainingPairs):
            raise InfieldError(
                where="data of a surrogate", found=type(data).__name__, expected="pairs, e.g. FieldPairs"
            )
        x, u = (fields.to(torch.float64) for fields in data.examples())
        found = (self.description["arguments"]["channels"], self.description["arguments"]["ndim"])
        for expected in ((x.shape[1], x.ndim - 2), (u.shape[1], u.ndim - 2)):
            if found != expected:
                raise InfieldError(
                    where=f"network {self.description['name']}",
                    found=f"{found[0]} channels on {found[1]} axes",
                    expected=f"{expected[0]} on {expected[1]} as the training pairs have",
                )
        space = tuple(range(2, x.ndim))
        source = Standardisation(x.mean((0, *space), keepdim=True)[0], x.std((0, *space), keepdim=True)[0])
        target = Standardisation(u.mean(0), u.std(0))
        if not (source.scale > 0).all() or not target.scale.flatten(1).any(1).all():
            raise InfieldError(
                where="training pairs", found="fields or solutions with one value only", expected="ones that vary"
            )
        self.learned = LearnedMap(self.network, source, target)
        self.scale = target.scale.square().mean(tuple(range(1, u.ndim - 1)), keepdim=True).sqrt()
        self.seen = len(x)
        self.judged = data.held_out(self.residuals)
        if len(self.judged[0]) < MIN_HELD_OUT_PAIRS:
            raise InfieldError(
                where="training pairs",
                found=f"{len(self.judged[0])} that are held out",
                expected=f"at least {MIN_HELD_OUT_PAIRS} to measure the error of a surrogate",
                remedy="raise `validation` or give more samples",
            )
        self.data: dict[str, Any] = {"grid": data.grid_description, "units": data.units, "operator": data.operator}

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("validation_loss", self.loss(batch), prog_bar=True, batch_size=len(batch[0]), sync_dist=True)

    def loss(self, batch: list[Tensor]) -> Tensor:
        """Mean square error of the solutions over their variance: 1 for a network that returns zero."""
        x, u = (fields.float() for fields in batch)
        return ((self.learned(x) - u) / self.scale.to(u)).square().mean()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        return adamw_with_cosine(self, self.learning_rate, self.weight_decay, self.warmup)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the map with its errors; the averaging callback has already swapped in the averaged weights."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(network_weights(checkpoint))
        learned = LearnedMap(network.eval(), self.learned.source, self.learned.target)
        x, u = self.judged
        with torch.no_grad():
            residuals = torch.cat([(u_i.to(x_i) - learned(x_i)).cpu() for x_i, u_i in self._judged_in_parts()])
        checkpoint[ENTRY] = to_entry(
            StoredSurrogate(
                map=learned,
                residuals=residuals.float(),
                witness=torch.stack([x[0], u[0]]).float(),
                provenance={
                    "kind": "surrogate",
                    "network": self.description["name"],
                    "examples": self.seen,
                    "error": error_of(residuals, u),
                    "training": training_record(self.trainer, checkpoint),
                },
                **self.data,
            )
        )

    def _judged_in_parts(self) -> list[tuple[Tensor, Tensor]]:
        x, u = (fields.to(self.device, torch.float32).split(32) for fields in self.judged)
        return list(zip(x, u, strict=True))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the standardisation of the first run."""
        now = {"network": self.description, **self.data, "units": list(self.data["units"])}
        entry = resumable_entry(checkpoint, ENTRY, now, "that of a surrogate")
        first = from_entry(entry).map
        self.learned = LearnedMap(self.network, first.source, first.target)


def error_of(residuals: Tensor, solutions: Tensor) -> dict[str, float]:
    """Relative L2 error of held-out solutions once the mean error of the others is added: mean and worst over pairs.

    Arguments:
        residuals: Solver minus map, shape `(pairs, channel, *space)`.
        solutions: Solver, same shape.
    """
    n, residuals = len(residuals), residuals.to(torch.float64)
    error = (residuals - residuals.mean(0)) * n / (n - 1)
    relative = error.flatten(1).norm(dim=1) / solutions.to(error).flatten(1).norm(dim=1)
    return {"relative_l2": float(relative.mean()), "relative_l2_worst": float(relative.max()), "pairs": float(n)}
