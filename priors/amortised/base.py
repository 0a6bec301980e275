"""What a network that was trained on fields and their measurements knows of itself: which measurements it serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from infield.priors.base import Standardisation
from infield.priors.storage.network import build_network, network_description, with_plugins


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """It is no prior: it serves the operators and the noise that it was trained on (`average_velocity.not_served` tells
    which it does not). Fields are standardised, of shape `(channel, *space)`; one scale for all channels.

    Arguments:
        name: What a report calls it.
        network: Its network.
        standardisation: How standardised fields become fields in units.
        event_shape: `(channel, *space)`.
        noise: Least and greatest standard deviation of the noise in training, in standardised units.
        serves: Operator by name, and the range of each number that tells one of its kind from another.
        grid_description: The grid in JSON types.
        units: Of the field.
        channels: Their names.
        provenance: How it was trained, in JSON types.
        sha256: Digest of its file.
    """

    name: str
    network: nn.Module
    standardisation: Standardisation
    event_shape: tuple[int, ...]
    noise: tuple[float, float]
    serves: dict[str, Any]
    grid_description: dict[str, Any] = field(default_factory=dict)
    units: str | None = None
    channels: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""

    what: ClassVar[str] = "trained for a family of measurements"
    """What a message calls such a model."""
    sampler: ClassVar[str] = "that it was trained for"
    """Names of the samplers that take it."""
    evaluation: ClassVar[str] = "velocity"
    """The method that evaluates its network."""

    def to(self, device: torch.device | str) -> Self:
        """A copy whose network runs elsewhere."""
        return replace(self, network=self.network.to(device))


def entry_of(model: Supervised, weights: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """What a checkpoint stores of any of them: nested dictionaries of tensors, numbers and text.

    Arguments:
        model: The model.
        weights: Weights of its network, where others than its own are to be stored.
    """
    weights = model.network.state_dict() if weights is None else weights
    network = network_description(model.network)
    return {
        "name": model.name,
        "network": network,
        "weights": {name: value.detach().cpu() for name, value in weights.items()},
        "standardisation": {"shift": model.standardisation.shift, "scale": model.standardisation.scale},
        "event_shape": list(model.event_shape),
        "noise": list(model.noise),
        "serves": model.serves,
        "grid": model.grid_description,
        "units": model.units,
        "channels": list(model.channels),
        "provenance": with_plugins(model.provenance, network),
    }


def network_of(entry: Mapping[str, Any]) -> nn.Module:
    """The network that an entry holds, with its weights, for use and not for training."""
    network = build_network(entry["network"])
    network.load_state_dict(dict(entry["weights"]))
    return network.eval().requires_grad_(False)


def fields_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `entry_of`, without the network: arguments of a `Supervised`."""
    units, noise = entry["standardisation"], entry["noise"]
    return {
        "name": entry["name"],
        "standardisation": Standardisation(units["shift"], units["scale"]),
        "event_shape": tuple(entry["event_shape"]),
        "noise": (float(noise[0]), float(noise[1])),
        "serves": dict(entry["serves"]),
        "grid_description": entry["grid"],
        "units": entry["units"],
        "channels": tuple(entry["channels"]),
        "provenance": entry["provenance"],
    }
