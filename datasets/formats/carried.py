"""Metadata of the field, carried from a measurement to its posterior and maps: attributes of CF, bounds of
cells, the projection, land."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from infield.datasets.formats.agreement import VALUES_OF_FIELD
from infield.datasets.formats.field import Field
from infield.datasets.formats.measurement_layout import UNTITLED
from infield.datasets.formats.zarr_group import loaded_variable

LAND = "land"
"""Variable of a measurement and of a posterior: 1 where the grid has cells that are no part of the field."""

LAND_FLAGS: Mapping[str, Any] = {
    "flag_values": np.array([0, 1], dtype=np.int8),
    "flag_meanings": "field land",
    "standard_name": "land_binary_mask",
}

OF_FIELD = ("standard_name", "long_name", "grid_mapping", "cell_methods", "comment")
"""Attributes of data that hold for the field, where the data are its values."""

OF_FILE = ("institution", "source", "references", "comment", "history")


@dataclass(frozen=True)
class Carried:
    """What goes along with a field from file to file.

    Arguments:
        of_field: Attributes of the field, e.g. `standard_name`.
        of_axes: Attributes of its coordinates, by name, without `units` and `periodic`.
        variables: Bounds, the grid mapping, coordinates of places that were chosen, `land`.
        of_file: `institution`, `source`, `history`, ...
        title: Of the measurement; empty where it has none of its own.
    """

    of_field: Mapping[str, Any] = field(default_factory=dict)
    of_axes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variables: Mapping[str, xr.Variable] = field(default_factory=dict)
    of_file: Mapping[str, str] = field(default_factory=dict)
    title: str = ""

    @classmethod
    def of_group(cls, path: Path, group: xr.Dataset, field: Field, operator_json: Mapping[str, Any]) -> Carried:
        """Metadata of the field in a measurement file."""
        own = group["data"].attrs if operator_json.get("name") in VALUES_OF_FIELD else {}
        of_field = {key: own[key] for key in OF_FIELD if key in own}
        of_axes = {name: _others(group[name].attrs) for name in field.dims if name in group.variables}
        names = [str(of_field.get("grid_mapping", "")), LAND, *(str(a.get("bounds", "")) for a in of_axes.values())]
        scalars = [str(n) for n, v in group.variables.items() if not v.dims and "standard_name" in v.attrs]
        found = {}
        for name in dict.fromkeys([*names, *scalars]):
            if name in group.variables and name not in field.dims:
                one = loaded_variable(path, group, name).variable
                found[name] = xr.Variable(one.dims, one.values, one.attrs)
        of_file = {key: str(group.attrs[key]) for key in OF_FILE if group.attrs.get(key)}
        title = str(group.attrs.get("title", ""))
        return cls(of_field, of_axes, found, of_file, "" if title == UNTITLED else title)

    def fits(self, dataset: xr.Dataset) -> bool:
        """Whether a dataset has the axes that the variables here lie along; not so behind a change of grid."""
        sizes = [size for variable in self.variables.values() for size in variable.sizes.items()]
        return all(dataset.sizes.get(name, n) == n for name, n in sizes)

    def onto(self, dataset: xr.Dataset) -> xr.Dataset:
        """A dataset with the attributes of coordinates, and the variables, that it lacks."""
        dataset = dataset.assign({name: v for name, v in self.variables.items() if name not in dataset.variables})
        for name, attributes in self.of_axes.items():
            if name in dataset.variables:
                dataset[name].attrs = {**attributes, **dataset[name].attrs}
        dataset.attrs = {**self.of_file, **dataset.attrs}
        return dataset


def _others(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in attributes.items() if key not in ("units", "periodic")}
