"""What can be wrong with planes: uneven positions, a wrong order of axes, gaps in time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from infield.core.errors import InfieldError

MAX_WRONG_CORRELATION, MIN_RIGHT_CORRELATION = 0.25, 0.5
"""A plane whose neighbours correlate by less than the first is read in a wrong order if another order gives more than
the second."""

GAP = 1.5
"""A time step longer than so many usual ones is a gap."""

GAPS_LISTED = 20


USUAL_LEVEL = 0.2, 20.0
"""Root mean square of wall pressure in rho u_tau^2: 1 to 5 in channels of Re_tau 100 to 10^5, with a margin of four."""

FAR = 1e4
"""A value farther from the median of its plane than so many median distances is none of the flow."""


def even(where: str, values: np.ndarray) -> tuple[float, float]:
    """First value and step of positions that are even but for the rounding of the file.

    Raises:
        InfieldError: They are not, or there are fewer than 2.
    """
    exact = np.asarray(values, dtype=np.float64)
    if len(exact) < 2 or not np.isfinite(exact).all():
        raise InfieldError(where=where, found=f"{len(exact)} positions", expected="at least 2 and all of them finite")
    step = (exact[-1] - exact[0]) / (len(exact) - 1)
    if not step > 0:
        raise InfieldError(
            where=where, found=f"positions from {exact[0]:g} to {exact[-1]:g}", expected="increasing ones"
        )
    straight = exact[0] + step * np.arange(len(exact))
    off = np.abs(exact - straight)
    rounding = 4 * float(np.finfo(np.float32).eps) * np.abs(exact).max()
    if off.max() > max(1e-3 * step, rounding):
        i = int(off.argmax())
        raise InfieldError(
            where=where,
            found=f"uneven positions, {exact[i]:g} where {straight[i]:g} is even",
            expected="the same spacing everywhere",
            remedy="interpolate the planes first",
        )
    return float(exact[0]), float(step)


def spans(n: int, step: float, length: float) -> bool:
    """Whether n points fill a period, within a third of a spacing."""
    return abs(n * step / length - 1) < 0.3 / n


def neighbour_correlation(plane: np.ndarray) -> tuple[float, float]:
    """Correlation of neighbours along the first and along the second axis of a plane; 1 for one without variance."""
    p = plane - plane.mean()
    variance = float((p**2).mean())
    if not variance > 0 or not math.isfinite(variance):
        return 1.0, 1.0
    return float((p[1:] * p[:-1]).mean() / variance), float((p[:, 1:] * p[:, :-1]).mean() / variance)


def check_order(where: str, plane: np.ndarray, *, z_is_fastest: bool) -> None:
    """Refuse a plane whose neighbours are unrelated, where they are related in another order of the same numbers.

    Arguments:
        plane: Shape `(z, x)`.
        z_is_fastest: Whether neighbours along z are neighbours in the file.

    Raises:
        InfieldError: It is read in a wrong order.
    """
    own = min(neighbour_correlation(plane))
    stored = plane.T if z_is_fastest else plane
    other = min(neighbour_correlation(stored.ravel().reshape(stored.shape[::-1])))
    if own < MAX_WRONG_CORRELATION and other > MIN_RIGHT_CORRELATION:
        raise InfieldError(
            where=where,
            found=(
                f"neighbours in the first plane that are as good as unrelated (correlation {own:.2f}), but related "
                f"({other:.2f}) where z and x change places"
            ),
            remedy="expected the axes in the order of the file: correct the order, or nx and nz",
        )


def check_values(where: str, planes: np.ndarray, first: int) -> None:
    """Refuse planes that were never filled, and values that are not of the flow; NaN is refused where it is written.

    Arguments:
        planes: Shape `(planes, z, x)`.
        first: Number of the first of them in the file.

    Raises:
        InfieldError: More than half of a plane is one value, or a value lies `FAR` away.
    """
    for i, plane in enumerate(planes, first):
        middle = float(np.median(plane))
        distances = np.abs(plane - middle)
        usual, farthest = float(np.median(distances)), float(distances.max())
        if usual == 0 and plane.size > 4:
            share = float((distances == 0).mean())
            raise InfieldError(
                where=where,
                found=f"the value {middle:g} at {share:.0%} of the points of plane {i}",
                expected="a pressure that varies",
                remedy="the plane was never filled, or half of it: leave it out",
            )
        if farthest > FAR * usual:
            value = plane.flat[int(distances.argmax())]
            raise InfieldError(
                where=where,
                found=f"{value:g} in plane {i}, {farthest / usual:.1g} times as far from its median as half of it is",
                expected="values of the flow",
                remedy="it is a fill value that nothing marks, or damaged: leave the plane out or mend it",
            )


def unusual_level(plane: np.ndarray) -> list[str]:
    """A note where the fluctuations of a plane in wall units are no wall pressure's: other units are likely."""
    level = float(plane.std())
    low, high = USUAL_LEVEL
    if low <= level <= high or not math.isfinite(level):
        return []
    return [
        f"the pressure's fluctuations are {level:.3g} rho u_tau^2, where those of walls are 1 to 5: its units, the "
        "density or u_tau may be others than stated"
    ]


def time_gaps(values: np.ndarray) -> list[tuple[int, float]]:
    """Planes before which time is missing, with the length of the step in usual ones; the first few."""
    steps = np.diff(np.asarray(values, dtype=np.float64))
    usual = float(np.median(steps)) if len(steps) > 1 else 0.0
    wide = np.flatnonzero(steps > GAP * usual) if usual > 0 else np.array([], dtype=int)
    return [(int(i) + 1, float(steps[i] / usual)) for i in wide[:GAPS_LISTED]]


def checked_times(where: str, values: np.ndarray, notes: Callable[[str], None]) -> np.ndarray:
    """Times of planes, float64; gaps are noted.

    Raises:
        InfieldError: A time does not come after the one before.
    """
    times = np.asarray(values, dtype=np.float64)
    steps = np.diff(times)
    if not np.isfinite(times).all():
        raise InfieldError(where=f"{where}: 'time'", found="NaN or infinity", expected="finite times")
    if (steps <= 0).any():
        back = int((steps <= 0).argmax()) + 1
        raise InfieldError(
            where=f"{where}: 'time'",
            found=f"{times[back]:g} after {times[back - 1]:g} at plane {back}",
            expected="increasing times",
            remedy="take the overlap of the runs out",
        )
    gaps = time_gaps(times)
    if gaps:
        longest = max(length for _, length in gaps)
        notes(
            f"{len(gaps)} gap{'s' * (len(gaps) > 1)} in time, the longest of {longest:.3g} usual steps; planes are "
            "kept as they are and none is made up"
        )
    return times
