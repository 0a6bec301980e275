"""Two sessions of one subject in one file: baseline, follow-up and the years between."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.datasets.formats.zarr_group import write_group
from infield.datasets.pet.image import PETImage

FORMAT, VERSION = "pet-pair", 1


def write_pair(path: Path, baseline: PETImage, followup: PETImage, years: float, *, overwrite: bool = False) -> None:
    """Write variables `baseline` and `followup` `(z, y, x)` with `years` among the attributes.

    Raises:
        InfieldError: The images differ in units or grid, or the path exists.
    """
    if baseline.units != followup.units:
        raise InfieldError(where="follow-up", found=f"units '{followup.units}'", expected=f"'{baseline.units}'")
    baseline.check_same_grid(followup.affine, followup.values.shape, "follow-up")
    data = baseline.dataset().rename(pet="baseline")
    data["followup"] = (("z", "y", "x"), followup.values, {"units": followup.units})
    facts = {"baseline": dict(baseline.facts), "followup": dict(followup.facts)}
    data.attrs |= {"infield_format": FORMAT, "infield_version": VERSION, "years": years, "facts": json.dumps(facts)}
    write_group(path, data, overwrite=overwrite)


def read_pair(path: Path) -> tuple[PETImage, PETImage, float]:
    """Baseline, follow-up and the years between, of a file of `write_pair`.

    Raises:
        InfieldError: It is another format or a newer version.
    """
    data = xr.open_zarr(path, consolidated=False)
    found = (data.attrs.get("infield_format"), data.attrs.get("infield_version"))
    if found != (FORMAT, VERSION):
        raise InfieldError(where=path, found=f"format {found[0]}, version {found[1]}", expected=f"{FORMAT}, {VERSION}")
    affine, facts = np.array(json.loads(data.attrs["affine"])), json.loads(data.attrs["facts"])
    first, second = (
        PETImage(data[name].values, affine, data[name].attrs["units"], facts[name]) for name in ("baseline", "followup")
    )
    return first, second, float(data.attrs["years"])
