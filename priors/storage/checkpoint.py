"""Checkpoints of `infield fit`: reading what one holds, of any kind, and writing the slim file of it.

The entry of a kind is documented where it is defined (`priors.storage.flow_entry` for the priors of flows); all of it
is plain tensors and JSON types.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.registry import Storable, entry_key
from infield.core.renamed import old_names

if TYPE_CHECKING:
    from infield.priors.flows.flow import LearnedFlow
else:
    __getattr__ = old_names(__name__)


def read_entry(path: str | Path, kind: str = "prior") -> dict[str, Any]:
    """Read what a checkpoint stores of a prior, or of another kind; nothing in the file is executed.

    Raises:
        InfieldError: The file is missing or corrupt, holds nothing of that kind, or is of a newer version.
    """
    found, entry = read_entry_of_any_kind(path, kind)
    if found != kind:
        raise wrong_kind(path, found, kind)
    return entry


def wrong_kind(path: str | Path, found: str, kind: str) -> InfieldError:
    """The error about a checkpoint of another kind than expected."""
    return InfieldError(
        where=f"{path}: '{entry_key(kind)}'",
        found="no such entry",
        expected=f"a {kind} trained by `infield fit`",
        remedy=f"this checkpoint is a {found}",
    )


def read_entry_of_any_kind(path: str | Path, expected: str = "prior") -> tuple[str, dict[str, Any]]:
    """The kind of what `infield fit` trained, and what the checkpoint stores of it; nothing in the file is executed.

    Arguments:
        path: The checkpoint.
        expected: Kind that messages name as expected.

    Raises:
        InfieldError: The file is missing or corrupt, holds nothing of ours, or is of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise InfieldError(
            where=path, found="no file there", expected=f"the checkpoint of a {expected}", remedy="check the path"
        )
    check_checksums(path)
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


def check_checksums(path: Path) -> None:
    """Check the CRC-32 of every member of a checkpoint, which torch stores and does not look at.

    Raises:
        InfieldError: A member is not as it was written.
    """
    if not zipfile.is_zipfile(path):  # of the days before torch 1.6, or no checkpoint
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        damaged = " ".join(str(error).split())
    if damaged is not None:
        raise InfieldError(
            where=path,
            found=f"a checksum that does not fit its contents ({damaged})",
            expected="the file as it was written",
            remedy="it is corrupt, copy or write it again",
        )


@contextmanager
def parts_of(path: str | Path, kind: str) -> Iterator[None]:
    """Explain in one line what is wrong with the nested parts of an entry."""
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


def load_checkpoint(path: str | Path, kind: str | None = None, device: torch.device | str = "cpu") -> Any:
    """Load what a checkpoint holds, of any kind of the registry; no other file is needed, nothing in it is executed.

    `infield.load_prior` is this function.

    Arguments:
        path: A checkpoint of `infield fit`, or the slim file that it leaves beside it.
        kind: The kind that is expected; None for any.
        device: Device of its tensors.

    Returns:
        A `LearnedFlow`, a prior of lightcones, a model trained for a family of measurements, or a surrogate of a
        solver, with averaged weights, its network in evaluation mode.

    Raises:
        InfieldError: As `read_entry_of_any_kind`, or it is of another kind, or a part is missing or of another shape.
    """
    found, entry = read_entry_of_any_kind(path) if kind is None else (kind, read_entry(path, kind))
    return build_entry(path, found, entry, device)


def load_of_any_kind(path: str | Path, device: torch.device | str = "cpu") -> tuple[str, Any]:
    """The kind of what a checkpoint holds, and that, as `load_checkpoint`.

    Raises:
        InfieldError: As `load_checkpoint`.
    """
    kind, entry = read_entry_of_any_kind(path)
    return kind, build_entry(path, kind, entry, device)


def build_entry(path: str | Path, kind: str, entry: Mapping[str, Any], device: torch.device | str = "cpu") -> Any:
    """Build what an entry holds that `read_entry_of_any_kind` has read.

    Arguments:
        path: The checkpoint.
        kind, entry: What was read of it.
        device: Device of its tensors.

    Returns:
        As `load_checkpoint`.

    Raises:
        InfieldError: A part is missing or of another shape.
    """
    stored: Storable = registry.load("checkpoints", kind)
    with parts_of(path, kind):
        return stored.from_entry(entry, sha256=file_sha256(path)).to(device)


def load_flow_prior(path: str | Path, device: torch.device | str = "cpu") -> LearnedFlow:
    """Load a `LearnedFlow`, and nothing else, from its checkpoint; see `load_checkpoint`.

    Raises:
        InfieldError: As `load_checkpoint`; or the checkpoint is of another kind.
    """
    prior: LearnedFlow = load_checkpoint(path, "prior", device)
    return prior


def export_prior(
    checkpoint: str | Path,
    path: str | Path,
    *,
    overwrite: bool = False,
    half: bool = False,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write the prior, or the surrogate, of a training checkpoint without the state of the training.

    The file appears whole or not at all.

    Arguments:
        checkpoint: A checkpoint of `infield fit`, or a slim one.
        path: The file to write.
        overwrite: Replace a file that exists.
        half: Weights of networks in half precision, which moves each by a relative 2^-11 at most; they are used in
            single precision again.
        about: Further entries of its provenance, in JSON types.

    Raises:
        InfieldError: As `read_entry_of_any_kind`, or the output exists, or a weight is too large for half precision.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InfieldError(
            where=path, found="an existing file", expected="a new path", remedy="choose another or overwrite it"
        )
    kind, entry = read_entry_of_any_kind(checkpoint)
    if half:
        with parts_of(checkpoint, kind):
            entry = _with_half_weights(entry)
    if about:
        entry = {**entry, "provenance": {**entry["provenance"], **about}}
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


def weights_sha256(network: nn.Module) -> str:
    """Digest of the weights of a network that no file holds, in hexadecimal."""
    digest = hashlib.sha256()
    for name, weight in network.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def file_sha256(path: str | Path) -> str:
    """Digest of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
