"""What cannot be of lightcones: redshifts that are frequencies, distances of other units, slices never filled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from infield.core.errors import InfieldError
from infield.datasets.cm21.cosmology import LINE_MHZ, cosmology, distances_of

MAX_REDSHIFT = 100.0
"""Of the 21 cm line: distances are inverted up to there, and no simulation of reionisation begins earlier."""

DISTANCE_RTOL = 0.2
"""Relative difference of distances from those of the default cosmology; other cosmologies make up to 12 %."""

LITTLE_H, LITTLE_H_RTOL = 0.677, 0.03
"""Ratio of lengths in Mpc and in Mpc/h, and how far it varies between cosmologies (67 to 70 km/s/Mpc)."""

MAX_CELL_RATIO = 3.0
"""Of the sides of a cell across and along the line of sight in simulated lightcones."""

MAX_MILLIKELVIN = 1e5
"""Magnitude of a simulated 21 cm signal: it is below 1e3 mK in any model."""

MIN_SPREAD = 0.6
"""Magnitude in mK below which a whole cone is more likely in kelvin: neutral gas is at some 10 mK at least."""


def check_redshifts(where: object, redshift: np.ndarray) -> None:
    """Refuse numbers that are no redshifts of the 21 cm line.

    Raises:
        InfieldError: They are not finite, not positive, or beyond `MAX_REDSHIFT`; where they would be frequencies of
            the line, the message states it.
    """
    values = np.asarray(redshift, dtype=float)
    if values.size == 0 or not np.isfinite(values).all():
        raise InfieldError(where=where, found="redshifts that are not finite", expected="those of the 21 cm line")
    low, high = float(values.min()), float(values.max())
    if 0 < low and high <= MAX_REDSHIFT:
        return
    found = f"redshifts {low:g} to {high:g}"
    for scale, unit in ((1.0, "MHz"), (1e6, "Hz")):
        ends = LINE_MHZ * scale / np.array([high, low]) - 1 if low > 0 else np.array([-1.0])
        if (ends > 0).all() and (ends < MAX_REDSHIFT).all():
            raise InfieldError(
                where=where,
                found=found,
                expected=f"0 to {MAX_REDSHIFT:g}",
                remedy=f"they look like frequencies in {unit}: give z = {LINE_MHZ * scale:.10g} / frequency - 1, "
                f"here {ends[0]:.4g} to {ends[1]:.4g}",
            )
    raise InfieldError(where=where, found=found, expected=f"those of the 21 cm line, above 0 up to {MAX_REDSHIFT:g}")


def check_distances(where: object, distance: np.ndarray, redshift: np.ndarray) -> None:
    """Refuse distances that no usual cosmology gives these redshifts.

    Raises:
        InfieldError: They run against the redshifts, or differ by more than `DISTANCE_RTOL`.
    """
    if not np.isfinite(distance).all() or (np.sign(np.diff(distance)) != np.sign(np.diff(redshift))).any():
        raise InfieldError(
            where=where,
            found=f"distances {distance[0]:g} to {distance[-1]:g} at redshifts {redshift[0]:g} to {redshift[-1]:g}",
            expected="comoving distances in Mpc that increase with redshift",
        )
    usual = distances_of(redshift, cosmology())
    ratio = distance / usual
    worst = int(np.abs(np.log(np.clip(ratio, 1e-300, None))).argmax())
    if abs(ratio[worst] - 1) > DISTANCE_RTOL:
        hint = "they look like Mpc/h: divide them by h" if abs(ratio[worst] / LITTLE_H - 1) < 0.1 else ""
        raise InfieldError(
            where=where,
            found=f"a distance of {distance[worst]:.4g} at redshift {redshift[worst]:.4g}",
            expected=f"the comoving distance in Mpc, about {usual[worst]:.4g}",
            remedy=hint or "check the units, and that distances and redshifts are of the same cells",
        )


def check_cell(
    where: object, cell: float, distance: np.ndarray, little_h: float = LITTLE_H, *, stated: bool = True
) -> None:
    """Refuse a box in Mpc/h, whose cells across are h, or 1/h, times as long as along the line of sight; and cells that
    are far from cubes.

    Arguments:
        where: The file.
        cell: Side across, in Mpc.
        distance: Comoving distances of the cells, in Mpc.
        little_h: Of the cosmology.
        stated: Whether the box was, or could be, stated by the user.

    Raises:
        InfieldError: They are.
    """
    of_file = "distances and box are not of one run, or not both in Mpc: save the cone again"
    along = float(abs(distance[-1] - distance[0])) / (len(distance) - 1)
    if not 1 / MAX_CELL_RATIO < cell / along < MAX_CELL_RATIO:
        raise InfieldError(
            where=where,
            found=f"cells of {cell:.4g} Mpc across and {along:.4g} Mpc along the line of sight",
            expected="about cubic ones, as simulations have them",
            remedy="check the units of the redshifts, and state the box in Mpc ({box})" if stated else of_file,
            parameters=["box"],
        )
    for factor, words in ((little_h, "times"), (1 / little_h, "divided by")):
        if abs(cell / along / factor - 1) < LITTLE_H_RTOL:
            raise InfieldError(
                where=where,
                found=f"cells of {cell:.4g} across and {along:.4g} Mpc along the line of sight, whose ratio is h",
                expected="both in Mpc",
                remedy=f"state the box in Mpc ({{box}}): its length in Mpc/h is that in Mpc {words} h"
                if stated
                else of_file,
                parameters=["box"],
            )


def check_kelvin(where: object, values: np.ndarray) -> None:
    """Refuse temperatures in kelvin where nothing states their units.

    Raises:
        InfieldError: All of them are below `MIN_SPREAD`.
    """
    largest = float(np.nanmax(np.abs(values))) if values.size else 0.0
    if 0 < largest < MIN_SPREAD:
        raise InfieldError(
            where=where,
            found=f"temperatures of at most {largest:.3g}, with no units",
            expected="mK, of which there are more",
            remedy="they look like K: state the units ({units}, or mK if they are so faint)",
            parameters={"units": "K"},
        )


def check_cone(path: Path, values: np.ndarray, number: int, *, simulated: bool = True) -> None:
    """Refuse a cone with slices that were never filled, or with values that no signal has.

    A line of sight is filled slice by slice. One slice after another without a single datum is an ionised universe only
    where the slices before it have become ionised step by step.

    Arguments:
        path: The file.
        values: mK, `(x, y, los)`, in the order of z.
        number: Of the cone in its file.
        simulated: Whether values above `MAX_MILLIKELVIN` are damage; foregrounds of observed cubes are brighter.

    Raises:
        InfieldError: It has; the message names the slices.
    """
    where = f"{path}: cone {number}"
    if simulated:
        wild = np.flatnonzero((np.abs(values) > MAX_MILLIKELVIN).any((0, 1)))
        if wild.size:
            raise InfieldError(
                where=where,
                found=f"values up to {float(np.abs(values).max()):.3g} mK in {slices(wild)}",
                expected=f"at most {MAX_MILLIKELVIN:g} mK",
                remedy="the file is damaged: simulate that cone again",
            )
    filled = (values != 0).mean((0, 1))
    empty = filled == 0
    if empty.all():
        refuse_unfilled(where, np.arange(values.shape[2]), values.shape[2])
    if empty.any():
        edges = np.flatnonzero(empty[:-1] != empty[1:])
        abrupt = [i for i in edges if max(filled[i], filled[i + 1]) > 0.5]
        if abrupt:
            refuse_unfilled(where, np.flatnonzero(empty), values.shape[2])


def refuse_unfilled(where: object, indices: np.ndarray, count: int) -> None:
    """InfieldError naming slices that are zero because nothing was written to them."""
    raise InfieldError(
        where=where,
        found=f"zeros alone in {slices(indices)} of {count}, which were never filled",
        expected="every slice",
        remedy="finish the run, or keep the slices before them ({depth}) if they are at the far end",
        parameters=["depth"],
    )


def slices(indices: np.ndarray) -> str:
    """Text such as "slices 0 to 19", of the first three ranges."""
    breaks = np.flatnonzero(np.diff(indices) > 1)
    starts, stops = np.append(indices[0], indices[breaks + 1]), np.append(indices[breaks], indices[-1])
    ranges = [f"{a}" if a == b else f"{a} to {b}" for a, b in zip(starts, stops, strict=True)]
    more = f" and {len(ranges) - 3} more" if len(ranges) > 3 else ""
    return f"slice{'s' * (len(indices) > 1)} {', '.join(ranges[:3])}{more}"
