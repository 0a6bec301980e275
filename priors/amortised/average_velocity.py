"""A posterior in one step, as a file holds it: the average velocity from a source that the data adapt to a draw.

    u(z, r, t | y) = 1 / (t - r) int_r^t v(x_s, s | y) ds,    x_t = x_r + (t - r) u(x_r, r, t | y),

(Geng et al. 2025, arXiv:2505.13447, whose t = 1 is our t = 0), so that x_0 + u(x_0, 0, 1 | y) is a draw of the
posterior. It is not a prior: it is valid only for the operators and the noise of its training, which it stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from infield.core.registry import StoredKind, entry_key
from infield.priors.amortised.base import AmortisedModel, arguments_from_entry, entry_of, network_of
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley, Pixels
from infield.priors.storage.checkpoint import load_checkpoint

KIND = "one-step"
ENTRY = entry_key(KIND)
VERSION = 1

HALF_NOISE = 0.1
"""Noise, in standard deviations of the field, that becomes the network input 1/2: the input is s / (s + this)."""

SLACK = 0.1
"""By how much of its range a number of an operator may lie outside it: the range is that of a few hundred operators."""

NOISE_SLACK = 0.02
"""By how much of its value the noise may lie outside its range."""


@dataclass(frozen=True, kw_only=True, repr=False)
class AverageVelocity(AmortisedModel):
    """u on standardised fields of shape `(channel, *space)`; the network maps field, conditions and three numbers to a
    field.

    Or to two fields: u = drift + rate (z - m), with the mean m of the source. What draws have in common and how far
    apart they are, place by place, have channels of their own then, and the noise of z need not pass through the
    network. Without any drift and rate draws are those of the source. For a Gaussian posterior with the modes of the
    source this is exact: x_t - m_t = s_t / s_r (z - m_r), m_t = (1 - t) m + t m_1, s_t^2 = (1 - t)^2 s_0^2 + t^2 s_1^2.

    Arguments:
        power: Spectrum of the prior behind the source, see `priors.amortised.adapted_source`, in standardised units.
        widening: Factor on what a draw of the source differs from the source's mean by; it makes the variance of draws
            in one step the squared error of their mean, over fields that were held out in training. 1 for a velocity
            that is exact.
    """

    power: Tensor
    widening: float = 1.0

    papers: ClassVar[tuple[str, ...]] = ("geng2025meanflow",)
    what: ClassVar[str] = "a posterior in one step"
    sampler: ClassVar[str] = "snap, or null-flow for exact data"

    @property
    def source(self) -> Covariance:
        """C, of the prior behind the source."""
        modes = Hartley(self.power.ndim) if self.power.ndim else Pixels()
        return Covariance.diagonal_in(modes, self.power.to(torch.float64).expand(self.event_shape))

    def velocity(self, z: Tensor, r: Tensor, t: Tensor, seen: Tensor, noise: Tensor) -> Tensor:
        """u(z, r, t | y), shape of z.

        Arguments:
            z: Fields at time r, shape `(batch, channel, *space)`.
            r, t: Times, shape `(batch,)`.
            seen: Conditioning channels, shape `(batch, 2 channel, *space)`, see `conditions`.
            noise: Standard deviation of the noise in standardised units, shape `(batch,)`.
        """
        numbers = torch.stack([r, t, noise / (noise + HALF_NOISE)], dim=1)
        if not self.gated:
            return self.network(torch.cat([z, seen], dim=1), numbers)
        channels = z.shape[1]
        apart = z - seen[:, :channels]
        drift, rate = self.network(torch.cat([apart, seen], dim=1), numbers).split(channels, dim=1)
        return drift + rate * apart

    def step(self, x_0: Tensor, seen: Tensor, noise: Tensor, moved: Tensor) -> Tensor:
        """u(x_0, 0, 1 | y), from one evaluation, shape of x_0.

        A network that folds cells into channels treats the points of a cell differently, on a grid where all are alike.
        Each draw in a frame of its own turns this error of all draws into one that their mean averages out, as "cycle
        spinning" does for wavelets (Coifman & Donoho 1995).

        Arguments:
            x_0: Draws of the source, shape `(batch, channel, *space)`.
            seen, noise: As for `velocity`.
            moved: By how many points each is moved along the axes before the network and back after it, whole numbers,
                shape `(batch, ndim)`; only a network whose axes close takes notice.
        """
        zero = torch.zeros_like(noise)
        if not getattr(self.network, "periodic", False):
            return self.velocity(x_0, zero, zero + 1, seen, noise)
        there = self.velocity(_moved(x_0, moved), zero, zero + 1, _moved(seen, moved), noise)
        return _moved(there, -moved)

    @property
    def gated(self) -> bool:
        """Whether the network has two output channels per channel of the field, so that u = drift + rate (z - mean)."""
        return getattr(self.network, "channels", None) == 2 * self.event_shape[0]


def _moved(x: Tensor, by: Tensor) -> Tensor:
    axes = tuple(range(-by.shape[1], 0))
    return torch.stack([field.roll(tuple(steps), axes) for field, steps in zip(x, by.tolist(), strict=True)])


def conditions(operator: Any, mean: Tensor) -> Tensor:
    """Return the conditioning channels of a network: the mean of the source, and A^T A 1, which marks what is observed;
    shape `(batch, 2 channel, *space)`."""
    ones = torch.ones_like(mean[:1])
    return torch.cat([mean, operator.A_adjoint(operator.A(ones)).expand_as(mean)], dim=1)


def outside_training_range(
    model: AverageVelocity, operator: str, numbers: Mapping[str, float], noise: float
) -> str | None:
    """Return why a measurement lies outside the training range ("found ..., expected ..."), or None if it lies inside.

    Arguments:
        model: The model.
        operator: Name of the measurement's operator.
        numbers: Fingerprint of the operator.
        noise: Standard deviation of the noise in units of the field.
    """
    if operator != model.serves["operator"]:
        return f"found the operator '{operator}', expected '{model.serves['operator']}'"
    for name, (least, greatest) in model.serves["numbers"].items():
        slack = SLACK * (greatest - least) + 1e-6 * abs(greatest)
        if name not in numbers or not least - slack <= numbers[name] <= greatest + slack:
            found = f"{numbers[name]:.3g}" if name in numbers else "none"
            return f"found {name} {found}, expected {least:.3g} to {greatest:.3g}"
    scale = float(model.standardisation.scale.flatten()[0])
    least, greatest = (scale * value for value in model.noise)
    if not least * (1 - NOISE_SLACK) - 1e-3 * scale <= noise <= greatest * (1 + NOISE_SLACK) + 1e-9 * scale:
        return f"found noise of standard deviation {noise:.3g}, expected {least:.3g} to {greatest:.3g}"
    return None


def to_entry(model: AverageVelocity, weights: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """Return the checkpoint entry. Arguments as of `base.entry_of`."""
    return {"version": VERSION, **entry_of(model, weights), "power": model.power, "widening": model.widening}


def from_entry(entry: Mapping[str, Any], network: nn.Module | None = None, *, sha256: str = "") -> AverageVelocity:
    """The inverse of `to_entry`.

    Arguments:
        entry: Result of `to_entry`.
        network: A network to use as it is; without one it is built and gets the stored weights.
        sha256: Digest of the file.
    """
    return AverageVelocity(
        **arguments_from_entry(entry),
        network=network_of(entry) if network is None else network,
        power=entry["power"],
        widening=float(entry["widening"]),
        sha256=sha256,
    )


def load_average_velocity(path: str | Path, device: torch.device | str = "cpu") -> AverageVelocity:
    """Load a one-step posterior from its checkpoint; no other file is needed, and nothing in it is executed.

    Arguments:
        path: A checkpoint of `infield fit`, or the slim file that it leaves beside it (`one-step.ckpt`).
        device: Device of the network.

    Raises:
        InfieldError: As `read_entry`; or a part is missing or of another shape.
    """
    model: AverageVelocity = load_checkpoint(path, KIND, device)
    return model


STORED = StoredKind(KIND, VERSION, to_entry, from_entry, placement="training grid")
