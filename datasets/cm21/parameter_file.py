"""Posteriors of astrophysical parameters: draws for each cone, and their calibration on held-out simulations.

A zarr group. For each parameter, under its own name and in its units: `NAME (cone, draw)`, with `prior_low` and
`prior_high`; `NAME_truth (cone)`, NaN where it is not known; `NAME_rank (held_out)` and `NAME_held_out (held_out)`, the
rank of a held-out simulation's parameter among its `draws` draws, and that parameter. `distance (cone)` and
`distance_held_out (held_out)` give how far a cone's summaries are from the nearest simulated ones. `cone` and
`held_out` are numbers of cones in their files. Attributes: `parameters` (JSON), `calibration` (JSON), `seed`,
`simulations`, `lightcones`, `versions`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from infield.datasets.formats.block_writer import makers
from infield.datasets.formats.output_lock import writing
from infield.datasets.formats.zarr_group import CONVENTIONS, explain_disk_full, lay_out_group, open_group, publish

KIND, VERSION = "parameters", 1


def write_parameters(
    path: Path, dataset: xr.Dataset, attributes: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write a file of parameters; it appears when it is whole.

    Arguments:
        path: The file.
        dataset: Its variables.
        attributes: Its attributes, in JSON types.
        overwrite: Whether an existing group may be replaced.

    Raises:
        InfieldError: The path is taken, or the disk is full.
    """
    attributes = {
        **{key: value if isinstance(value, str | int) else json.dumps(value) for key, value in attributes.items()},
        "Conventions": CONVENTIONS,
        "infield_format": KIND,
        "infield_version": VERSION,
        "title": "Posterior of astrophysical parameters",
        **makers(),
    }
    draft = path.with_name(path.name + ".partial")
    with explain_disk_full(path, "make room and start again"), writing(path):
        try:
            lay_out_group(draft, dataset.assign_attrs(attributes))
            publish(draft, path, overwrite)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def open_parameters(path: Path) -> xr.Dataset:
    """Open a file of parameters.

    Raises:
        InfieldError: The path is missing or no zarr group, or it is foreign, newer or damaged.
    """
    return open_group(path, KIND, VERSION)
