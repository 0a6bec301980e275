"""Which cells of a gridded field are land, by a variable of its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.datasets.tables.given import Given

LaidOut = Callable[[xr.DataArray], np.ndarray]


def land_cells(source: Path | Given, mask: xr.DataArray, laid_out: LaidOut, present: np.ndarray) -> np.ndarray:
    """Cells that a mask calls land: by its flags or its standard name, else by where there are data.

    Arguments:
        source: The file, for messages.
        mask: 0 and 1, or shares of area, NaN for 0; or numbers whose `flag_meanings` name land.
        laid_out: What brings a variable to the axes of the field.
        present: Where there are data.

    Raises:
        InfieldError: The mask does not tell, or there are data on land.
    """
    name, standard = str(mask.name), str(mask.attrs.get("standard_name", ""))
    values = laid_out(mask)
    flagged = _by_flags(mask, values)
    if flagged is not None:
        land = flagged
    else:
        if str(mask.attrs.get("units", "")) in ("%", "percent"):
            values = values / 100
        others = np.unique(values[(values < 0) | (values > 1)])
        if len(others):
            raise InfieldError(
                where=f"{source}: '{name}'",
                found=f"{others[0]:g}" + (f" (and {len(others) - 1} other numbers)" if len(others) > 1 else ""),
                expected="0 to 1, or flag_values or flag_masks with flag_meanings one of which names land",
                remedy="make a variable that is 1 on land and 0 elsewhere",
            )
        one, other = values > 0.5, ~(values > 0.5)
        senses = {"land": one, "sea": other}
        if "sea" in standard or "ocean" in standard or "land" in standard:
            land = senses["land" if "land" in standard else "sea"]
        else:
            land = _by_data(source, name, senses, present)
    wrong = int((land & present).sum())
    if wrong:
        raise InfieldError(
            where=f"{source}: '{name}'", found=f"{wrong} data on land", expected="none",
            remedy="make them missing, or leave {mask} out", parameters=["mask"],
        )  # fmt: skip
    return np.asarray(land)


def _by_flags(mask: xr.DataArray, values: np.ndarray) -> np.ndarray | None:
    """By `flag_meanings` (CF 1.11, section 3.5), of numbers or of bits; None where there are none, or none of land."""
    meanings = str(mask.attrs.get("flag_meanings", "")).lower().replace(",", " ").split()
    named = [
        i
        for i, word in enumerate(meanings)
        if (word.startswith("land") or word.endswith("_land")) and not word.startswith(("no", "land_ice"))
    ]
    bits, numbers = mask.attrs.get("flag_masks"), mask.attrs.get("flag_values")
    if not named or (bits is None and numbers is None):
        return None
    found = np.zeros(values.shape, dtype=bool)
    whole = np.nan_to_num(values).astype(np.int64)
    for i in named:
        of_bits = None if bits is None else int(np.atleast_1d(bits)[i]) & 0xFFFFFFFF
        seen = whole if of_bits is None else whole & of_bits
        found |= seen != 0 if numbers is None else seen == int(np.atleast_1d(numbers)[i])
    return found & np.isfinite(values)


def _by_data(source: Path | Given, name: str, senses: dict[str, np.ndarray], present: np.ndarray) -> np.ndarray:
    """The sense in which there are no data on land."""
    fits = [land for land in senses.values() if not (land & present).any()]
    if len(fits) != 1:
        on = [int((land & present).sum()) for land in senses.values()]
        raise InfieldError(
            where=f"{source}: '{name}'",
            found=f"{on[0]} data where it is 1 and {on[1]} where it is 0",
            expected="data on one side only",
            remedy="give it the standard_name land_binary_mask or sea_binary_mask",
        )
    return fits[0]
