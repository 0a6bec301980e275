"""Models trained for a family of measurements, with the range of operators and noise for which they are valid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from infield.core.brief import Brief
from infield.priors.base import Standardisation
from infield.priors.storage.network import build_network, network_description, with_plugins


@dataclass(frozen=True, kw_only=True, repr=False)
class AmortisedModel(Brief):
    """A model trained for a family of measurements: not a prior, and valid only for the operators and the noise of its
    training (see `average_velocity.outside_training_range`). Fields are standardised, with one scale for all channels.

    Arguments:
        name: Name in reports.
        network: The network.
        standardisation: Map from standardised fields to fields in units.
        event_shape: Shape of a field, `(channel, *space)`.
        noise: Least and greatest standard deviation of the noise in training, in standardised units.
        serves: Training range: name of the operator, and range of each number of its fingerprint.
        grid_description: Grid in JSON types.
        units: Units of the field.
        channels: Names of the channels.
        provenance: Record of the training, in JSON types.
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

    papers: ClassVar[tuple[str, ...]] = ()
    """What to cite, keys of `pipelines/references.bib`."""
    what: ClassVar[str] = "trained for a family of measurements"
    """Name of such a model in messages."""
    sampler: ClassVar[str] = "that it was trained for"
    """Names of the samplers that accept it."""
    evaluation: ClassVar[str] = "velocity"
    """Name of the method that evaluates the network."""

    def about(self) -> dict[str, object]:
        """What a short description shows."""
        numbers = self.serves.get("numbers", {})
        ranges = "".join(f", {name} {low:.3g} to {high:.3g}" for name, (low, high) in numbers.items())
        return {
            "name": repr(self.name),
            "operator": f"{self.serves.get('operator', 'unknown')}{ranges}",
            "noise": f"{self.noise[0]:g} to {self.noise[1]:g} (standardised)",
            "fields": f"{self.event_shape} in {self.units}",
            "sampler": self.sampler,
        }

    def to(self, device: torch.device | str) -> Self:
        """A copy with the network on another device."""
        return replace(self, network=self.network.to(device))


def entry_of(model: AmortisedModel, weights: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """Return the checkpoint entry: nested dictionaries of tensors, numbers and text.

    Arguments:
        model: The model.
        weights: Weights of its network to store instead of its own.
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


def arguments_from_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `entry_of`, without the network: arguments of an `AmortisedModel`."""
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
