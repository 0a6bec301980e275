"""The grid of the fields in any file: a measurement, a posterior, a data set of simulations, or a field in netCDF."""

from __future__ import annotations

from pathlib import Path

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.datasets.formats.agreement import with_increasing_axes
from infield.datasets.formats.field import CHANNEL, Field, read_field
from infield.datasets.formats.zarr_group import refusal
from infield.datasets.training.fields import SAMPLE, channel_names, grid_from_dataset, open_dataset


def field_of_file(path: Path) -> Field:
    """What the fields of a file are: grid, channels and units.

    A file with the attribute `field` (measurements, posteriors) states it; of another file it is the grid of its first
    variable of numbers with coordinates along all its axes but `sample` and `channel`.

    Raises:
        InfieldError: Nothing is there, it cannot be read, or it holds no field on a grid.
    """
    dataset = open_dataset(path)
    if "field" in dataset.attrs:
        field = read_field(path, dataset)
        if not isinstance(field.grid, Grid):
            raise InfieldError(where=path, found="a field at scattered points", expected="a field on a grid")
        return field
    for name, array in dataset.data_vars.items():
        space = [str(dim) for dim in array.dims if dim not in (SAMPLE, CHANNEL)]
        if space and array.dtype.kind in "iufc" and all(dim in dataset.coords for dim in space):
            turned = with_increasing_axes(dataset, space)
            channels = channel_names(path, array, str(name))
            units = array.attrs.get("units")
            return Field(grid_from_dataset(path, turned, space), channels, units if isinstance(units, str) else "1")
    names = ", ".join(map(str, dataset.data_vars)) or "no variable"
    raise refusal(path, "variables", names, "a field with a coordinate for each of its axes")
