r"""Training of a student of the flow of lightcones (`priors.lightcone_student`): distillation of a map.

The flow's ODE takes white noise to innovations, xi -> xi_1(xi; theta): pairs for a regression (Luhman & Luhman 2021,
arXiv:2101.02388). They are made by the flow itself, no cone of a simulator is needed: windows of the line of sight at
parameters uniform in the prior's ranges. With Fourier modes of the window and bands h_j of log \|k\|, as
`priors.slice_spectra` has them, the loss is the mean over channels and bands of

.. math:: \frac{E \sum_k h_j |N - (\xi_1 - \xi)|^2}{E \sum_k h_j |\xi_1 - \xi|^2}
    + \gamma\, E \Big(\log \frac{\sum_k h_j |\xi + N|^2}{\sum_k h_j |\xi_1|^2}\Big)^2,

first the share that is missed of what the flow adds to noise: every scale counts the same, although nine modes of ten
are waves of a few cells, which the flow changes little; then the power, part of which is missing where the regression
cannot foresee a mode. What is missing after all is measured at the end.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from rich.progress import track
from torch import Generator, Tensor

from infield import InfieldError, import_torchvision_first
from infield.priors.checkpoint import KINDS
from infield.priors.drawn_mean import fit_drawn_mean, means_of_student
from infield.priors.drawn_power import WIDTH, fit_drawn_power, log_amplitudes, of_student
from infield.priors.lightcone_student import DrawnMean, Student, low_pass, told_of
from infield.priors.lightcones import STEPS, LightconePrior, load_lightcone_prior, to_entry
from infield.priors.modes import Hartley
from infield.priors.slice_spectra import SliceSpectra, hats
from infield.priors.student_network import StudentNetwork
from infield.priors.training import (
    VALIDATION,
    adamw_with_cosine,
    batch_generator,
    entry_to_go_on_from,
    network_weights,
    standard_normal,
    training_record,
)

import_torchvision_first()
from lightning.pytorch import LightningModule  # noqa: E402
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig  # noqa: E402

ENTRY, _ = KINDS["lightcones"]

FAINT = 0.03
"""Of white noise's power: less is as good as nothing."""

FEW = 30.0
"""Modes of a band, of which the power of a window says as much as it leaves open."""


@dataclass(frozen=True)
class Pairs:
    """Noise, what the flow makes of it, and what the student is given beside it; the line of sight first.

    Arguments:
        xi, xi_1: Shape `(batch, channel, los, x, y)`.
        low: The field S xi on the grid of cells.
        told: Of cells, see `told_of`.
        theta: Parameters in [0, 1], shape `(batch, parameters)`.
        s: Places of slices, shape `(batch, los)`.
    """

    xi: Tensor
    xi_1: Tensor
    low: Tensor
    told: Tensor
    theta: Tensor
    s: Tensor

    def some(self, which: Tensor) -> Pairs:
        return Pairs(*(part[which] for part in vars(self).values()))

    @staticmethod
    def together(parts: list[Pairs]) -> Pairs:
        return Pairs(*(torch.cat(part) for part in zip(*(vars(one).values() for one in parts), strict=True)))


@torch.no_grad()
def pairs_of(prior: LightconePrior, n: int, window: int, generator: Generator, *, steps: int = STEPS) -> Pairs:
    """Pairs of a prior's flow on windows of its line of sight, at parameters and places drawn with a CPU generator.

    Arguments:
        prior: Its networks are where the pairs are made.
        n: How many windows.
        window: Their cells, a multiple of the coarsest cell of the prior's network.
        generator: Of the noise, too.
        steps: Of Heun's method.
    """
    device, depth = next(prior.network.parameters()).device, len(prior.distance)
    theta = torch.rand(n, len(prior.ranges), generator=generator).to(device)
    # Beyond both ends and back: else the first and the last cells would hardly ever be seen.
    start = torch.randint(-window // 2, depth - window + window // 2 + 1, (n,), generator=generator)
    cells = start.clamp(0, depth - window)[:, None] + torch.arange(window)
    s = (cells / (depth - 1)).float().to(device)
    flow = prior.on(theta, s, prior.points, device)
    xi = standard_normal(torch.Size((n, *flow.event_shape)), s, generator)
    xi, xi_1, x = (
        field.movedim(-1, 2).contiguous() for field in (xi, prior.evolved(flow, xi, steps), flow.innovations.colour(xi))
    )
    return Pairs(xi, xi_1, low_pass(x), told_of(theta, flow.profiles), theta, s)


class LightconeDistillation(LightningModule):
    """Trains the network of a student; its file is the teacher's, with the student in it.

    Arguments:
        network: Made for the teacher's channels, and for as many numbers as it is told: parameters, and 2 + 3 channels.
        teacher: Checkpoint of a prior of lightcones. Another student that it holds is replaced.
        window: Cells of the line of sight of a pair, a multiple of the coarsest cells of both networks.
        pairs: How many are made for an epoch, a multiple of the batch.
        pairs_together: How many are made at a time.
        batch_size: Pairs a step.
        power: Weight of the power in bands, gamma.
        gains: Cones that are drawn at the end, for their power and mean; 0 for none.
        gain_steps: Of the fits to them.
        learning_rate: Of AdamW, at its peak; it falls to a hundredth by a cosine over a run of known length.
        warmup: Steps of linear warm-up.
        weight_decay: Of AdamW.
        seed: Of the random numbers, which derive from seed, epoch and batch.
    """

    def __init__(
        self,
        network: StudentNetwork,
        teacher: str,
        window: int = 128,
        pairs: int = 512,
        pairs_together: int = 32,
        batch_size: int = 16,
        power: float = 0.1,
        gains: int = 128,
        gain_steps: int = 2000,
        learning_rate: float = 1e-3,
        warmup: int = 100,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network, self.teacher = network, load_lightcone_prior(teacher)
        channels, parameters = len(self.teacher.transform.channels), len(self.teacher.ranges)
        found = {name: network.arguments[name] for name in ("channels", "told")}
        expected = {"channels": channels, "told": parameters + 2 + 3 * channels}
        if found != expected:
            raise InfieldError(f"network of a student: found {found}, expected {expected} for {teacher}")
        multiple = math.lcm(network.multiple, self.teacher.network.multiple)
        if window % multiple or not multiple <= window <= len(self.teacher.distance) or min(pairs, batch_size) < 1:
            raise InfieldError(
                f"distillation: found window {window}, pairs {pairs}, batch_size {batch_size}; expected a multiple of "
                f"{multiple}, at most {len(self.teacher.distance)} cells, and positive numbers"
            )
        self.window, self.count, self.together, self.batch_size = window, pairs, pairs_together, batch_size
        self.power, self.gains, self.gain_steps = power, gains, gain_steps
        self.learning_rate, self.warmup, self.weight_decay, self.seed = learning_rate, warmup, weight_decay, seed
        self.held_out: Pairs | None = None

    def setup(self, stage: str) -> None:
        """The teacher, where it teaches."""
        self._teaching = copy.deepcopy(replace(self.teacher, student=None)).to(self.trainer.strategy.root_device)

    def make(self, n: int, epoch: int) -> Pairs:
        """Pairs of an epoch."""
        batches = range(-(-n // self.together))
        told = track(batches, "pairs", disable=not self.trainer.is_global_zero or epoch not in (0, VALIDATION + 1))
        with torch.autocast(self.device.type, enabled=False):
            return Pairs.together(
                [
                    pairs_of(
                        self._teaching,
                        min(self.together, n - self.together * number),
                        self.window,
                        batch_generator(self.seed, epoch, number, self.global_rank),
                    )
                    for number in told
                ]
            )

    def on_train_epoch_start(self) -> None:
        self.pool = self.make(self.count, self.current_epoch)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        each = self.count // self.batch_size  # batches, until every pair was seen
        order = batch_generator(self.seed, self.current_epoch, batch_idx // each, self.global_rank)
        shuffled = torch.randperm(self.count, generator=order)
        which = shuffled[batch_idx % each * self.batch_size :][: self.batch_size]
        parts = self.errors(self.pool.some(which.to(self.device)))
        loss = parts["missed"] + self.power * parts["log_power"]
        self.log_dict({"loss": loss, **parts}, prog_bar=True, batch_size=self.batch_size)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        if self.held_out is None:
            self.held_out = self.make(2 * self.batch_size, VALIDATION)
        parts = self.errors(self.held_out)
        loss = parts["missed"] + self.power * parts["log_power"]
        told = {"validation_loss": loss, **{f"validation_{name}": part for name, part in parts.items()}}
        self.log_dict(told, prog_bar=True, batch_size=self.batch_size, sync_dist=True)

    def errors(self, pairs: Pairs) -> dict[str, Tensor]:
        """Both terms of the loss: the share that is missed of what the flow adds to noise, mean over channels and bands
        (1 before training), and the mean square of the logarithm of power."""
        added = self.network(pairs.xi, pairs.low, self.network.say(pairs.told)).float()
        with torch.autocast(added.device.type, enabled=False):
            wanted = pairs.xi_1 - pairs.xi
            error, told, ours, theirs = (
                _in_bands(field) for field in (added - wanted, wanted, pairs.xi + added, pairs.xi_1)
            )
            missed = (error.mean(0) + FAINT) / (told.mean(0) + FAINT)
            ratio = ((ours + FAINT) / (theirs + FAINT)).log()
            _, share = _bands(added.shape[2:], added.device)
            return {
                "missed": (missed * share).mean() / share.mean(),
                "log_power": (ratio.square() * share).mean() / share.mean(),
            }

    @torch.no_grad()
    def _settled(self, prior: LightconePrior) -> Student:
        """The student of a prior with power and mean of what it draws, at parameters uniform in their ranges."""
        assert prior.student is not None
        generator = batch_generator(self.seed, VALIDATION + 1, 0, self.global_rank)
        theta, s = (
            torch.rand(self.gains, len(prior.ranges), generator=generator),
            torch.linspace(0, 1, len(prior.distance)),
        )
        told = of_student(prior, theta, generator)  # on the CPU, where students draw
        powers = log_amplitudes(track(told, "power of draws", self.gains, disable=not self.trainer.is_global_zero))
        gain = fit_drawn_power(powers, theta, s, seed=self.seed, steps=self.gain_steps, beside=prior.drawn)
        student = replace(prior.student, gain=gain)
        means = means_of_student(replace(prior, student=student), theta, generator)
        return replace(student, mean=fit_drawn_mean(means, theta, s, seed=self.seed, steps=self.gain_steps))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        return adamw_with_cosine(self, self.learning_rate, self.weight_decay, self.warmup)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the prior with its student, whose gain is measured where the training ends. The callback that averages
        has already put its weights in place of the current ones."""
        network = copy.deepcopy(self.network).eval().requires_grad_(False)
        network.load_state_dict(network_weights(checkpoint))
        provenance = {
            "teacher": self.teacher.sha256,
            "seed": self.seed,
            "training": training_record(self.trainer, checkpoint),
        }
        parameters, channels = len(self.teacher.ranges), network.channels
        gain = SliceSpectra(parameters, channels, WIDTH).eval().requires_grad_(False)
        mean = DrawnMean(parameters, channels, WIDTH).eval().requires_grad_(False)
        student = Student(network=network.cpu(), gain=gain, mean=mean, provenance=provenance)
        if self.gains and self.global_step >= (self.trainer.max_steps if self.trainer.max_steps > 0 else math.inf):
            student = self._settled(replace(self.teacher, student=student))
        checkpoint[ENTRY] = to_entry(replace(self.teacher, student=student))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with a network or a teacher that is another."""
        entry = entry_to_go_on_from(checkpoint, ENTRY, {}, "one of this training")
        now = {"network": self.network.arguments, "provenance": {"teacher": self.teacher.sha256}}
        found = entry.get("student", {})
        told = {"network": found.get("network"), "provenance": {"teacher": found.get("provenance", {}).get("teacher")}}
        entry_to_go_on_from({"student": told}, "student", now, "one of this training")


def _in_bands(x: Tensor) -> Tensor:
    """Mean square of the modes of fields in bands, shape `(batch, channel, bands)`."""
    weight, _ = _bands(x.shape[2:], x.device)
    return Hartley(3).analyse(x).square().flatten(2) @ weight


@lru_cache(maxsize=4)
def _bands(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """The hats h_j of `priors.slice_spectra` over their sums, shape `(modes, bands)`, and how much each band says:
    little where it has few modes."""
    k_los, k_x, k_y = (2 * math.pi * torch.fft.fftfreq(n) for n in shape)
    across = torch.hypot(k_x[:, None], k_y)[None].expand(shape)
    h = hats(across, k_los[:, None, None].expand(shape)).flatten(1)
    count = h.sum(1)
    return (h.T / count.clamp_min(1)).contiguous().to(device), (count / (count + FEW)).to(device)
