"""What a checkpoint stores of a `LearnedFlow`: everything that it is, as plain tensors and JSON types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from infield.core.errors import InfieldError
from infield.core.registry import StoredKind, entry_key
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Eigenbasis, Hartley, LeadingDirections, Modes, Pixels
from infield.priors.denoiser_check import warn_of_denoiser
from infield.priors.flows.flow import LearnedFlow
from infield.priors.gaussian.spectral_density import fold, unfold
from infield.priors.networks.patched import Patched
from infield.priors.networks.point_network import PointNetwork, points_of
from infield.priors.storage.network import build_network, network_description, with_plugins

KIND = "prior"
ENTRY = entry_key(KIND)
VERSION = 2
"""2: `skip` may be `scalar`, a Fourier neural operator may have padding and gates, modes may be leading directions."""


def to_entry(prior: LearnedFlow, weights: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """Return the checkpoint entry of a prior: nested dictionaries of tensors, numbers and text.

    Arguments:
        prior: The prior.
        weights: Weights of its network, where others than its own are to be stored (the averaged ones, in training).
    """
    weights = prior.network.state_dict() if weights is None else weights
    network = network_description(prior.network)
    return {
        "version": VERSION,
        "name": prior.name,
        "network": network,
        "weights": {name: value.detach().cpu() for name, value in weights.items()},
        "skip": prior.skip,
        "standardisation": {"shift": prior.standardisation.shift.cpu(), "scale": prior.standardisation.scale.cpu()},
        "grid": prior.grid_description,
        "units": prior.units,
        "channels": list(prior.channels),
        "modes": _modes_to_entry(prior.source.modes),
        "source": _slim(prior.source.diagonal),
        "covariance": _covariance_to_entry(prior),
        "mean": _slim(prior.mean),
        "provenance": with_plugins(prior.provenance, network),
    }


def _slim(x: Tensor) -> Tensor:
    """The same numbers; where all are one, it is stored once."""
    first = x.cpu().flatten()[:1]
    return first.clone().reshape([1] * x.ndim).expand(x.shape) if bool((x.cpu() == first).all()) else x.cpu()


def _covariance_to_entry(prior: LearnedFlow) -> dict[str, Any]:
    """A stationary law that is the same mirrored in each axis is stored over |k|: on a plane a quarter of it."""
    diagonal, space = prior.covariance.diagonal.cpu(), prior.covariance.event_shape[1:]
    folded = fold(diagonal)
    if (
        isinstance(prior.network, Patched)
        and prior.covariance.rank == 0
        and torch.equal(unfold(folded, space), diagonal)
    ):
        return {"folded": folded, "space": list(space)}
    return {"diagonal": diagonal, "factors": prior.covariance.factors.cpu()}


def _covariance_from_entry(entry: Mapping[str, Any], modes: Modes) -> Covariance:
    if "folded" in entry:
        return Covariance.diagonal_in(modes, unfold(entry["folded"], tuple(entry["space"])))
    return Covariance(modes, entry["diagonal"], entry["factors"])


def from_entry(entry: Mapping[str, Any], network: nn.Module | None = None, *, sha256: str = "") -> LearnedFlow:
    """The inverse of `to_entry`.

    Arguments:
        entry: What `to_entry` returned.
        network: A network to use as it is; without one it is built and gets the stored weights.
        sha256: Digest of the file.

    Raises:
        InfieldError: The network has an unknown name.
    """
    if network is None:
        network = build_network(entry["network"])
        network.load_state_dict(dict(entry["weights"]))
        if isinstance(network, PointNetwork):
            network = network.on(points_of(entry["grid"]))
        network.eval().requires_grad_(False)
    warn_of_denoiser(entry["name"], entry["provenance"])
    modes = _modes_from_entry(entry["modes"])
    return LearnedFlow(
        name=entry["name"],
        network=network,
        source=Covariance.diagonal_in(modes, entry["source"]),
        covariance=_covariance_from_entry(entry["covariance"], modes),
        mean=entry["mean"],
        standardisation=Standardisation(entry["standardisation"]["shift"], entry["standardisation"]["scale"]),
        skip=entry["skip"],
        grid_description=entry["grid"],
        units=entry["units"],
        channels=tuple(entry["channels"]),
        provenance={**entry["provenance"], "sha256": sha256} if sha256 else entry["provenance"],
        sha256=sha256,
    )


def _modes_to_entry(modes: Modes) -> dict[str, Any]:
    match modes:
        case Pixels():
            return {"name": "pixels"}
        case Hartley(ndim):
            return {"name": "hartley", "ndim": ndim}
        case Eigenbasis(vectors, shape):  # stored, because eigenvectors computed elsewhere may differ in sign and order
            return {"name": "eigenbasis", "vectors": vectors.cpu(), "shape": list(shape)}
        case LeadingDirections(reflector, rotation, shape):
            parts = {"reflector": reflector.cpu(), "rotation": rotation.cpu(), "shape": list(shape)}
            return {"name": "leading directions", **parts}
    raise InfieldError(
        where="modes of a source",
        found=type(modes).__name__,
        expected="pixels, hartley, eigenbasis or leading directions",
    )


def _modes_from_entry(entry: Mapping[str, Any]) -> Modes:
    match entry["name"]:
        case "pixels":
            return Pixels()
        case "hartley":
            return Hartley(entry["ndim"])
        case "eigenbasis":
            return Eigenbasis(entry["vectors"], tuple(entry["shape"]))
        case "leading directions":
            return LeadingDirections(entry["reflector"], entry["rotation"], tuple(entry["shape"]))
    raise InfieldError(
        where=f"'{ENTRY}.modes'",
        found=f"{entry['name']!r}",
        expected="pixels, hartley, eigenbasis or leading directions",
    )


STORED = StoredKind(KIND, VERSION, to_entry, from_entry, placement="any grid")
