"""What a file is, in a few numbers: exact digests, and projections that are the same to rounding."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

IGNORED = {"seconds", "versions", "date_created", "created", "date", "duration", "modified", "infield_runs"}
"""Attributes and variables that differ from run to run."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:\d\d)?)?")

TOLERANCE = 1e-5
"""Of projections, relative to the norm of the array: what single precision leaves of a sum in another order."""


def digest_of_array(array: Any) -> list:
    """`[sha256 of type, shape and bytes, projection, projection, norm]`; the numbers are float64."""
    values = np.ascontiguousarray(array)
    text = hashlib.sha256(f"{values.dtype.str} {values.shape}".encode())
    if values.dtype.kind not in "biufc":
        text.update(json.dumps(values.tolist(), default=str).encode())
        return [text.hexdigest()[:16]]
    text.update(values.tobytes())
    numbers = np.stack([values.real, values.imag]) if values.dtype.kind == "c" else values
    digest, projections = text.hexdigest()[:16], _projections(np.nan_to_num(numbers.astype("f8")).ravel())
    return [digest, *projections] if values.dtype.kind in "fc" else [digest]  # whole numbers have no rounding


def _projections(numbers: np.ndarray) -> list[float]:
    directions = np.random.default_rng(len(numbers)).standard_normal((2, len(numbers)))
    return [float(f"{x:.9g}") for x in (*(directions @ numbers), np.linalg.norm(numbers))]


def plain(value: Any) -> Any:
    """Attributes without seconds, dates and versions; JSON in text is read."""
    if isinstance(value, str):
        try:
            read = json.loads(value)
        except ValueError:
            return _DATE.sub("DATE", value)
        return plain(read) if isinstance(read, dict | list) else value
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in sorted(value.items()) if str(k) not in IGNORED}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def digest_of_attributes(attributes: Mapping[str, Any]) -> list:
    """`[sha256, sha256 without the values of floats, projection, projection, norm]`."""
    told, floats = plain(attributes), []

    def skeleton(value: Any) -> Any:
        if isinstance(value, float):
            floats.append(value)
            return "float"
        if isinstance(value, dict):
            return {k: skeleton(v) for k, v in value.items()}
        return [skeleton(v) for v in value] if isinstance(value, list) else value

    texts = (json.dumps(part, sort_keys=True, default=str) for part in (told, skeleton(told)))
    hashes = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]
    return [*hashes, *_projections(np.nan_to_num(np.array(floats, dtype="f8")))]


def digest_of_file(path: Path) -> dict[str, list]:
    """Every variable, coordinate and attribute of a zarr group."""
    with xr.open_zarr(path, consolidated=False, decode_cf=False) as file:
        found = {str(name): digest_of_array(v.values) for name, v in file.variables.items() if name not in IGNORED}
        attributes = {str(name): {"dims": list(v.dims), **v.attrs} for name, v in file.variables.items()}
        found["(attributes)"] = digest_of_attributes({"": dict(file.attrs), **attributes})
    return found


def digest_of_training(path: Path) -> dict[str, list]:
    """Every tensor of what a training made, by the dictionary that holds it."""
    found: dict[str, list[np.ndarray]] = {}

    def walk(where: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found.setdefault(where, []).append(value.cpu().double().numpy().ravel())
        elif isinstance(value, dict):
            for key, part in value.items():
                walk(f"{where}/{key}" if where.count("/") < 1 else where, part)

    for key, entry in torch.load(path, weights_only=True).items():
        if key.startswith("infield_"):
            walk(key, {name: part for name, part in entry.items() if name != "provenance"})
    return {where: digest_of_array(np.concatenate(parts)) for where, parts in found.items()}


def differences(before: Mapping[str, Any], after: Mapping[str, Any], *, rounding: bool = False) -> list[str]:
    """Names of what differs between two digests of one case.

    Arguments:
        before: Digests of the reference.
        after: Digests of this run.
        rounding: Compare projections to `TOLERANCE` instead of bytes; numbers without a fraction stay exact.
    """
    found = sorted(f"{name}: {'gone' if name in before else 'new'}" for name in before.keys() ^ after.keys())
    for name in sorted(before.keys() & after.keys()):
        a, b = before[name], after[name]
        if a == b:
            continue
        same = rounding and len(a) == len(b) > 3 and (len(a) == 4 or a[1] == b[1])
        if same:
            *first, norm = a[-3:]
            bound = TOLERANCE * max(norm, b[-1]) + 1e-12
            same = all(abs(x - y) <= bound for x, y in zip((*first, norm), b[-3:], strict=True))
        if not same:
            found.append(name)
    return found
