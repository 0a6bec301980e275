"""Layouts of planes that are put right before anything is placed: axes that decrease, a last point that repeats the
first of a period."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from infield.datasets.wall_pressure.readers.raw_planes import Positions, RawPlanes
from infield.physics.wall_pressure.wall_units import SPANWISE, STREAMWISE

SAME = 1e-6
"""Lines of a plane are the same where they differ by no more than this fraction of its standard deviation."""

AXES = (SPANWISE, STREAMWISE)


def with_increasing_axes(raw: RawPlanes) -> RawPlanes:
    """Planes whose positions increase along z and x: an axis that decreases is turned, positions and values."""
    decreasing = [
        name
        for name in AXES
        if name in raw.coordinates
        and len(values := np.asarray(raw.coordinates[name].values)) > 1
        and (np.diff(values) < 0).all()
    ]
    if not decreasing:
        return raw
    turned = tuple(slice(None, None, -1) if name in decreasing else slice(None) for name in AXES)
    return replace(
        raw,
        read=lambda times, wall: raw.read(times, wall)[(slice(None), *turned)],
        coordinates={
            name: replace(positions, values=positions.values[::-1]) if name in decreasing else positions
            for name, positions in raw.coordinates.items()
        },
        history=(*raw.history, *(f"{name} turned, since its positions decrease" for name in decreasing)),
    )


def without_repeated_points(raw: RawPlanes, plane: np.ndarray) -> tuple[RawPlanes, np.ndarray]:
    """Planes, and the first of them, without a last line that repeats the first.

    Codes that close the period for their plots write it; the axis is periodic then. The first plane decides, unless it
    is constant along the axis.

    Arguments:
        raw: Planes with increasing positions.
        plane: The first of them, shape `(z, x)`.
    """
    repeated = [name for i, name in enumerate(AXES) if _repeats(plane if i == 0 else plane.T)]
    if not repeated:
        return raw, plane
    kept = tuple(slice(None, -1) if name in repeated else slice(None) for name in AXES)

    def without(name: str, positions: Positions) -> Positions:
        return Positions(positions.values[:-1], positions.units, True) if name in repeated else positions

    found = replace(
        raw,
        read=lambda times, wall: raw.read(times, wall)[(slice(None), *kept)],
        sizes={name: n - (name in repeated) for name, n in raw.sizes.items()},
        coordinates={name: without(name, positions) for name, positions in raw.coordinates.items()},
        history=(
            *raw.history,
            *(f"last point along {name} left out, since it repeats the first; taken as periodic" for name in repeated),
        ),
    )
    return found, plane[kept]


def _repeats(plane: np.ndarray) -> bool:
    """Whether the last line along the first axis is the first one, and not the one before it as well."""
    spread = float(plane.std())
    if len(plane) < 4 or not spread > 0:
        return False
    return bool(np.abs(plane[-1] - plane[0]).max() <= SAME * spread < np.abs(plane[-1] - plane[-2]).max())
