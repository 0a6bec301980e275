"""Raw binary planes, as Fortran writes them, by a YAML descriptor beside the file:

file: p_wall.bin          # beside the descriptor
dtype: float64            # or float32
byte_order: little        # or big
order: [x, z, time]       # as Fortran declares the array, fastest first
nx: 4800
nz: 800
nstep: 500                # may be left out: as many as the file holds
offset: 0                 # bytes before the first plane
record_marker: 0          # 4 where each plane is a record of an unformatted sequential file
lengths: {x: 50.2655, z: 4.18879}   # periods in half heights
u_tau: 0.06               # and nu, rho, half_height, re_tau, as far as known
start: 0.0                # time of the first plane, and
dt: 0.56                  # between planes, in the units of u_tau and h; may be left out
wall: bottom
pressure_units: "1"       # own units of u_tau and rho; or 'rho u_tau^2'
title: wall pressure at Re_tau 1000
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from infield.core.checks import is_number, is_whole
from infield.core.errors import InfieldError
from infield.datasets.wall_pressure.readers.common import UserMetadata
from infield.datasets.wall_pressure.readers.raw_planes import Positions, RawPlanes

_WORDS = ("file", "dtype", "byte_order", "order", "wall", "pressure_units", "title", "lengths")
_COUNTS = ("nx", "nz", "nstep", "offset", "record_marker")
_FLOW = ("re_tau", "u_tau", "nu", "half_height", "rho")
_NUMBERS = (*_FLOW, "dt", "start")


def described_planes(path: Path, stated: UserMetadata, stack: ExitStack) -> RawPlanes:
    """As `binary_planes`: a reader of the registry."""
    stated.refuse(path, "a descriptor, which holds it", "variable", "order", "flow")
    return binary_planes(path)


def binary_planes(path: Path) -> RawPlanes:
    """The planes that a descriptor describes; the file is mapped, not read.

    Raises:
        InfieldError: The descriptor is no such one, or the file is of another size than it states.
    """
    entries = _descriptor(path)
    source = path.parent / str(entries.get("file", ""))
    if not source.is_file():
        raise InfieldError(where=f"{path}: 'file'", found=f"nothing at {source}", expected="the binary file")
    order = entries.get("order", ["x", "z", "time"])
    if not isinstance(order, list) or sorted(map(str, order)) != ["time", "x", "z"]:
        raise InfieldError(where=f"{path}: 'order'", found=order, expected="x, z and time, fastest first")
    sizes = {axis: _count(path, entries, f"n{axis}") for axis in ("x", "z")}
    dtype, mapped, sizes["time"] = _values(path, source, entries, order, sizes)
    slow_first = order[::-1]

    def read(times: slice, wall: int) -> np.ndarray:
        stored = mapped().reshape([sizes[axis] for axis in slow_first])  # mapped anew: what was read is let go of
        return np.array(np.transpose(stored, [slow_first.index(axis) for axis in ("time", "z", "x")])[times])

    lengths = _lengths(path, entries)
    coordinates = {}
    if "dt" in entries:
        times = float(entries.get("start", 0.0)) + float(entries["dt"]) * np.arange(sizes["time"])
        coordinates["time"] = Positions(times)
    wall = entries.get("wall")
    return RawPlanes(
        path=source,
        kind="raw binary",
        sizes={**sizes, "wall": 1},
        read=read,
        flow={**{name: float(entries[name]) for name in _FLOW if name in entries}, **lengths},
        pressure_units=str(entries.get("pressure_units", "")),
        coordinates=coordinates,
        length_units="h",
        walls=None if wall is None else (int(wall == "top"),),
        provenance={
            "descriptor": path.name,
            "dtype": dtype.str,
            "order": order,
            "title": str(entries.get("title", "")),
        },
        order_is_named=False,
        z_is_fastest=order.index("z") < order.index("x"),
    )


def _values(
    path: Path, source: Path, entries: Mapping[str, Any], order: list[str], sizes: Mapping[str, int]
) -> tuple[np.dtype[Any], Callable[[], np.ndarray], int]:
    """Type of the values, what maps all of them in the order of the file, and the number of planes."""
    dtype = _dtype(path, entries)
    marker, offset = _count(path, entries, "record_marker", 0), _count(path, entries, "offset", 0)
    if marker not in (0, 4, 8) or (marker and order[-1] != "time"):
        raise InfieldError(
            where=f"{path}: 'record_marker'",
            found=f"{marker} in the order {order}",
            expected="0, or 4 or 8 with time slowest",
        )
    payload = sizes["x"] * sizes["z"] * dtype.itemsize
    total = source.stat().st_size
    held, rest = divmod(max(total - offset, 0), payload + 2 * marker)
    count = _count(path, entries, "nstep", held)
    if held != count or rest or count < 1:
        raise InfieldError(
            where=source,
            found=f"{total} bytes, {held} planes of {sizes['x']} x {sizes['z']} {dtype} and {rest} bytes more",
            expected=f"{max(count, 1)} planes",
            remedy="it is truncated, or the descriptor is of another file",
        )
    if not marker:
        return dtype, lambda: np.memmap(source, mode="r", dtype=dtype, offset=offset), count
    length = np.dtype(f"{dtype.byteorder if dtype.byteorder in '<>' else '='}u{marker}")
    record = np.dtype([("head", length), ("plane", dtype, (payload // dtype.itemsize,)), ("tail", length)])
    stored = np.memmap(source, mode="r", dtype=record, offset=offset)
    for i in (0, count - 1):
        found = int(stored["head"][i]), int(stored["tail"][i])
        if found != (payload, payload):
            raise InfieldError(
                where=source,
                found=f"record markers {found[0]} and {found[1]} around plane {i}",
                expected=payload,
                remedy="another byte_order, nx, nz, offset or record_marker is right",
            )
    return dtype, lambda: np.memmap(source, mode="r", dtype=record, offset=offset)["plane"], count


def _descriptor(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InfieldError(
            where=path, found="no such file", expected="the YAML descriptor of a binary file", remedy="check the path"
        )
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InfieldError(where=path, found=f"no readable YAML ({reason})", expected="a descriptor") from None
    if not isinstance(entries, dict):
        raise InfieldError(where=path, found=type(entries).__name__, expected="entries such as nx, nz and lengths")
    known = (*_WORDS, *_COUNTS, *_NUMBERS)
    unknown = sorted(set(map(str, entries)) - set(known))
    if unknown:
        raise InfieldError(
            where=path, found=f"the entries {', '.join(unknown)}", expected=f"some of {', '.join(known)}"
        )
    for name in _NUMBERS:
        if name in entries:
            _number(path, name, entries[name])
    if entries.get("wall") not in (None, "bottom", "top"):
        raise InfieldError(where=f"{path}: 'wall'", found=f"{entries['wall']!r}", expected="bottom or top")
    return entries


def _number(path: Path, name: str, value: object) -> float:
    if not is_number(value):
        remedy = " (YAML takes 1.0e-4 for a number, 1e-4 for text)" if isinstance(value, str) else ""
        raise InfieldError(where=f"{path}: '{name}'", found=f"{value!r}", expected=f"a number{remedy}")
    return float(value)


def _count(path: Path, entries: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = entries.get(name, default)
    least = 2 if name in ("nx", "nz") else 0
    if not is_whole(value, least):
        found = "nothing" if value is None else repr(value)
        raise InfieldError(where=f"{path}: '{name}'", found=found, expected=f"a whole number of at least {least}")
    return value


def _dtype(path: Path, entries: Mapping[str, Any]) -> np.dtype[Any]:
    name, order = entries.get("dtype", "float64"), entries.get("byte_order", "little")
    if name not in ("float32", "float64") or order not in ("little", "big"):
        raise InfieldError(
            where=path, found=f"dtype {name!r} and byte_order {order!r}", expected="float32 or float64, little or big"
        )
    return np.dtype(name).newbyteorder("<" if order == "little" else ">")


def _lengths(path: Path, entries: Mapping[str, Any]) -> dict[str, float]:
    lengths = entries.get("lengths", {})
    if not isinstance(lengths, dict) or not set(lengths) <= {"x", "z"}:
        raise InfieldError(
            where=f"{path}: 'lengths'", found=f"{lengths!r}", expected="half heights as {x: 12.566, z: 4.189}"
        )
    found = {f"length_{axis}": _number(path, f"lengths.{axis}", value) for axis, value in lengths.items()}
    for name, value in found.items():
        if value <= 0:
            raise InfieldError(where=f"{path}: '{name}'", found=f"{value:g}", expected="more than 0")
    return found
