"""Learned priors as files: everything that a prior is, in one checkpoint, as plain tensors and JSON types.

Reading and writing of such files is shared with the surrogates of solvers (`priors.surrogates.learned_map`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.registry import Storable, StoredKind, entry_key
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Eigenbasis, Hartley, LeadingDirections, Modes, Pixels
from infield.priors.flows.flow import FlowPrior
from infield.priors.gaussian.spectral_density import fold, unfold
from infield.priors.networks.patched import Patched
from infield.priors.networks.point_network import PointNetwork, points_of

KIND = "prior"
ENTRY = entry_key(KIND)
VERSION = 2
"""2: `skip` may be `scalar`, a Fourier neural operator may have padding and gates, modes may be leading directions."""


def network_description(network: nn.Module) -> dict[str, Any]:
    """Name and arguments from which `load_prior` rebuilds a network, and the package that it is of, if not this one.

    Raises:
        InfieldError: The network is none of those with a name.
    """
    name = registry.name_of("networks", type(network))
    if name is None:
        expected = ", ".join(registry.names("networks"))
        raise InfieldError(where="network of a flow", found=type(network).__name__, expected=f"one of {expected}")
    arguments = dict(network.arguments)  # type: ignore[arg-type]
    if isinstance(network, Patched):
        arguments["network"] = network_description(network.inner)
    package = registry.find("networks", name).package
    of = {} if package == registry.HOUSE else {"package": package}
    return {"name": name, "arguments": arguments, **of}


def with_plugins(provenance: Mapping[str, Any], network: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of its making, with the other packages, and their versions, that its network is of.

    Arguments:
        provenance: What else it says.
        network: As `network_description` returns it.
    """
    packages, inner = {}, network["arguments"].get("network")
    for part in (network, inner if isinstance(inner, Mapping) else {}):
        if "package" in part:
            packages[part["package"]] = registry.find("networks", part["name"]).version
    return {**provenance, "plugins": packages} if packages else dict(provenance)


def to_entry(prior: FlowPrior, weights: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """What a checkpoint stores of a prior: nested dictionaries of tensors, numbers and text.

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


def _covariance_to_entry(prior: FlowPrior) -> dict[str, Any]:
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


def from_entry(entry: Mapping[str, Any], network: nn.Module | None = None, *, sha256: str = "") -> FlowPrior:
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
    modes = _modes_from_entry(entry["modes"])
    return FlowPrior(
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


def read_entry(path: str | Path, kind: str = "prior") -> dict[str, Any]:
    """Read what a checkpoint stores of a prior, or of another kind; nothing in the file is executed.

    Raises:
        InfieldError: The file is missing or corrupt, holds nothing of that kind, or is of a newer version.
    """
    found, entry = read_any_entry(path, kind)
    if found != kind:
        raise InfieldError(
            where=f"{path}: '{entry_key(kind)}'",
            found="no such entry",
            expected=f"a {kind} trained by `infield fit`",
            remedy=f"this checkpoint is a {found}",
        )
    return entry


def read_any_entry(path: str | Path, expected: str = "prior") -> tuple[str, dict[str, Any]]:
    """The kind of what `infield fit` trained, and what the checkpoint stores of it; nothing in the file is executed.

    Arguments:
        path: The checkpoint.
        expected: What a message says was expected.

    Raises:
        InfieldError: The file is missing or corrupt, holds nothing of ours, or is of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise InfieldError(
            where=path, found="no file there", expected=f"the checkpoint of a {expected}", remedy="check the path"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch passes on whatever its readers raise
        reason = str(error).strip().split("\n")[0].split(". ")[0]
        raise InfieldError(
            where=path,
            found=f"a file that cannot be read as a checkpoint ({type(error).__name__}: {reason})",
            expected="tensors and plain types",
            remedy="it is truncated, corrupt or not a checkpoint, copy or write it again",
        ) from error
    parts = checkpoint if isinstance(checkpoint, dict) else {}
    for kind in registry.names("checkpoints"):
        key = entry_key(kind)
        if isinstance(parts.get(key), dict):
            stored: Storable = registry.load("checkpoints", kind)
            version = parts[key].get("version")
            if not isinstance(version, int) or version > stored.version:
                package = registry.find("checkpoints", kind).package
                newer = "Infield" if package == registry.HOUSE else f"version of the package {package}"
                raise InfieldError(
                    where=f"{path}: '{key}.version'",
                    found=f"{version!r}",
                    expected=f"at most {stored.version}",
                    remedy=f"this file needs a newer {newer}",
                )
            return kind, parts[key]
    others = [key for key in parts if isinstance(key, str) and key.startswith(entry_key(""))]
    if others:
        kinds = ", ".join(registry.names("checkpoints"))
        raise InfieldError(
            where=f"{path}: '{others[0]}'",
            found="an entry of an unknown kind",
            expected=f"one of {kinds}",
            remedy="this file needs a newer Infield, or the package that wrote it",
        )
    raise InfieldError(
        where=f"{path}: '{entry_key(expected)}'",
        found="no such entry",
        expected=f"a {expected} trained by `infield fit`",
        remedy="this checkpoint is another's",
    )


@contextmanager
def parts_of(path: str | Path, kind: str) -> Iterator[None]:
    """Say in one line what is wrong with the parts of an entry that are put together inside."""
    key = entry_key(kind)
    try:
        yield
    except InfieldError as error:
        raise error.within(path) from error
    except KeyError as error:
        raise InfieldError(
            where=f"{path}: '{key}'", found=f"no {error}", expected="it there", remedy="the file is damaged"
        ) from error
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InfieldError(where=f"{path}: '{key}'", found=f"parts that do not fit together ({reason})") from error


def load_stored(path: str | Path, kind: str | None = None, device: torch.device | str = "cpu") -> Any:
    """Load what a checkpoint holds, of any kind of the registry; no other file is needed, nothing in it is executed.

    Arguments:
        path: A checkpoint of `infield fit`, or the slim file that it leaves beside it.
        kind: The kind that is expected; None for any.
        device: Where its tensors go.

    Raises:
        InfieldError: As `read_any_entry`, or it is of another kind, or a part is missing or of another shape.
    """
    found, entry = read_any_entry(path) if kind is None else (kind, read_entry(path, kind))
    stored: Storable = registry.load("checkpoints", found)
    with parts_of(path, found):
        return stored.from_entry(entry, sha256=file_sha256(path)).to(device)


def load_any(path: str | Path, device: torch.device | str = "cpu") -> Any:
    """`infield.load_prior`: what `infield fit` trained, of any kind, as the object that it is.

    Arguments:
        path: A checkpoint of `infield fit`, or the slim file that it leaves beside it.
        device: Where its tensors go.

    Returns:
        A `FlowPrior`, a prior of lightcones, a model trained for a family of measurements, or a surrogate of a solver.

    Raises:
        InfieldError: As `load_stored`.
    """
    return load_stored(path, device=device)


def load_prior(path: str | Path, device: torch.device | str = "cpu") -> FlowPrior:
    """Load a prior from its checkpoint; no other file is needed.

    Arguments:
        path: A checkpoint of `infield fit`, or the slim file that it leaves beside it (`prior.ckpt`).
        device: Where its tensors go.

    Returns:
        The prior with its averaged weights, its network in evaluation mode.

    Raises:
        InfieldError: As `read_entry`; or the network has an unknown name, or a part is missing or of another shape.
    """
    prior: FlowPrior = load_stored(path, KIND, device)
    return prior


def export_prior(checkpoint: str | Path, path: str | Path, *, overwrite: bool = False, half: bool = False) -> Path:
    """Write the prior, or the surrogate, of a training checkpoint without the state of the training.

    The file appears whole or not at all.

    Arguments:
        checkpoint: A checkpoint of `infield fit`, or a slim one.
        path: The file to write.
        overwrite: Replace a file that exists.
        half: Weights of networks in half precision, which moves each by a relative 2^-11 at most; they are used in
            single precision again.

    Raises:
        InfieldError: As `read_any_entry`, or the output exists, or a weight is too large for half precision.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InfieldError(
            where=path, found="an existing file", expected="a new path", remedy="choose another or ask to overwrite it"
        )
    kind, entry = read_any_entry(checkpoint)
    if half:
        with parts_of(checkpoint, kind):
            entry = _with_half_weights(entry)
    draft = path.with_name(path.name + ".partial")
    try:
        torch.save({entry_key(kind): entry}, draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def _with_half_weights(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry, and those inside it, with its `weights` in half precision."""

    def halved(weight: Tensor) -> Tensor:
        if not weight.is_floating_point():
            return weight
        if weight.abs().max() > torch.finfo(torch.float16).max:
            raise InfieldError(
                where="half precision", found=f"a weight of {float(weight.abs().max()):.3g}", expected="at most 65504"
            )
        return weight.half()

    kept: dict[str, Any] = {}
    for name, part in entry.items():
        if name == "weights":
            kept[name] = {key: halved(weight) for key, weight in part.items()}
        else:
            kept[name] = _with_half_weights(part) if isinstance(part, Mapping) else part
    return kept


def file_sha256(path: str | Path) -> str:
    """Digest of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build_network(description: Mapping[str, Any]) -> nn.Module:
    """The network that `network_description` describes, untrained.

    Raises:
        InfieldError: It has an unknown name.
    """
    name, package = description["name"], description.get("package")
    if not registry.known("networks", name):
        of = f" of the package {package}, which is not installed" if package else ""
        raise InfieldError(
            where="network", found=f"{name!r}{of}", expected=f"one of {', '.join(registry.names('networks'))}"
        )
    arguments = dict(description["arguments"])
    if isinstance(arguments.get("network"), Mapping):
        arguments["network"] = build_network(arguments["network"])
    network: nn.Module = registry.load("networks", name)(**arguments)
    return network


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


STORED = StoredKind(KIND, VERSION, to_entry, from_entry)
