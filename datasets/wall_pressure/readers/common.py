"""Planes of wall pressure as users have them, made even: axes in order, in wall units, checked, read block by block.

An adapter returns what it found in a file (`RawPlanes`); `make_source` turns that into a `WallPlaneSource`. Whatever is
corrected on the way is listed in its notes and in the history of the file that is written from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.datasets.wall_pressure.plane_file import WALLS, WallPlanes
from infield.datasets.wall_pressure.readers.checks import (
    check_order,
    check_values,
    checked_times,
    even,
    spans,
    time_gaps,
    unusual_level,
)
from infield.datasets.wall_pressure.readers.layouts import with_increasing_axes, without_repeated_points
from infield.datasets.wall_pressure.readers.raw_planes import RawPlanes
from infield.physics.wall_pressure.wall_units import (
    RE_TAU_RTOL,
    SPANWISE,
    STREAMWISE,
    WALL_LENGTH,
    WallUnits,
    in_wall_units,
)


@dataclass(frozen=True, kw_only=True)
class UserMetadata:
    """Metadata of the planes given by the user; they must agree with those of the file.

    Arguments:
        re_tau, u_tau, nu, half_height, rho: Of the flow, the last four in the file's own units.
        variable: Name of the pressure in the file.
        order: Names of its axes in the order of the file, slowest first: `time`, `wall`, `z`, `x`.
        lengths: Period of the domain along x and z in half heights.
        wall: "bottom", "top" or "both": which wall the planes are of, or which of both are read.
        flow: Name of a flow whose numbers are known, see `wall_plane_jhtdb.FLOWS`.
    """

    re_tau: float | None = None
    u_tau: float | None = None
    nu: float | None = None
    half_height: float | None = None
    rho: float | None = None
    variable: str | None = None
    order: tuple[str, ...] | None = None
    lengths: tuple[float, float] | None = None
    wall: str | None = None
    flow: str | None = None

    def refuse(self, path: Path, kind: str, *names: str) -> None:
        """InfieldError where something is stated that files of a kind have no use for."""
        for name in names:
            if getattr(self, name) is not None:
                raise InfieldError(where=path, found=f"{{{name}}}", expected=f"none for {kind}", parameters=[name])


@dataclass(frozen=True, kw_only=True)
class WallPlaneSource:
    """Planes that can be read in wall units.

    Arguments:
        planes: What they are.
        read: Reads planes by their numbers: p / (rho u_tau^2), shape `(samples, z, x)`, float64.
        notes: Notes for the user: corrections and gaps.
    """

    planes: WallPlanes
    read: Callable[[range], np.ndarray]
    notes: tuple[str, ...]


def make_source(raw: RawPlanes, stated: UserMetadata) -> WallPlaneSource:
    """Bring planes to wall units, lazily. Of two walls, the planes of one time follow each other, bottom first.

    Raises:
        InfieldError: Something is missing or contradicts itself; the message names it and its place.
    """
    where = str(raw.path)
    units = WallUnits.of(where, **_agreed(where, raw.flow, stated))
    walls, numbers = _walls(raw, stated)
    raw = with_increasing_axes(raw)
    raw, first = without_repeated_points(raw, raw.read(slice(0, 1), numbers[0])[0].astype(np.float64))
    notes: list[str] = list(raw.history)
    axes = tuple(_axis(raw, stated, units, name, notes) for name in (SPANWISE, STREAMWISE))
    time = _time(raw, units, notes)
    wall_units = all(in_wall_units(raw.units_of(name)) for name in (SPANWISE, STREAMWISE))
    scale = units.pressure(where, raw.pressure_units, lengths_in_wall_units=wall_units)
    if not raw.order_is_named:
        check_order(where, first, z_is_fastest=raw.z_is_fastest)
    notes += unusual_level(first * scale)
    count = len(numbers)

    def read(samples: range) -> np.ndarray:
        times = slice(samples.start // count, -(-samples.stop // count))
        found = [np.asarray(raw.read(times, wall), dtype=np.float64) for wall in numbers]
        for planes_of_wall in found:
            check_values(where, planes_of_wall, times.start)
        together = (np.stack(found, axis=1) * scale).reshape(-1, *found[0].shape[1:])
        return together[samples.start - times.start * count :][: len(samples)]

    provenance = {
        "source": raw.path.name,
        "format": raw.kind,
        "pressure_scale": scale,
        "pressure_units": raw.pressure_units,
        "mean_removed": "of each plane",
        "time_gaps": time_gaps(raw.coordinates["time"].values) if "time" in raw.coordinates else [],
        **raw.provenance,
    }
    history = (*notes, f"pressure times {scale:.8g}", "mean of each plane removed")
    planes = WallPlanes(
        grid=Grid(axes),
        samples=raw.sizes["time"] * count,
        re_tau=units.re_tau,
        u_tau=units.u_tau,
        nu=units.nu,
        half_height=units.half_height,
        wall="both" if count > 1 else WALLS[walls[0]],
        synthetic=raw.synthetic,
        time=None if time is None else np.repeat(time, count),
        walls=np.tile(walls, raw.sizes["time"]) if count > 1 else None,
        provenance=provenance,
        history=tuple(f"{raw.path.name}: {step}" for step in history),
    )
    return WallPlaneSource(planes=planes, read=read, notes=tuple(notes))


def _agreed(where: str, found: Mapping[str, float], stated: UserMetadata) -> dict[str, float | None]:
    """The flow by the metadata of file and user."""
    flow: dict[str, float | None] = {}
    for name in ("re_tau", "u_tau", "nu", "half_height", "rho"):
        inside, outside = found.get(name), getattr(stated, name)
        if inside is not None and outside is not None and abs(inside / outside - 1) > RE_TAU_RTOL:
            raise InfieldError(
                where=where,
                found=f"{name} {inside:g}",
                expected=f"{outside:g} as stated",
                remedy="it is of another flow, or the statement is wrong: leave it out to take the file's",
            )
        flow[name] = outside if inside is None else inside
    return flow


def _axis(raw: RawPlanes, stated: UserMetadata, units: WallUnits, name: str, notes: list[str]) -> Axis:
    """An axis in wall units from positions, or from the length of the domain."""
    where, n = f"{raw.path}: '{name}'", raw.sizes[name]
    length = _length(raw, stated, units, name)
    if name not in raw.coordinates:
        if length is None:
            raise InfieldError(
                where=where,
                found=f"neither positions nor a length of the domain for its {n} points",
                expected="one of them for the spacing",
                remedy="state the lengths ({lengths})",
                parameters=["lengths"],
            )
        return Axis(name, tuple(length / n * i for i in range(n)), WALL_LENGTH, periodic=True)
    positions = raw.coordinates[name]
    first, step = even(where, positions.values)
    factor = units.length(where, positions.units)
    first, step = first * factor, step * factor
    closes = positions.periodic
    if length is not None:
        _check_length(raw, where, name, step, length, units)
        if closes is False:
            raise InfieldError(where=where, found="periodic 0 and points that fill the period", expected="periodic 1")
        closes = True
    if closes is None:
        notes.append(f"{name} taken as open, since nothing marks it as periodic (stated lengths would)")
    return Axis(name, tuple(first + step * i for i in range(n)), WALL_LENGTH, bool(closes))


def _length(raw: RawPlanes, stated: UserMetadata, units: WallUnits, name: str) -> float | None:
    """Period of the domain along an axis in wall units, if user or file give it."""
    if stated.lengths is not None:
        return stated.lengths[0 if name == STREAMWISE else 1] * units.re_tau
    found = raw.flow.get(f"length_{name}")
    return None if found is None else found * units.length(f"{raw.path}: '{name}'", raw.units_of(name))


def _check_length(raw: RawPlanes, where: str, name: str, step: float, length: float, units: WallUnits) -> None:
    n, h = raw.sizes[name], units.re_tau
    if spans(n, step, length):
        return
    found, expected = f"{n} points that span {n * step / h:.4g} half heights", f"the {length / h:.4g} stated"
    if abs((n - 1) * step / length - 1) < 0.3 / n:
        raise InfieldError(
            where=where, found=found, expected=expected, remedy="the last point repeats the first, leave it out"
        )
    other = SPANWISE if name == STREAMWISE else STREAMWISE
    if other in raw.coordinates:
        there = raw.coordinates[other]
        step = even(where, there.values)[1] * units.length(where, there.units)
        if spans(raw.sizes[other], step, length):
            raise InfieldError(
                where=where,
                found=found,
                expected=f"{expected}, which '{other}' spans",
                remedy="the planes are in another order than stated: give it ({order}), or exchange the lengths",
                parameters=["order"],
            )
    raise InfieldError(
        where=where, found=found, expected=expected, remedy="give the whole period, or leave the lengths out"
    )


def _walls(raw: RawPlanes, stated: UserMetadata) -> tuple[np.ndarray, list[int]]:
    """Which walls are taken, 0 or 1, and their numbers in the file."""
    if stated.wall not in (None, "both", *WALLS):
        raise InfieldError(where="{wall}", found=repr(stated.wall), expected="bottom, top or both", parameters=["wall"])
    wanted = None if stated.wall in (None, "both") else WALLS.index(str(stated.wall))
    there = raw.walls
    if there is None:
        there = (0, 1) if raw.sizes["wall"] == 2 else (wanted or 0,)
    if stated.wall == "both" and len(there) < 2:
        raise InfieldError(
            where=raw.path, found="one wall", expected="both as stated", remedy="({wall})", parameters=["wall"]
        )
    if wanted is not None and wanted not in there:
        found = WALLS[there[0]]
        raise InfieldError(
            where=raw.path,
            found=f"planes of the {found} wall",
            expected=f"the {stated.wall} one",
            remedy="({wall})",
            parameters=["wall"],
        )
    chosen = sorted((wall, i) for i, wall in enumerate(there) if wanted in (None, wall))
    return np.array([wall for wall, _ in chosen], dtype=np.int8), [i for _, i in chosen]


def _time(raw: RawPlanes, units: WallUnits, notes: list[str]) -> np.ndarray | None:
    """Times in h/u_tau, where they are known."""
    if "time" not in raw.coordinates:
        return None
    positions = raw.coordinates["time"]
    times = checked_times(str(raw.path), positions.values, notes.append)
    factor = units.time(positions.units)
    if factor is None:
        known = units.u_tau is not None and units.half_height is not None
        why = "which are no units of time" if known else "since u_tau and h are not known"
        notes.append(f"times in units {positions.units!r} left out, {why}")
        return None
    return times * factor
