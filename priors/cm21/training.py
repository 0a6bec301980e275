"""Training of a conditional flow of lightcones, by flow matching (Lipman et al. 2023, arXiv:2210.02747).

    xi_t = t xi_1 + (1 - t) xi_0,   xi_0 ~ N(0, 1),   target xi_1 - xi_0,

xi_1 the innovations of the simulator's fields (`priors.cm21.flow`). At t = 0 no trace of the data is left
(`priors.cm21.voxel_transform` on what amplitude compression cures by accident). Since every mode of white fields is
decided at the same time, the mean of a cone as well as its smallest structures, times are uniform.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from rich.progress import track
from torch import Generator, Tensor

from infield.core._lightning import LightningModule, OptimizerLRSchedulerConfig
from infield.core.errors import InfieldError
from infield.priors.cm21.box_repeats import BoxRepeatNetwork, fit_box_repeats
from infield.priors.cm21.flow import Profiles, network_output
from infield.priors.cm21.linear_correction import LinearCorrection, fit_linear_correction, products
from infield.priors.cm21.power_correction import fit_power_correction, log_amplitudes, of_flow
from infield.priors.cm21.prior import LightconePrior, in_range
from infield.priors.cm21.prior_entry import ENTRY, from_entry, load_lightcone_prior, to_entry
from infield.priors.cm21.slice_spectra import SliceSpectra, fit_slice_spectra
from infield.priors.cm21.slice_statistics import SliceStatistics, fit_slice_statistics
from infield.priors.cm21.voxel_transform import fit_voxel_transform
from infield.priors.cm21.whitening import VecchiaWhitening, vecchia_whitening
from infield.priors.covariance.modes import Hartley
from infield.priors.networks.local_unet import LocalUNet
from infield.priors.training.common import (
    VALIDATION,
    adamw_with_cosine,
    batch_generator,
    network_weights,
    resumable_entry,
    standard_normal,
    training_record,
)

SMALL_SCALES = 1.0
"""Wavenumber in radians a cell beyond which errors count less, as its square: else four fifths of the loss were about
waves of two cells. A weight changes no minimiser."""

BATCH_SIZE, EPOCHS_PER_BATCH = 8, 2
"""Windows together, and times that each is seen at, for the fit of the linear part."""

MEMBERS = 2
"""Networks whose mean the spectra are."""

Slices = tuple[Tensor, Tensor, Tensor]
"""Places `(batch, los)`, mu and sigma `(batch, channel, los)`."""


@runtime_checkable
class TrainingCones(Protocol):
    """Interface of the trainer's data module; its batches are windows of values, parameters, first cells."""

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
            innovations and fields, their two profiles each, the place and what innovations are given: 10 (6).
        initial: A checkpoint whose weights, transform, statistics and spectra of slices the training starts from; a
            lower learning rate than from scratch suffices.
        kind, amplitude, knee, atom, width, fill: Parameters of the voxel transform. The paper's is `yeo-johnson`,
            0.1, 0, without atom; with `linear` without `fill` the data of a telescope are linear in the field.
        statistics_steps: Steps of the fit of mean and spread of slices, before the training.
        spectra_steps: Steps of the fit of their spectra, for each of two networks.
        kept: At most so many maps of innovations, by parameters and place of a window, stay on the device for windows
            that come again (`starts` of the data); 3 MB each for windows of 32 x 32 x 192.
        draws: Cones that are drawn at the end of the training, for their power beside that of the spectra; 0 for none.
        draws_together: Number drawn at a time.
        learning_rate: Peak learning rate of AdamW; a cosine reduces it to a hundredth over a run of known length.
        warmup: Steps of linear warm-up.
        weight_decay: Weight decay of AdamW.
        seed: Random seed; all random numbers derive from seed, epoch and batch.
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
        statistics_steps: int = 6000,
        spectra_steps: int = 6000,
        kept: int = 0,
        draws: int = 72,
        draws_together: int = 2,
        learning_rate: float = 1e-3,
        warmup: int = 100,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network, self.seed, self.kept = network, seed, kept
        self._maps: dict[tuple[float, ...], VecchiaWhitening] = {}
        self.statistics_steps, self.spectra_steps = statistics_steps, spectra_steps
        self.draws, self.draws_together = draws, draws_together
        self.initial = None if initial is None else load_lightcone_prior(initial)
        if self.initial is not None:
            found, expected = (one.arguments for one in (self.initial.network, network))
            if found != expected:
                raise InfieldError(
                    where=f"initial {initial}", found=f"the network {found}", expected=f"{expected} as configured"
                )
            network.load_state_dict(self.initial.network.state_dict())
        self.transform: dict[str, Any] = {
            "kind": kind, "amplitude": amplitude, "knee": knee, "atom": atom, "width": width, "fill": fill
        }  # fmt: skip
        self.learning_rate, self.warmup, self.weight_decay = learning_rate, warmup, weight_decay

    def setup(self, stage: str) -> None:
        """Measure the training cones: transform, mean and spread of slices, spectra."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, TrainingCones):
            raise InfieldError(
                where="data of a flow of lightcones",
                found=type(data).__name__,
                expected="lightcones as the class LightconeFile of `datasets.cm21.training` gives them",
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
            spectra=start.spectra if start else SliceSpectra(len(data.ranges), len(transform.channels)),
            repeats=start.repeats if start else None,
            linear_part=LinearCorrection(len(data.ranges), len(transform.channels)),
            drawn=SliceSpectra(len(data.ranges), len(transform.channels)),
            transform=transform,
            ranges=ranges,
            cell=data.cell,
            points=data.points,
            distance=data.distance,
            redshift=data.redshift,
            provenance={"kind": "lightcones", "seed": self.seed, "data": dict(data.facts)}
            | ({"initial": {"sha256": start.sha256, **start.provenance.get("training", {})}} if start else {}),
        )
        if not start:
            self.prior = replace(self.prior, spectra=self._spectra(data), repeats=self._repeats(data))

    def _statistics(self, data: TrainingCones) -> SliceStatistics:
        """Mean and spread of the slices of the training cones."""
        variance, mean = zip(
            *(torch.var_mean(data.values[i].double(), (1, 2), correction=0) for i in data.training), strict=True
        )
        theta, s = in_range(data.theta, data.ranges)[list(data.training)], torch.linspace(0, 1, len(data.distance))
        return fit_slice_statistics(
            torch.stack(mean),
            torch.stack(variance),
            theta,
            s,
            seed=self.seed,
            steps=self.statistics_steps,
            device=self.trainer.strategy.root_device,
        )

    def _spectra(self, data: TrainingCones) -> SliceSpectra:
        """Spectra of the slices of the training cones, standardised."""
        return fit_slice_spectra(
            self._standardised_cones(data, "spectra of cones"),
            in_range(data.theta[list(data.training)], self.prior.ranges),
            torch.linspace(0, 1, len(data.distance)),
            statistics=self.prior.statistics,
            members=MEMBERS,
            seed=self.seed,
            steps=self.spectra_steps,
            device=self.trainer.strategy.root_device,
        )

    def _repeats(self, data: TrainingCones) -> BoxRepeatNetwork | None:
        """Fit the repeats of boxes, cubes of the cells across, if lightcones are deeper than one box."""
        period = data.points[0]
        if len(data.distance) <= period:
            return None
        return fit_box_repeats(
            self._standardised_cones(data, "repeats of boxes"),
            in_range(data.theta[list(data.training)], self.prior.ranges),
            torch.linspace(0, 1, len(data.distance)),
            period,
            seed=self.seed,
            steps=self.spectra_steps // 3,
            device=self.trainer.strategy.root_device,
        )

    def _standardised_cones(self, data: TrainingCones, what: str) -> Iterable[Tensor]:
        start = torch.zeros(1, dtype=torch.long)
        cones = (self.standardised(data.values[i, None], data.theta[i, None], start)[0][0] for i in data.training)
        return track(cones, what, len(data.training), disable=not self.trainer.is_global_zero)

    def _check(self, channels: int, parameters: int) -> None:
        found = {name: self.network.arguments[name] for name in ("channels", "inputs", "numbers")}
        expected = {"channels": channels, "inputs": 4 * channels + 2, "numbers": parameters}
        if found != expected:
            raise InfieldError(where="network of a flow of lightcones", found=found, expected=expected)

    def standardised(self, values: Tensor, theta: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Slices]:
        """x_1, parameters in [0, 1], and places, mu and sigma of the slices of a batch of windows."""
        prior = self.prior
        prior.statistics.to(values.device)
        theta = in_range(theta, prior.ranges)
        cells = start[:, None] + torch.arange(values.shape[-1], device=start.device)
        s = cells.float() / (len(prior.distance) - 1)
        mu, sigma = prior.statistics(theta, s)
        x = (values.float() - mu[:, :, None, None]) / sigma[:, :, None, None]
        return x, theta, (s, mu, sigma)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(*batch, batch_generator(self.seed, self.current_epoch, batch_idx, self.global_rank))
        self.log("loss", loss, prog_bar=True, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        loss = self.loss(*batch, batch_generator(self.seed, VALIDATION, batch_idx, self.global_rank))
        self.log("validation_loss", loss, prog_bar=True, batch_size=len(batch[0]), sync_dist=True)

    def loss(self, values: Tensor, theta: Tensor, start: Tensor, generator: Generator) -> Tensor:
        """Mean square error of F for windows of values, with random numbers of a CPU generator; 1 before training."""
        target, given = self._pairs(values, theta, start, generator)
        error = network_output(self.network, *given) - target
        with torch.autocast(values.device.type, enabled=False):
            return (Hartley(3).analyse(error.float()).square() * _weight(error.shape[2:]).to(error)).mean()

    def _pairs(
        self, values: Tensor, theta: Tensor, start: Tensor, generator: Generator
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Profiles]]:
        """Targets F*, and what the network is given of a batch of windows."""
        with torch.autocast(values.device.type, enabled=False):
            x_1, theta, (s, mu, sigma) = self.standardised(values, theta, start)
            S = self._innovations(theta, s, start, (x_1.shape[2], x_1.shape[3]))
            profiles = Profiles(s, mu, sigma, S.before.to(s).expand(len(s), -1))
            t = draw_times(len(x_1), generator).to(x_1)
            xi_0 = standard_normal(x_1.shape, x_1, generator)
            xi_1, x_0 = S.whiten(x_1), S.colour(xi_0)
            tau = t[:, None, None, None, None]
            p = tau.square() + (1 - tau).square()
            xi_t, x_t = (tau * one + (1 - tau) * zero for one, zero in ((xi_1, xi_0), (x_1, x_0)))
            target = (xi_1 - xi_0 - (2 * tau - 1) / p * xi_t) * p.sqrt()
            return target, (torch.cat([xi_t, x_t], dim=1) / p.sqrt(), t, theta, profiles)

    def _innovations(self, theta: Tensor, s: Tensor, start: Tensor, points: tuple[int, int]) -> VecchiaWhitening:
        """S of each window; of parameters and places that were there before, as it was kept."""
        keys = [(*at, first) for at, first in zip(theta.tolist(), start.tolist(), strict=True)]
        new = [i for i, key in enumerate(keys) if key not in self._maps]
        made: dict[tuple[float, ...], VecchiaWhitening] = {}
        if new:
            repeats = None if self.prior.repeats is None else self.prior.repeats.to(s.device).of(theta[new], s[new])
            found = vecchia_whitening(self.prior.spectra.to(s.device)(theta[new], s[new]), points, repeats)
            if len(new) == len(keys) and not self.kept:
                return found
            made = dict(zip((keys[i] for i in new), found.each(), strict=True))
            self._maps |= dict(list(made.items())[: max(self.kept - len(self._maps), 0)])
        return VecchiaWhitening.joined([made.get(key) or self._maps[key] for key in keys])

    @torch.no_grad()
    def _linear_part(self, network: LocalUNet) -> LinearCorrection:
        """Fit the linear correction of a network on windows of training lightcones."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        found: list[tuple[Tensor, ...]] = []
        batches = list(zip(*(part.split(BATCH_SIZE) for part in data.examples()), strict=True)) * EPOCHS_PER_BATCH
        for number, batch in enumerate(track(batches, "linear part", disable=not self.trainer.is_global_zero)):
            generator = batch_generator(self.seed, VALIDATION + 1, number, self.global_rank)
            values, at, start = (part.to(self.device) for part in batch)
            target, (z, t, theta, profiles) = self._pairs(values, at, start, generator)
            with torch.autocast(self.device.type, torch.bfloat16):  # as draws are made
                missed = target - network_output(network, z, t, theta, profiles)
            z = z[:, : target.shape[1]]
            found.append((*products(z, missed), theta, t, profiles.s))
        with torch.enable_grad():
            parts = (torch.cat(part).cpu() for part in zip(*found, strict=True))
            return fit_linear_correction(*parts, seed=self.seed, steps=self.spectra_steps // 3)

    def _drawn(self, prior: LightconePrior) -> SliceSpectra:
        """Power of what a prior draws, at the parameters of some training cones."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        every = in_range(data.theta[list(data.training)], prior.ranges)
        theta = every[np.linspace(0, len(every) - 1, min(self.draws, len(every))).astype(int)].to(self.device)
        generator = batch_generator(self.seed, VALIDATION + 2, 0, self.global_rank)
        pairs = of_flow(copy.deepcopy(prior).to(self.device), theta, self.draws_together, generator)
        found = log_amplitudes(track(pairs, "power of draws", len(theta), disable=not self.trainer.is_global_zero))
        s = torch.linspace(0, 1, len(data.distance))
        return fit_power_correction(found, theta, s, seed=self.seed, steps=self.spectra_steps // 3)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        return adamw_with_cosine(self, self.learning_rate, self.weight_decay, self.warmup)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the prior, with what is fitted to its network where the training ends. The callback that averages has
        already put its weights in place of the current ones."""
        training = training_record(self.trainer, checkpoint)
        prior = replace(self.prior, provenance={**self.prior.provenance, "training": training})
        if self.global_step >= (self.trainer.max_steps if self.trainer.max_steps > 0 else math.inf):
            weights = network_weights(checkpoint)
            network = copy.deepcopy(self.network).eval().requires_grad_(False)
            network.load_state_dict(weights)
            prior = replace(prior, linear_part=self._linear_part(network))
            drawn = self._drawn(replace(prior, network=network)) if self.draws else prior.drawn
            prior = replace(prior, drawn=drawn)
        checkpoint[ENTRY] = to_entry(prior, network_weights(checkpoint))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with transform and statistics of the first run."""
        every = to_entry(self.prior, {})
        now = {key: every[key] for key in ("network", "ranges", "cell", "points")}
        entry = resumable_entry(checkpoint, ENTRY, now, "one of this training")
        self.prior = from_entry(entry, self.network)


def draw_times(n: int, generator: Generator) -> Tensor:
    """Times uniform in (0, 1), stratified, shape `(n,)`."""
    return (torch.randperm(n, generator=generator) + torch.rand(n, generator=generator)) / n


@lru_cache(maxsize=4)
def _weight(shape: tuple[int, ...]) -> Tensor:
    """Weights of the Fourier modes of errors, of mean 1, shape `(x, y, los)`."""
    k_2 = torch.zeros(())
    for axis, n in enumerate(shape):
        k = 2 * math.pi * torch.fft.fftfreq(n)
        k_2 = k_2 + k.square().reshape([-1 if a == axis else 1 for a in range(len(shape))])
    weight = 1 / (1 + k_2 / SMALL_SCALES**2)
    return weight / weight.mean()
