"""A posterior in one step, as a file holds it: the average velocity from a source that the data adapt to a draw.

    u(z, r, t | y) = 1 / (t - r) int_r^t v(x_s, s | y) ds,    x_t = x_r + (t - r) u(x_r, r, t | y),

(Geng et al. 2025, arXiv:2505.13447, whose t = 1 is our t = 0), so that x_0 + u(x_0, 0, 1 | y) is a draw of the
posterior. It is no prior: it serves the operators and the noise that it was trained on, and knows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infield.priors.checkpoint import KINDS, build_network, file_sha256, network_description, parts_of, read_entry
from infield.priors.covariance import Covariance
from infield.priors.modes import Hartley, Pixels
from infield.priors.prior import Standardisation

KIND = "one-step"
ENTRY, VERSION = KINDS[KIND]

HALF_NOISE = 0.1
"""Noise, in standard deviations of the field, of which the network is told 1/2: s is told as s / (s + this)."""

SLACK = 0.1
"""By how much of its range a number of an operator may lie outside it: the range is that of a few hundred operators."""

NOISE_SLACK = 0.02
"""By how much of its value the noise may lie outside its range."""


@dataclass(frozen=True)
class AverageVelocity:
    """u on standardised fields of shape `(channel, *space)`; one scale for all channels, so that operators keep their
    closed forms.

    Arguments:
        name: What a report calls it.
        network: Maps field, conditions and three numbers to a field.
        standardisation: How standardised fields become fields in units.
        event_shape: `(channel, *space)`.
        power: Of the prior behind the source, see `priors.adapted_source`, in standardised units.
        noise: Least and greatest standard deviation of the noise in training, in standardised units.
        serves: Operator by name, and the range of each number that tells one of its kind from another.
        grid_description: The grid in JSON types.
        units: Of the field.
        channels: Their names.
        widening: Factor on what a draw of the source differs from the source's mean by; it makes the variance of draws
            in one step the squared error of their mean, over fields that were held out in training. 1 for a velocity
            that is exact.
        provenance: How it was trained, in JSON types.
        sha256: Digest of its file.
    """

    name: str
    network: nn.Module
    standardisation: Standardisation
    event_shape: tuple[int, ...]
    power: Tensor
    noise: tuple[float, float]
    serves: dict[str, Any]
    grid_description: dict[str, Any] = field(default_factory=dict)
    units: str | None = None
    channels: tuple[str, ...] = ()
    widening: float = 1.0
    provenance: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""

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
            seen: What the data say of the field, shape `(batch, 2 channel, *space)`, see `conditions`.
            noise: Of the data in standardised units, shape `(batch,)`.
        """
        numbers = torch.stack([r, t, noise / (noise + HALF_NOISE)], dim=1)
        return self.network(torch.cat([z, seen], dim=1), numbers)

    def to(self, device: torch.device | str) -> AverageVelocity:
        """A copy whose network runs elsewhere."""
        return replace(self, network=self.network.to(device))


def conditions(operator: Any, mean: Tensor) -> Tensor:
    """What a network is told of the data: the mean of the source, and A^T A 1, which shows what is seen; shape
    `(batch, 2 channel, *space)`."""
    ones = torch.ones_like(mean[:1])
    return torch.cat([mean, operator.A_adjoint(operator.A(ones)).expand_as(mean)], dim=1)


def not_served(model: AverageVelocity, operator: str, numbers: Mapping[str, float], noise: float) -> str | None:
    """Why a measurement is none of those that a model was trained on: found and expected; None where it is one.

    Arguments:
        model: The model.
        operator: Name of the measurement's operator.
        numbers: What tells it from others of its kind.
        noise: In units of the field.
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
    """What a checkpoint stores: nested dictionaries of tensors, numbers and text.

    Arguments:
        model: The model.
        weights: Weights of its network, where others than its own are to be stored.
    """
    weights = model.network.state_dict() if weights is None else weights
    return {
        "version": VERSION,
        "name": model.name,
        "network": network_description(model.network),
        "weights": {name: value.detach().cpu() for name, value in weights.items()},
        "standardisation": {"shift": model.standardisation.shift, "scale": model.standardisation.scale},
        "event_shape": list(model.event_shape),
        "power": model.power,
        "noise": list(model.noise),
        "serves": model.serves,
        "grid": model.grid_description,
        "units": model.units,
        "channels": list(model.channels),
        "widening": model.widening,
        "provenance": model.provenance,
    }


def from_entry(entry: Mapping[str, Any], network: nn.Module | None = None, *, sha256: str = "") -> AverageVelocity:
    """The inverse of `to_entry`.

    Arguments:
        entry: What `to_entry` returned.
        network: A network to use as it is; without one it is built and gets the stored weights.
        sha256: Digest of the file.
    """
    if network is None:
        network = build_network(entry["network"])
        network.load_state_dict(dict(entry["weights"]))
        network.eval().requires_grad_(False)
    units, noise = entry["standardisation"], entry["noise"]
    return AverageVelocity(
        name=entry["name"],
        network=network,
        standardisation=Standardisation(units["shift"], units["scale"]),
        event_shape=tuple(entry["event_shape"]),
        power=entry["power"],
        noise=(float(noise[0]), float(noise[1])),
        serves=dict(entry["serves"]),
        grid_description=entry["grid"],
        units=entry["units"],
        channels=tuple(entry["channels"]),
        widening=float(entry["widening"]),
        provenance=entry["provenance"],
        sha256=sha256,
    )


def load_average_velocity(path: str | Path, device: torch.device | str = "cpu") -> AverageVelocity:
    """Load a one-step posterior from its checkpoint; no other file is needed, and nothing in it is executed.

    Arguments:
        path: A checkpoint of `infield fit`, or the slim file that it leaves beside it (`one-step.ckpt`).
        device: Where its network runs.

    Raises:
        InfieldError: As `read_entry`; or a part is missing or of another shape.
    """
    entry = read_entry(path, KIND)
    with parts_of(path, KIND):
        return from_entry(entry, sha256=file_sha256(path)).to(device)
