"""Reference statistics of channel simulations: one-dimensional spectra and correlations of the pressure near the wall.

They are read from a folder of the user's (`wall_pressure/` of the folder of real data) and never shipped:
`channel_pressure_spectra.csv` (`re_tau, axis, k_h, e_pp`), of which the plain sum over the modes of one axis is the
variance, and `channel_pressure_correlations.csv` (`re_tau, axis, separation_h, separation_plus, r_pp`), both in wall
units at y+ of about 5 (Moser, Kim & Mansour 1999, Phys. Fluids 11, 943).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infield.core.errors import InfieldError

SPECTRA, CORRELATIONS = "channel_pressure_spectra.csv", "channel_pressure_correlations.csv"
SOURCE = "Moser, Kim & Mansour 1999"
FAR = 1.25
"""A table of a Reynolds number that differs by a larger factor is of another flow."""


@dataclass(frozen=True)
class WallTable:
    """The statistics of one simulation.

    Arguments:
        re_tau: Friction Reynolds number.
        spectra: For `x` and `z`: wavenumbers in radians per nu/u_tau, and the variance of each mode.
        correlations: For `x` and `z`: separations in nu/u_tau, and R(r).
    """

    re_tau: float
    spectra: Mapping[str, tuple[np.ndarray, np.ndarray]]
    correlations: Mapping[str, tuple[np.ndarray, np.ndarray]]


def read_wall_tables(folder: Path) -> list[WallTable]:
    """All tables of a folder by Reynolds number; none where the folder has not both files.

    Raises:
        InfieldError: A file is no such table.
    """
    if not all((folder / name).is_file() for name in (SPECTRA, CORRELATIONS)):
        return []
    spectra = _columns(folder / SPECTRA, ("k_h", "e_pp"))
    correlations = _columns(folder / CORRELATIONS, ("separation_plus", "r_pp"))
    tables = []
    for re_tau in sorted({key[0] for key in spectra}):
        own = {axis: spectra[re, axis] for re, axis in spectra if re == re_tau}
        tables.append(
            WallTable(
                re_tau,
                {axis: (k / re_tau, e) for axis, (k, e) in own.items()},
                {axis: correlations[re, axis] for re, axis in correlations if re == re_tau},
            )
        )
    return tables


def nearest_table(tables: Sequence[WallTable], re_tau: float) -> WallTable | None:
    """The table of the Reynolds number nearest to one, None where none is near."""
    near = [table for table in tables if abs(math.log(table.re_tau / re_tau)) < math.log(FAR)]
    return min(near, key=lambda table: abs(table.re_tau - re_tau), default=None)


def _columns(path: Path, names: tuple[str, str]) -> dict[tuple[float, str], tuple[np.ndarray, np.ndarray]]:
    rows: dict[tuple[float, str], list[tuple[float, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                key = float(row["re_tau"]), row["axis"]
                rows.setdefault(key, []).append((float(row[names[0]]), float(row[names[1]])))
            except (KeyError, TypeError, ValueError):
                expected = ", ".join(("re_tau", "axis", *names))
                raise InfieldError(
                    where=path, found=f"line {number} without {expected}", expected="numbers there"
                ) from None
    return {key: tuple(np.array(pairs).T) for key, pairs in rows.items()}  # type: ignore[misc]
