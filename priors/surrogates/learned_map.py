"""A learned map from one field to another: a surrogate of a solver, and an estimate of its error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infield.core.brief import Brief
from infield.core.registry import StoredKind, entry_key
from infield.priors.base import Standardisation
from infield.priors.storage.checkpoint import load_checkpoint
from infield.priors.storage.network import build_network, network_description, with_plugins

KIND = "surrogate"
ENTRY = entry_key(KIND)
VERSION = 1

MAX_VALUES_PER_CALL = 16384
"""Maximum number of values per network call on a CPU; larger batches exceed the caches."""


@dataclass(frozen=True)
class LearnedMap:
    """Fields in units to fields in units, by a network on standardised ones.

    Arguments:
        network: Maps `(batch, channel, *space)` and times `(batch,)` to the same shape, as those of priors do; the
            time is always 0.
        source: Units of what goes in.
        target: Units of what comes out. With the standard deviation at each point as its scale, shape
            `(channel, *space)`, values that never vary, as on a boundary, are reproduced exactly.
    """

    network: nn.Module
    source: Standardisation
    target: Standardisation

    def __call__(self, x: Tensor) -> Tensor:
        """Fields `(batch, channel, *space)`, of the shape, the precision and the device of `x`."""
        weight = next(self.network.parameters())
        z = self.source.from_units(x).to(weight)
        few = max(1, MAX_VALUES_PER_CALL // z[0].numel()) if z.device.type == "cpu" else len(z)
        learned = torch.cat([self.network(part, part.new_zeros(len(part))) for part in z.split(few)])
        return self.target.to_units(learned.to(x))


@dataclass(frozen=True, repr=False)
class StoredSurrogate(Brief):
    """A learned map as a file holds it.

    Arguments:
        map: The map.
        grid: Description of the grid of both fields, in JSON types.
        units: Units of input and output.
        operator: The solver that it was trained on, as `build_operator` reads it; None if the data did not name it.
        residuals: Solver minus map for held-out fields, shape `(pairs, channel, *space)`, float32, in units.
        witness: One held-out field and its solution, shape `(2, channel, *space)`, by which the solver is recognised.
        provenance: Record of the training and the measured `error`, in JSON types.
        sha256: Digest of the file.
    """

    map: LearnedMap
    grid: dict[str, Any]
    units: tuple[str, str]
    operator: dict[str, Any] | None
    residuals: Tensor
    witness: Tensor
    provenance: dict[str, Any]
    sha256: str = ""

    def about(self) -> dict[str, object]:
        """What a short description shows."""
        return {
            "network": type(self.map.network).__name__,
            "solver": "unknown" if self.operator is None else self.operator.get("name", "?"),
            "fields": f"{tuple(self.witness.shape[1:])} in {self.units[0]} -> {self.units[1]}",
        }

    def to(self, device: torch.device | str) -> StoredSurrogate:
        """The same, its network run elsewhere."""
        self.map.network.to(device)
        return self


def to_entry(stored: StoredSurrogate) -> dict[str, Any]:
    """Return the checkpoint entry: nested dictionaries of tensors, numbers and text."""
    units = {name: {"shift": u.shift.cpu(), "scale": u.scale.cpu()} for name, u in _units(stored.map).items()}
    network = network_description(stored.map.network)
    return {
        "version": VERSION,
        "network": network,
        "weights": {name: value.detach().cpu() for name, value in stored.map.network.state_dict().items()},
        **units,
        "grid": stored.grid,
        "units": list(stored.units),
        "operator": stored.operator,
        "residuals": stored.residuals.cpu(),
        "witness": stored.witness.cpu(),
        "provenance": with_plugins(stored.provenance, network),
    }


def from_entry(entry: Mapping[str, Any], sha256: str = "") -> StoredSurrogate:
    """The inverse of `to_entry`.

    Raises:
        InfieldError: The network has an unknown name.
    """
    network = build_network(entry["network"])
    network.load_state_dict(dict(entry["weights"]))
    network.eval().requires_grad_(False)
    source, target = (Standardisation(entry[name]["shift"], entry[name]["scale"]) for name in ("source", "target"))
    map_ = LearnedMap(network, source, target)
    units, residuals, witness = tuple(entry["units"]), entry["residuals"], entry["witness"]
    if len(units) != 2 or residuals.ndim < 3 or len(residuals) < 2 or witness.shape != (2, *residuals.shape[1:]):
        raise ValueError(f"units {units}, residuals {tuple(residuals.shape)}, witness {tuple(witness.shape)}")
    return StoredSurrogate(
        map_, entry["grid"], units, entry["operator"], residuals, witness, entry["provenance"], sha256
    )


def load_learned_map(path: str | Path, device: torch.device | str = "cpu") -> StoredSurrogate:
    """Load a learned map from its checkpoint; no other file is needed, and nothing in it is executed.

    Arguments:
        path: A checkpoint of `infield fit`, or the slim file that it leaves beside it (`surrogate.ckpt`).
        device: Device of the network.

    Raises:
        InfieldError: As `read_entry`; or a part is missing or of another shape.
    """
    stored: StoredSurrogate = load_checkpoint(path, KIND, device)
    return stored


def _units(learned: LearnedMap) -> dict[str, Standardisation]:
    return {"source": learned.source, "target": learned.target}


STORED = StoredKind(KIND, VERSION, to_entry, from_entry)
