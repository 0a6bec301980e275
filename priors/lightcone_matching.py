"""Training of a conditional flow of lightcones, by flow matching (Lipman et al. 2023, arXiv:2210.02747).

    x_t = t x_1 + (1 - t) x_0,   x_0 ~ N(0, C_0),   target x_1 - x_0,

x_1 the fields of `priors.lightcone_flow`. At t = 0 no trace of the data is left (`priors.voxel_transform` on what
amplitude compression cures by accident), and times are drawn so that small ones are not rare: there the largest
structures are decided, the mean of a cone of N voxels from t = N^(-1/2) on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from rich.progress import track
from torch import Generator, Tensor

from infield import InfieldError, import_torchvision_first
from infield.priors.checkpoint import KINDS
from infield.priors.covariance import Covariance
from infield.priors.flow_matching import stationary_covariance
from infield.priors.lightcone_flow import Profiles, network_output
from infield.priors.lightcones import LightconePrior, colour, from_entry, load_lightcone_prior, to_entry
from infield.priors.local_unet import LocalUNet
from infield.priors.modes import Hartley
from infield.priors.slice_statistics import SliceStatistics, fit_slice_statistics
from infield.priors.training import (
    VALIDATION,
    adamw_with_cosine,
    batch_generator,
    entry_to_go_on_from,
    network_weights,
    standard_normal,
    training_record,
)
from infield.priors.voxel_transform import fit_voxel_transform

import_torchvision_first()
from lightning.pytorch import LightningModule  # noqa: E402
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig  # noqa: E402

ENTRY, _ = KINDS["lightcones"]

EARLY = 0.4
"""Share of the times that are drawn uniformly in the logarithm of their odds, between `EARLIEST` and its mirror image;
the others are uniform."""

EARLIEST = 3e-3


@runtime_checkable
class TrainingCones(Protocol):
    """What training asks of the trainer's data module; its batches are windows of values, parameters, first cells."""

    temperature: Tensor
    values: Tensor
    theta: Tensor
    ranges: Mapping[str, tuple[float, float]]
    cell: float
    points: tuple[int, int]
    distance: np.ndarray
    redshift: np.ndarray
    facts: Mapping[str, Any]
    training: range
    window: int

    def apply(self, transform: Callable[[Tensor], Tensor], progress: Callable[[Iterable[Any]], Iterable[Any]]) -> None:
        """Make `values` of `temperature`."""
        ...

    def examples(self) -> tuple[Tensor, Tensor, Tensor]:
        """Windows of training cones, as a batch."""
        ...


class LightconeMatching(LightningModule):
    """Trains the network of a `LightconePrior`; transform, slice statistics and spectrum come from the training cones.

    Arguments:
        network: Made for two channels with the atom (else one), as many numbers as there are parameters, and inputs for
            the channels, their two profiles each, and the place: 7 (4).
        initial: A checkpoint whose weights, transform and statistics of slices the training starts from; a lower
            learning rate than from scratch serves.
        kind, amplitude, knee, atom, width, fill: Of the voxel transform. The paper's is `yeo-johnson`, 0.1, 0, without
            atom; `linear` without `fill` makes what a telescope measures linear in the field.
        coloured: Whether the source has the mean spectrum of the training fields; else it is white.
        emphasis: Of small scales in the loss, from 0 to 1, with a coloured source: the error of each mode is weighed by
            this power of the inverse variance that the source gives it (as in `priors.field_space`).
        statistics_steps: Of the fit of mean and spread of slices, before the training.
        learning_rate: Of AdamW, at its peak; it falls to a hundredth by a cosine over a run of known length.
        warmup: Steps of linear warm-up.
        weight_decay: Of AdamW.
        seed: Of the random numbers, which derive from seed, epoch and batch.
    """

    prior: LightconePrior

    def __init__(
        self,
        network: LocalUNet,
        initial: str | None = None,
        kind: str = "linear",
        amplitude: float = 1.0,
        knee: float = 0.0,
        atom: bool = True,
        width: float = 2.0,
        fill: bool = False,
        coloured: bool = True,
        emphasis: float = 0.5,
        statistics_steps: int = 6000,
        learning_rate: float = 1e-3,
        warmup: int = 100,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= emphasis <= 1:
            raise InfieldError(f"flow of lightcones: found emphasis {emphasis}, expected 0 to 1")
        self.coloured, self.emphasis = coloured, emphasis
        self.network, self.seed, self.statistics_steps = network, seed, statistics_steps
        self.initial = None if initial is None else load_lightcone_prior(initial)
        if self.initial is not None:
            found, expected = (one.arguments for one in (self.initial.network, network))
            if found != expected:
                raise InfieldError(f"initial {initial}: found the network {found}, expected {expected} as configured")
            network.load_state_dict(self.initial.network.state_dict())
        self.transform: dict[str, Any] = {
            "kind": kind, "amplitude": amplitude, "knee": knee, "atom": atom, "width": width, "fill": fill
        }  # fmt: skip
        self.learning_rate, self.warmup, self.weight_decay = learning_rate, warmup, weight_decay

    def setup(self, stage: str) -> None:
        """Measure the training cones: transform, mean and spread of slices, spectrum."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, TrainingCones):
            raise InfieldError(
                f"data of a flow of lightcones: found {type(data).__name__}, expected "
                "infield.datasets.lightcone_fields.LightconeFile"
            )
        start = self.initial
        transform = (
            start.transform if start else fit_voxel_transform(data.temperature[list(data.training)], **self.transform)
        )
        self._check(len(transform.channels), len(data.ranges))
        quiet = not self.trainer.is_global_zero
        count = len(data.temperature)
        data.apply(transform.forward, lambda cones: track(cones, "values of cones", count, disable=quiet))
        ranges = start.ranges if start else data.ranges
        statistics = start.statistics if start else self._statistics(data)
        self.prior = LightconePrior(
            name=f"flow of lightcones given {', '.join(data.ranges) or 'nothing'}",
            network=self.network,
            statistics=statistics,
            transform=transform,
            ranges=ranges,
            cell=data.cell,
            points=data.points,
            distance=data.distance,
            redshift=data.redshift,
            spectrum=torch.ones(len(transform.channels), *data.points, data.window),
            coloured=self.coloured,
            provenance={"kind": "lightcones", "seed": self.seed, "data": dict(data.facts)}
            | ({"initial": {"sha256": start.sha256, **start.provenance.get("training", {})}} if start else {}),
        )
        values, theta, cells = data.examples()
        white = Covariance.diagonal_in(Hartley(3), torch.ones(self.prior.spectrum.shape, dtype=torch.float64))
        x, _, _ = self.standardised(values, theta, cells)
        spectrum = stationary_covariance(x, white, (True, True, False)).diagonal
        self.prior = replace(self.prior, spectrum=spectrum)

    def _statistics(self, data: TrainingCones) -> SliceStatistics:
        """Mean and spread of the slices of the training cones."""
        variance, mean = zip(
            *(torch.var_mean(data.values[i].double(), (1, 2), correction=0) for i in data.training), strict=True
        )
        theta, s = _in_range(data.theta, data.ranges)[list(data.training)], torch.linspace(0, 1, len(data.distance))
        return fit_slice_statistics(
            torch.stack(mean),
            torch.stack(variance),
            theta,
            s,
            seed=self.seed,
            steps=self.statistics_steps,
            device=self.trainer.strategy.root_device,
        )

    def _check(self, channels: int, parameters: int) -> None:
        found = {name: self.network.arguments[name] for name in ("channels", "inputs", "numbers")}
        expected = {"channels": channels, "inputs": 3 * channels + 1, "numbers": parameters}
        if found != expected:
            raise InfieldError(f"network of a flow of lightcones: found {found}, expected {expected}")

    def standardised(self, values: Tensor, theta: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Profiles]:
        """x_1, parameters in [0, 1] and profiles of a batch of windows."""
        prior = self.prior
        prior.statistics.to(values.device)
        theta = _in_range(theta, prior.ranges)
        cells = start[:, None] + torch.arange(values.shape[-1], device=start.device)
        s = cells.float() / (len(prior.distance) - 1)
        mu, sigma = prior.statistics(theta, s)
        x = (values.float() - mu[:, :, None, None]) / sigma[:, :, None, None]
        return x, theta, Profiles(s, mu, sigma)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(*batch, batch_generator(self.seed, self.current_epoch, batch_idx, self.global_rank))
        self.log("loss", loss, prog_bar=True, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        loss = self.loss(*batch, batch_generator(self.seed, VALIDATION, batch_idx, self.global_rank))
        self.log("validation_loss", loss, prog_bar=True, batch_size=len(batch[0]), sync_dist=True)

    def loss(self, values: Tensor, theta: Tensor, start: Tensor, generator: Generator) -> Tensor:
        """Mean square error of F for windows of values, with random numbers of a CPU generator; 1 before training."""
        with torch.autocast(values.device.type, enabled=False):
            x_1, theta, profiles = self.standardised(values, theta, start)
            t = draw_times(len(x_1), generator).to(x_1)
            x_0 = standard_normal(x_1.shape, x_1, generator)
            if self.coloured:
                c = self.prior.spectrum.to(x_0)
                x_0 = colour(x_0, c)
            tau = t[:, None, None, None, None]
            p = tau.square() + (1 - tau).square()
            x_t = tau * x_1 + (1 - tau) * x_0
            target = (x_1 - x_0 - (2 * tau - 1) / p * x_t) * p.sqrt()
            z = x_t / p.sqrt()
        error = network_output(self.network, z, t, theta, profiles) - target
        if not (self.coloured and self.emphasis):
            return error.square().mean()
        with torch.autocast(values.device.type, enabled=False):
            weight = c.pow(-self.emphasis)
            weight = weight / (weight * c).mean((1, 2, 3), keepdim=True)  # so that it is 1 before training
            return (Hartley(3).analyse(error).square() * weight).mean()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        return adamw_with_cosine(self, self.learning_rate, self.weight_decay, self.warmup)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the prior. The callback that averages has already put its weights in place of the current ones."""
        training = training_record(self.trainer, checkpoint)
        prior = replace(self.prior, provenance={**self.prior.provenance, "training": training})
        checkpoint[ENTRY] = to_entry(prior, network_weights(checkpoint))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with transform and statistics of the first run."""
        every = to_entry(self.prior, {})
        now = {key: every[key] for key in ("network", "ranges", "cell", "points")}
        entry = entry_to_go_on_from(checkpoint, ENTRY, now, "one of this training")
        self.prior = from_entry(entry, self.network)


def draw_times(n: int, generator: Generator) -> Tensor:
    """Times in (0, 1), stratified, shape `(n,)`: a share `EARLY` of them uniform in log t / (1 - t)."""
    u = (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator)) / n
    odds = torch.logit(torch.tensor(EARLIEST))
    of_odds = torch.sigmoid(odds * (1 - 2 * u / EARLY))
    return torch.where(u < EARLY, of_odds, (u - EARLY) / (1 - EARLY))


def _in_range(theta: Tensor, ranges: Mapping[str, tuple[float, float]]) -> Tensor:
    """Parameters `(batch, parameters)` in [0, 1]."""
    low, high = (torch.tensor([span[i] for span in ranges.values()]).to(theta) for i in (0, 1))
    return (theta - low) / (high - low)
