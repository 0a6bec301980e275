"""A posterior's samples as ArviZ has them: groups of one file, draws along (chain, draw)."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.datasets.formats.carried import LAND
from infield.datasets.formats.output_lock import writing
from infield.datasets.formats.posterior import open_posterior
from infield.datasets.formats.zarr_group import explain_disk_full

_ABOUT = ("title", "prior", "sampler", "seed", "measurement_sha256", "trusted", "trusted_because", "history")


def draws_of(path: Path) -> xr.DataTree:
    """The samples of a posterior.

    Arguments:
        path: The posterior.

    Returns:
        A group `posterior` with the field `(chain, draw, *space)` under its own name, or "field" where it has several
        channels; one chain. Land is NaN.

    Raises:
        InfieldError: The posterior is none, not complete, or has no samples.
    """
    with open_posterior(path) as group:
        count = int(group.sizes.get("sample", 0))
        if count == 0:
            raise InfieldError(
                where=f"{path}: samples", found="none", expected="at least one",
                remedy="reconstruct with {samples}", parameters=["samples"],
            )  # fmt: skip
        channels = json.loads(group.attrs["field"])["channels"]
        samples = group["samples"].load()
        if LAND in group.variables:
            samples = samples.where(~group[LAND].astype(bool))
        places = [name for name, v in group.coords.items() if set(v.dims) <= set(group["mean"].dims)]
        drawn = samples.drop_vars([name for name in samples.coords if name not in places]).rename(sample="draw")
        drawn = drawn.assign_coords({"draw": np.arange(count)} | {name: group.coords[name] for name in places})
        attributes = {key: group.attrs[key] for key in _ABOUT if key in group.attrs}
    name = str(channels[0] if len(channels) == 1 else "field")
    own = {"inference_library": "infield", "inference_library_version": version("infield")}
    posterior = drawn.expand_dims(chain=[0]).to_dataset(name=name).assign_attrs(attributes | own)
    for variable in posterior.variables.values():
        variable.encoding = {}
    return xr.DataTree.from_dict({"/posterior": posterior})


def write_draws(tree: xr.DataTree, path: Path) -> None:
    """Write netCDF with groups, which `arviz.from_netcdf` reads; it appears under its name only when it is whole.

    Raises:
        InfieldError: The disk is full.
    """
    draft = path.with_name(path.name + ".draft")
    with explain_disk_full(path, "make room and start again"), writing(path):
        try:
            tree.to_netcdf(draft, engine="netcdf4")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
