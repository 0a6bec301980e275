"""Flow matching (Lipman et al. 2023, arXiv:2210.02747; in function space: Kerrigan et al. 2024, arXiv:2305.17209).

    x_t = t x_1 + (1 - t) x_0,   x_0 ~ N(0, C_0) independent of x_1,   target  x_1 - x_0,   t ~ U[0, 1].

The loss is that of `priors.flows.flow.Parametrisation`, in coordinates whitened by the source, or with `skip: scalar`
that of `priors.flows.field_space.FieldParametrisation`, in field space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn

from infield.core._lightning import LightningModule, OptimizerLRSchedulerConfig, Trainer, WeightAveraging
from infield.core.errors import InfieldError
from infield.core.grid import Grid, GridLike
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance, from_draws
from infield.priors.covariance.modes import Hartley
from infield.priors.flows.field_space import FieldParametrisation
from infield.priors.flows.flow import LearnedFlow, Parametrisation, Skip
from infield.priors.flows.regrid import SupportsPoints
from infield.priors.flows.regrid import source_on as source_on
from infield.priors.gaussian.kernels import law_from_spec
from infield.priors.gaussian.spectral_density import SpectralDensity
from infield.priors.networks.patched import Patched
from infield.priors.storage.checkpoint import load_flow_prior
from infield.priors.storage.flow_entry import ENTRY, from_entry, to_entry
from infield.priors.storage.network import network_description
from infield.priors.training.common import (
    VALIDATION,
    adamw_with_cosine,
    batch_generator,
    network_weights,
    resumable_entry,
    standard_normal,
    training_record,
)


@runtime_checkable
class TrainingFields(Protocol):
    """Interface of the trainer's data module; its batches are fields `(batch, channel, *space)` in units."""

    grid: GridLike
    grid_description: dict[str, Any]
    units: str
    channels: tuple[str, ...]

    def examples(self) -> Tensor:
        """Training fields in units for mean and covariance, shape `(examples, channel, *space)`."""
        ...


class FlowMatching(LightningModule):
    """Trains the network of a `LearnedFlow`; standardisation and covariance come from the training fields at the start.

    Arguments:
        network: A `priors.networks.unet.UNet`, `priors.networks.fno.FNO` or
            `priors.networks.point_network.PointNetwork`, made for the channels and axes of the data; or one of the
            first two in a `priors.networks.patched.Patched`, for domains of any size. May be left out where `initial`
            has it.
        source: Law of the source by name, e.g. `{law: matern, nu: 0.5, length: 0.05}`, length in the units of the grid.
        rank: Factors of the stored covariance; 0 for a patched network, whose law is the same everywhere.
        skip: `gaussian`: the network adds to the closed-form velocity of the Gaussian with the data's spectrum; `none`:
            it learns the whole velocity, of fields whitened by the source; `scalar`: it learns the whole velocity in
            field space, and the prior can be taken to other grids.
        emphasis: Weight of small scales in the loss, from 0 to 1, with `skip: scalar` (see `priors.flows.field_space`);
            the other losses are in whitened coordinates, in which all scales have the same weight.
        learning_rate: Peak learning rate of AdamW; a cosine reduces it to a hundredth over a run of known length.
        warmup: Steps of linear warm-up.
        weight_decay: Of AdamW.
        seed: Of the random numbers of the path. They derive from seed, epoch and batch, so that a run that was stopped
            between epochs and is resumed equals one that never stopped.
        initial: A prior's checkpoint whose weights the training starts from (fine-tuning). Standardisation, mean and
            covariance are those of the new fields; a lower learning rate than from scratch suffices.
    """

    prior: LearnedFlow
    network: nn.Module

    def __init__(
        self,
        network: nn.Module | None = None,
        source: dict[str, Any] | None = None,
        rank: int = 64,
        skip: Skip = "gaussian",
        emphasis: float = 0.0,
        learning_rate: float = 1e-3,
        warmup: int = 100,
        weight_decay: float = 0.0,
        seed: int = 0,
        initial: str | None = None,
    ) -> None:
        super().__init__()
        start, self.initial = _start(network, initial)
        self.description = network_description(start)
        self.source = dict(source or {"law": "white"})
        self.law = law_from_spec(self.source)
        if not 0 <= emphasis <= 1 or (emphasis and skip != "scalar"):
            raise InfieldError(
                where="flow",
                found=f"emphasis {emphasis} with `skip: {skip}`",
                expected="0 to 1, and above 0 only with `skip: scalar`",
            )
        self.network, self.rank, self.skip, self.seed, self.emphasis = start, rank, skip, seed, emphasis
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
                where=f"training fields: channel {', '.join(flat)}", found="one value only", expected="fields that vary"
            )
        standardisation = Standardisation(shift, scale)
        x = standardisation.from_units(fields)
        source = source_on(self.law, data.grid, len(data.channels))
        name = self.description["name"]
        if isinstance(self.network, Patched):
            covariance, mean = self._stationary(self.network, x, source, data.grid)
        else:
            if isinstance(self.network, SupportsPoints):
                self.network = self.network.on(data.grid.points())
            covariance, mean = covariance_of(x, source, self.rank), x.mean(0)
        facts = {"emphasis": self.emphasis, "data": getattr(data, "facts", None), "initial": self.initial}
        self.prior = LearnedFlow(
            name=f"flow, {name}, from {self.law}",
            network=self.network,
            source=source,
            covariance=covariance,
            mean=mean,
            standardisation=standardisation,
            skip=self.skip,
            grid_description=data.grid_description,
            units=data.units,
            channels=data.channels,
            provenance={"kind": "flow", "network": name, "source": self.source, "seed": self.seed, "examples": len(x)}
            | {name: value for name, value in facts.items() if value},
        )

    def _stationary(self, network: Patched, x: Tensor, source: Covariance, grid: GridLike) -> tuple[Covariance, Tensor]:
        """Covariance and mean of a stationary distribution; sets which axes of the network are periodic."""
        periodic = grid.periodic if isinstance(grid, Grid) else ()
        if self.rank or not isinstance(source.modes, Hartley) or not periodic:
            raise InfieldError(
                where="a patched network represents one distribution for all places of a uniform grid",
                found=f"rank {self.rank} and modes {type(source.modes).__name__}",
                remedy="set `rank: 0`, and a source that is white or, where axes do not close, has `wrap: true`",
            )
        network.periodic = periodic
        mean = x.mean((0, *range(2, x.ndim))).reshape(-1, *[1] * (x.ndim - 2)).expand(x.shape[1:])
        return stationary_covariance(x, source, periodic), mean

    def _check(self, data: Any) -> None:
        if not isinstance(data, TrainingFields):
            raise InfieldError(
                where="data of a flow",
                found=type(data).__name__,
                expected="a data module with grid, units, channels and examples",
            )
        innermost = self.description
        while isinstance(innermost["arguments"].get("network"), dict):
            innermost = innermost["arguments"]["network"]
        found = (innermost["arguments"]["channels"], innermost["arguments"]["ndim"])
        expected = (len(data.channels), data.grid.ndim)
        if found != expected:
            raise InfieldError(
                where=f"network {self.description['name']}",
                found=f"{found[0]} channels on {found[1]} axes",
                expected=f"{expected[0]} on {expected[1]} as the training fields have",
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
        loss = self.loss(batch, self._generator(VALIDATION, batch_idx))
        self.log("validation_loss", loss, prog_bar=True, batch_size=len(batch), sync_dist=True)

    def loss(self, fields: Tensor, generator: Generator) -> Tensor:
        """Mean loss of fields `(batch, channel, *space)` in units, with random numbers of a CPU generator."""
        x_1 = self.prior.standardisation.from_units(fields).float()
        n = len(x_1)
        # One time in each of n equal intervals: uniform, with less noise than n independent times.
        t = (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator)) / n
        white = standard_normal(x_1.shape, x_1, generator)
        return self._working.field_loss(self.network, x_1, white, t.to(x_1)).mean()

    def _generator(self, epoch: int, batch: int) -> Generator:
        return batch_generator(self.seed, epoch, batch, self.global_rank)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        return adamw_with_cosine(self, self.learning_rate, self.weight_decay, self.warmup)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the prior; the averaging callback has already swapped in the averaged weights."""
        weights = network_weights(checkpoint)
        training = training_record(self.trainer, checkpoint)
        prior = replace(self.prior, provenance={**self.prior.provenance, "training": training})
        checkpoint[ENTRY] = to_entry(prior, weights)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the standardisation and covariance of the first run."""
        every = to_entry(self.prior, {})
        now = {key: every[key] for key in ("network", "skip", "grid", "units", "channels")}
        entry = resumable_entry(checkpoint, ENTRY, now, "one of `infield fit`")
        self.prior = from_entry(entry, self.network)


class AveragedWeights(WeightAveraging):
    """Exponential moving average of the weights; a validation and a prior's file use it.

    The decay grows as (1 + n) / (10 + n) to its final value, so that a short run does not keep the first weights.

    Arguments:
        decay: Final decay, in [0, 1).
    """

    def __init__(self, decay: float = 0.998) -> None:
        def average(averaged: list[Tensor], current: list[Tensor], n: Tensor | int) -> None:
            share, apart = 1 - min(decay, (1 + int(n)) / (10 + int(n))), torch._foreach_sub(current, averaged)
            torch._foreach_mul_(apart, share)
            torch._foreach_add_(averaged, apart)

        super().__init__(multi_avg_fn=average)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """As Lightning's, where the training will be: what is trained is moved there only later."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)


def _short(value: Any, length: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."


def _start(network: nn.Module | None, initial: str | None) -> tuple[nn.Module, dict[str, Any] | None]:
    """The network from which a training starts, and the record of where its weights come from."""
    if initial is None:
        if network is None:
            raise InfieldError(
                where="flow matching", found="neither a network nor an `initial` checkpoint", expected="one"
            )
        return network, None
    prior = load_flow_prior(initial)
    if network is not None:
        found, expected = (_of_weights(network_description(one)) for one in (prior.network, network))
        if found != expected:
            raise InfieldError(
                where=f"initial {initial}",
                found=f"the network {_short(found)}",
                expected=f"{_short(expected)} as configured",
                remedy="leave the network out to take the checkpoint's",
            )
        network.load_state_dict(prior.network.state_dict())
    record = {"name": prior.name, "sha256": prior.sha256}
    return (network or prior.network).train().requires_grad_(True), record


def _of_weights(description: dict[str, Any]) -> dict[str, Any]:
    """The part of a network's description on which its weights depend."""
    if description["name"] != "patched":
        return description
    arguments = {name: description["arguments"][name] for name in ("network", "patch")}
    return {**description, "arguments": arguments}


def stationary_covariance(x: Tensor, source: Covariance, periodic: Sequence[bool]) -> Covariance:
    """Covariance of fields whose law is the same everywhere, and mirrored in each axis: variances over |k|.

    Along axes that do not close, a Hann taper keeps the jump at the ends out of the short waves.

    Arguments:
        x: Standardised fields, shape `(examples, channel, *space)`.
        source: The source, in Fourier modes.
        periodic: Whether each axis is periodic.
    """
    taper = torch.ones((), dtype=x.dtype)
    for axis, periodic_axis in enumerate(periodic):
        n = x.shape[2 + axis]
        window = torch.ones(n, dtype=x.dtype) if periodic_axis else torch.hann_window(n, periodic=False, dtype=x.dtype)
        taper = taper[..., None] * (window / window.square().mean().sqrt())
    x_mean = x.mean((0, *range(2, x.ndim))).reshape(-1, *[1] * (x.ndim - 2))
    variance = torch.zeros(x.shape[1:], dtype=x.dtype)
    for some in x.split(max(2**22 // x[0].numel(), 1)):
        variance += source.modes.analyse(taper * (some - x_mean)).square().sum(0) / len(x)
    floor = 1e-8 * float(variance.mean())
    return Covariance.diagonal_in(source.modes, SpectralDensity(variance.clamp_min(floor)).on(x.shape[2:]))


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
