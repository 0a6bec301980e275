"""Set-ups in zarr files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.datasets.formats.zarr_group import checked, json_attribute, open_group, write_group
from infield.physics.projection_mapping.response import check_response
from infield.physics.projection_mapping.setup import Projector, Setup

FORMAT, VERSION = "projection-setup", 1


def write_setup(path: Path, setup: Setup, *, overwrite: bool = False, title: str = "Set-up of projectors") -> None:
    """Write a set-up; it appears under its name only when it is whole.

    Raises:
        InfieldError: The path exists, or the disk is full.
    """
    camera = ("y", "x")
    data = xr.Dataset(
        {
            "background": (("channel", *camera), setup.background.astype(np.float32), {"units": "1"}),
            "warp": (("projector", "axis", *camera), np.stack([p.warp for p in setup.projectors]).astype(np.float32)),
            "mixing": (
                ("projector", "channel", "primary", *camera),
                np.stack([p.mixing for p in setup.projectors]).astype(np.float32),
            ),
            "response": (("projector", "primary", "drive"), setup.responses),
            "raster": (("projector", "side"), np.array([p.raster for p in setup.projectors])),
            "defocus": ("projector", np.array([p.defocus for p in setup.projectors]), {"units": "projector pixels"}),
            "to_srgb": (("rgb", "channel"), setup.to_srgb),
        }
    )
    if setup.reflectance is not None and setup.form_factors is not None:
        data["reflectance"] = (("channel", *camera), setup.reflectance.astype(np.float32))
        factors = np.broadcast_to(setup.form_factors, (3, *setup.form_factors.shape[-2:]))
        data["form_factors"] = (("channel", "receiver", "sender"), factors.astype(np.float32))
        data["patches"] = ("side", np.array(setup.patches))
    if setup.depth is not None and setup.focal is not None:
        about = {"long_name": "depth along the camera's axis", "focal": float(setup.focal)}
        data["depth"] = (camera, setup.depth.astype(np.float32), about)
    data["warp"].attrs["long_name"] = "(v, u) in projector pixels, NaN where a projector is not seen"
    data.attrs = {
        "infield_format": FORMAT,
        "infield_version": VERSION,
        "title": title,
        "projectors": json.dumps({"names": [p.name for p in setup.projectors]}),
        "colour": setup.colour,
        "facts": json.dumps(dict(setup.facts)),
    }
    encoding = {str(name): {"compressors": checked()} for name in data.variables}
    write_group(path, data, overwrite=overwrite, encoding=encoding)


def open_setup(path: Path) -> Setup:
    """Read a set-up.

    Raises:
        InfieldError: It is none, or damaged.
    """
    data = open_group(path, FORMAT, VERSION)
    names = json_attribute(path, data, "projectors").get("names", [])
    missing = [n for n in ("background", "warp", "mixing", "response", "raster", "defocus", "to_srgb") if n not in data]
    if missing:
        raise InfieldError(where=path, found=f"no {', '.join(missing)}", expected="a whole set-up")
    values = {str(name): np.asarray(data[name].values) for name in data.variables}
    if len(names) != len(values["warp"]):
        raise InfieldError(
            where=path, found=f"{len(values['warp'])} warps", expected=f"{len(names)}, one per projector"
        )
    check_response(values["response"], len(names))
    projectors = tuple(
        Projector(
            str(name),
            (int(values["raster"][p, 0]), int(values["raster"][p, 1])),
            values["warp"][p],
            values["mixing"][p],
            values["response"][p],
            float(values["defocus"][p]),
        )
        for p, name in enumerate(names)
    )
    indirect: dict[str, Any] = {}
    if "form_factors" in values:
        indirect = {
            "reflectance": values["reflectance"],
            "form_factors": values["form_factors"],
            "patches": tuple(int(k) for k in values["patches"]),
        }
    if "depth" in values:
        indirect |= {"depth": values["depth"], "focal": float(data["depth"].attrs.get("focal", 0)) or None}
    return Setup(
        values["background"],
        projectors,
        values["to_srgb"],
        str(data.attrs.get("colour", "")),
        facts=json_attribute(path, data, "facts"),
        **indirect,
    )
