"""Two sessions of one subject in one file: baseline, follow-up and the years between."""

from __future__ import annotations

import json
from pathlib import Path

from infield.core.errors import InfieldError
from infield.datasets.pet.image import PETImage, write_group

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
