r"""Training of an emulator of lightcones (`priors.cm21.emulator`) on simulations and their initial conditions.

With T of the simulator, :math:`x^* = (T - \mu_T) / \sigma_T` and i = 1 where T is exactly 0, the loss is a mean over
points, and over bands of \|k\| in windows of the line of sight,

.. math:: 2 \langle (1 - i) \, h(x - x^*) \rangle + \langle -i \log p - (1 - i) \log(1 - p) \rangle
    + \gamma \Big\langle \Big(\log \frac{P[\hat T] + f}{P[T] + f}\Big)^2 \Big\rangle,
    \qquad p = \frac{1}{1 + e^{-\ell}},

h the error of Huber (1964), a square near 0; and :math:`\hat T` is 0 where p > 1/2. Small scales that the network
cannot predict would be missing from its fields: hence the power, in the last term. Its weight rises gradually, since
the gradient is poor for a field without power.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from infield.core._lightning import LightningModule, OptimizerLRSchedulerConfig
from infield.core.errors import InfieldError
from infield.core.spectra import Bins, mode_counts, wavenumbers
from infield.priors.cm21.density_network import UNSHUFFLE, DensityNetwork
from infield.priors.cm21.emulator import HALO, Conditions, Emulator
from infield.priors.cm21.initial_density import InitialDensity
from infield.priors.cm21.prior import LightconePrior, in_range
from infield.priors.cm21.prior_entry import ENTRY, load_lightcone_prior, to_entry
from infield.priors.training.common import adamw_with_cosine, network_weights, resumable_entry, training_record

BANDS = 8
POWER_FLOORS = 0.05, 1.0
"""f: a fraction of the target power, and Delta^2 in mK^2."""


@runtime_checkable
class TrainingBoxes(Protocol):
    """Interface of the trainer's data module; its batches are windows of temperatures, parameters, first
    cells and boxes of initial conditions."""

    boxes: Tensor
    ranges: Mapping[str, tuple[float, float]]
    cell: float
    points: tuple[int, int]
    distance: np.ndarray
    facts: Mapping[str, Any]
    training: range

    def keep_temperatures(self) -> None:
        """Return temperatures, not transformed values, in windows."""
        ...


class EmulatorTraining(LightningModule):
    """Trains the network of an emulator; its file is the prior's, with the emulator in it.

    Arguments:
        network: Network with the input channels of the boxes and the conditioning numbers of the slices.
        prior: Checkpoint of a prior of lightcones of the same kind, with a linear transform and a separate
            channel for exact zeros. It gives mean and standard deviation of slices. An emulator in it is replaced.
        power: gamma, weight of the power in bands.
        rising: Steps over which this weight rises.
        learning_rate: Peak learning rate of AdamW; a cosine reduces it to a hundredth over a run of known length.
        warmup: Steps of linear warm-up.
        weight_decay: Weight decay of AdamW.
    """

    def __init__(
        self,
        network: DensityNetwork,
        prior: str,
        power: float = 0.1,
        rising: int = 500,
        learning_rate: float = 2e-3,
        warmup: int = 100,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__()
        self.network, self.power, self.rising = network, power, rising
        self.learning_rate, self.warmup, self.weight_decay = learning_rate, warmup, weight_decay
        self.base = load_lightcone_prior(prior)
        transform = self.base.transform
        if not transform.affine or not transform.atom:
            raise InfieldError(
                where=f"emulator: {prior}",
                found=f"the transform '{transform.kind}'{'' if transform.atom else ', no atom'}",
                remedy="expected a prior of kind 'linear' that represents exact zeros",
            )

    def setup(self, stage: str) -> None:
        """Measure the initial conditions, and check that data, network and prior fit together."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, TrainingBoxes) or not len(data.boxes):
            raise InfieldError(
                where="data of an emulator",
                found=f"{type(data).__name__} without initial conditions",
                expected="infield.datasets.cm21.training.LightconeFile with `boxes: true`",
            )
        _refuse_another_kind(data, self.base)
        data.keep_temperatures()
        boxes = data.boxes[list(data.training), 0].float()
        self.density = InitialDensity.fit(boxes, data.points[0])
        channels, parameters = len(self.base.transform.channels), len(self.base.ranges)
        found = {name: self.network.arguments[name] for name in ("seen", "told")}
        expected = {"seen": self.density.seen, "told": Conditions.numbers(parameters, channels)}
        if found != expected:
            raise InfieldError(where="network of an emulator", found=found, expected=f"{expected} for these data")
        self.base = self.base.to(self.trainer.strategy.root_device)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        parts = self.errors(*batch)
        weight = self.power * min(1.0, self.global_step / max(self.rising, 1))
        loss = parts["temperature"] + parts["zeros"] + weight * parts["log_power"]
        self.log_dict({"loss": loss, **parts}, prog_bar=True, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        described = {f"validation_{name}": part for name, part in self.errors(*batch).items()}
        self.log_dict(described, prog_bar=True, batch_size=len(batch[0]), sync_dist=True)

    def errors(self, temperature: Tensor, theta: Tensor, start: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """The three terms of the loss.

        Arguments:
            temperature: Windows in mK, shape `(batch, 1, x, y, window)`.
            theta: Parameters by their values, shape `(batch, parameters)`.
            start: First cells of the windows, multiples of `UNSHUFFLE`, shape `(batch,)`.
            boxes: Initial conditions, shape `(batch, 1, x, y, los)`.
        """
        T = temperature[:, 0].float().movedim(-1, 1)
        cells = start[:, None] + torch.arange(-HALO, T.shape[1] + HALO, device=T.device)
        with torch.autocast(T.device.type, enabled=False), torch.no_grad():
            s = cells / (len(self.base.distance) - 1)
            at = in_range(theta, self.base.ranges)
            given = Conditions.of(at, s.float(), self.base.statistics, self.base.transform)
            seen = self.density.view(self.density.standardised(boxes[:, 0].float().movedim(-1, 1)))
        features = self.network.encode(seen)
        where = cells[:, ::UNSHUFFLE] // UNSHUFFLE % features.shape[1]
        along = torch.stack([box[at] for box, at in zip(features, where, strict=True)])
        made = self.network(along, self.network.film_parameters(given.conditioning)).float()[:, :, HALO:-HALO]
        with torch.autocast(T.device.type, enabled=False):
            x, logit = made.unbind(1)
            mu, sigma = (part[:, HALO:-HALO, None, None] for part in (given.mu, given.sigma))
            ionised = (T == 0).float()
            wrong = functional.smooth_l1_loss(x, (T - mu) / sigma, reduction="none")
            expected = _in_bands(T)
            faint = POWER_FLOORS[0] * expected + _faint(T.shape[1:]).to(expected)
            found = _in_bands(torch.where(logit > 0, 0.0, mu + sigma * x))
            return {
                "temperature": 2 * (wrong * (1 - ionised)).mean(),
                "zeros": functional.binary_cross_entropy_with_logits(logit, ionised),
                "log_power": ((found + faint) / (expected + faint)).log().square().mean(),
            }

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        return adamw_with_cosine(self, self.learning_rate, self.weight_decay, self.warmup)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the prior with its emulator; the averaging callback has already swapped in the averaged weights."""
        network = copy.deepcopy(self.network).cpu().eval().requires_grad_(False)
        network.load_state_dict(network_weights(checkpoint))
        provenance = {
            "prior": self.base.sha256,
            "data": dict(self.trainer.datamodule.facts),  # type: ignore[attr-defined]
            "training": training_record(self.trainer, checkpoint),
        }
        emulator = Emulator(network=network, density=self.density, provenance=provenance)
        checkpoint[ENTRY] = to_entry(replace(self.base, emulator=emulator))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume with another network or prior."""
        entry = resumable_entry(checkpoint, ENTRY, {}, "one of this training").get("emulator", {})
        described = {"network": entry.get("network"), "prior": entry.get("provenance", {}).get("prior")}
        now = {"network": self.network.arguments, "prior": self.base.sha256}
        resumable_entry({"emulator": described}, "emulator", now, "one of this training")


def _refuse_another_kind(data: TrainingBoxes, prior: LightconePrior) -> None:
    """InfieldError where the simulations are not of the kind that a prior is of."""
    line = f"{len(data.distance)} cells of {data.cell:g} Mpc from {data.distance[0]:.1f} Mpc"
    known = f"{len(prior.distance)} cells of {prior.cell:g} Mpc from {prior.distance[0]:.1f} Mpc"
    for what, found, expected in (
        ("parameters", dict(data.ranges), {name: tuple(span) for name, span in prior.ranges.items()}),
        ("line of sight", line, known),
    ):
        if found != expected:
            raise InfieldError(
                where="data of an emulator", found=f"{what} {found}", expected=f"{expected} as the prior has"
            )


def _in_bands(T: Tensor) -> Tensor:
    """Power of windows `(batch, los, x, y)` in bands of |k|, mean over modes, shape `(batch, bands)`."""
    weight, taper, _ = _bands(T.shape[1:])
    modes = torch.fft.rfftn((T - T.mean((1, 2, 3), keepdim=True)) * taper.to(T), dim=(1, 2, 3), norm="ortho")
    return torch.view_as_real(modes).square().sum(-1).flatten(1) @ weight.to(T)


def _faint(shape: torch.Size) -> Tensor:
    """Power in mK^2 of modes in bands, where k^3 P / (2 pi^2) is as much as that: k in radians per cell."""
    _, _, k = _bands(shape)
    return 2 * math.pi**2 * POWER_FLOORS[1] / k**3


@lru_cache(maxsize=4)
def _bands(shape: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of the modes of the half-spectrum, `(modes, bands)`; a taper of the line of sight, of mean square 1; and
    middles of the bands in radians per cell."""
    depth, nx, ny = shape
    edges = torch.logspace(math.log10(2 * math.pi / max(nx, ny)), math.log10(math.pi), BANDS + 1, dtype=torch.float64)
    bands = Bins.between(wavenumbers(shape, half=True, radians=True), edges, closed="right")
    in_band = bands.index.flatten()[:, None] == torch.arange(bands.count)
    weights = mode_counts(ny).float().expand(depth, nx, -1).flatten()[:, None] * in_band
    some, edges = bands.modes > 0, edges.float()
    taper = torch.hann_window(depth)[:, None, None]
    middles = (edges[:-1] * edges[1:]).sqrt()
    return weights[:, some] / weights[:, some].sum(0), taper / taper.square().mean().sqrt(), middles[some]
