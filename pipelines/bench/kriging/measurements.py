"""Problems as measurement files, written by docs/formats.md, with xarray alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from infield.datasets.formats.measurement_layout import VERSION
from infield.pipelines.bench.kriging.fields import Problem

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """Contents of a file beyond the problem's numbers.

    Arguments:
        names: Of the axes.
        units: Of the axes.
        scale: The file's coordinates over the problem's, one an axis: for other units of the same places.
        value_units: Of the field and the data.
        link: Pointwise operator between the field and the data, by name; None for none.
        factors: What data share, `(rows, n)`: covariance F^T F beside the independent errors; None for none.
        on_grid: Data are cells of the grid: the operator is a mask.
    """

    names: tuple[str, ...] = ("y", "x")
    units: tuple[str, ...] = ("1", "1")
    scale: tuple[float, ...] = (1.0, 1.0)
    value_units: str = "1"
    link: str | None = None
    factors: Array | None = None
    on_grid: NDArray[np.bool_] | None = field(default=None)


def write(path: Path, problem: Problem, layout: Layout) -> None:
    """Write the file that a person would write of this problem."""
    variables: dict[str, Any] = {}
    if layout.on_grid is None:
        variables["data"] = ("sensor", problem.values, {"units": layout.value_units})
        variables["place"] = (("sensor", "axis"), problem.points * np.asarray(layout.scale))
        operator: Mapping[str, Any] = {"name": "points", "arrays": {"coordinates": "place"}}
    else:
        data = np.zeros(problem.shape)
        data[layout.on_grid] = problem.values
        variables["data"] = (layout.names, data, {"units": layout.value_units})
        variables["seen"] = (layout.names, layout.on_grid.astype("int8"))
        operator = {"name": "mask", "arrays": {"mask": "seen"}}
    if layout.link is not None:
        operator = {"name": "compose", "operators": [operator, {"name": layout.link}]}
    noise: dict[str, Any] = {"law": "gaussian"}
    noise["variance"] = {"estimate": True} if problem.noise_sd is None else problem.noise_sd**2
    if layout.factors is not None:
        variables["shared"] = (("row", "sensor"), layout.factors)
        noise = {"law": "low-rank-gaussian", "diagonal": noise["variance"], "factors": "shared"}
    coordinates = {
        name: (name, axis * scale, {"units": units})
        for name, axis, units, scale in zip(layout.names, problem.axes, layout.units, layout.scale, strict=True)
    }
    about = {"dims": list(layout.names), "channels": ["value"], "units": layout.value_units}
    xr.Dataset(
        variables,
        coords=coordinates,
        attrs={
            "Conventions": "CF-1.11",
            "infield_format": "measurement",
            "infield_version": VERSION if problem.noise_sd is None else 1,
            "field": json.dumps(about),
            "operator": json.dumps(operator),
            "noise": json.dumps(noise),
        },
    ).to_zarr(path, mode="w", zarr_format=3, consolidated=False)
