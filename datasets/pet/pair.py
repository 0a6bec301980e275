"""Two sessions of one subject in one file: baseline, follow-up and the years between."""

from __future__ import annotations

import json
from pathlib import Path

from infield.core.errors import InfieldError
from infield.datasets.formats.zarr_group import check_new, put_in_place, remove_for_good
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
    check_new(path, overwrite)
    draft = path.with_name(path.name + ".draft")
    try:
        data.to_zarr(draft, mode="w", zarr_format=3, consolidated=False)
        put_in_place(draft, path, overwrite)
    except BaseException:
        remove_for_good(draft)
        raise
