"""Training fields on scattered points, from any file that xarray opens: a variable `(sample, [channel,] point)`.

What the file must have: the variable's attribute `units`; and for every coordinate of the points a variable along the
dimension of the points, all with the same `units`. That dimension may have any name. The length of the source is in the
units of the coordinates.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.core.grid import PointSet
from infield.datasets.formats.field import CHANNEL
from infield.datasets.formats.zarr_group import refusal
from infield.datasets.training.fields import SAMPLE, FieldFile, units_of


class PointFieldFile(FieldFile):
    """Batches of training fields `(batch, channel, point)` in units, all on the same points; see `FieldFile`.

    Arguments:
        path: Zarr group, netCDF or HDF5 file.
        variable: Name of the variable.
        coordinates: Names of the points' coordinates, in the order in which network and source take them.
        batch_size: Fields a batch.
        validation: Share of the samples that is held out; 0 for none.
        statistics: Number of training fields, evenly spread, from which mean and covariance are estimated.
        memory_gib: Fields that take less than this are read once and kept, GiB.
        num_workers: Processes that read.
        seed: Of the order of the samples.
    """

    def __init__(
        self,
        path: str,
        variable: str = "field",
        coordinates: list[str] | None = None,
        batch_size: int = 32,
        validation: float = 0.05,
        statistics: int = 4096,
        memory_gib: float = 2.0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(path, variable, batch_size, validation, statistics, memory_gib, num_workers, seed)
        self.coordinates = ["x"] if coordinates is None else list(coordinates)

    def _where(self, dataset: xr.Dataset, array: xr.DataArray, space: list[str]) -> PointSet:
        if len(space) != 1:
            expected = f"({SAMPLE}, [{CHANNEL},] and one along which the points are listed)"
            raise refusal(self.path, self.variable, f"dimensions {array.dims}", expected)
        (dimension,) = space
        columns = []
        for name in self.coordinates:
            column = dataset.variables.get(name)
            if column is None or column.dims != (dimension,) or column.dtype.kind not in "iuf":
                raise refusal(
                    self.path, name, f"no numbers along '{dimension}'", "a coordinate of the points; set `coordinates`"
                )
            columns.append(column.values.astype(float))
        units = [units_of(self.path, dataset[name], name) for name in self.coordinates]
        if len(set(units)) > 1:
            raise refusal(self.path, "units", " and ".join(sorted(set(units))), "the same units for all coordinates")
        points = np.stack(columns, axis=1)
        _, first, place = np.unique(points, axis=0, return_index=True, return_inverse=True)
        before = first[place.reshape(-1)]
        again = np.flatnonzero(before != np.arange(len(points)))
        if len(again):
            found = f"points {before[again[0]]} and {again[0]} at the same place"
            raise refusal(self.path, ", ".join(self.coordinates), found, "points that differ")
        try:
            return PointSet(tuple(map(tuple, points.tolist())), tuple(self.coordinates), units[0], dimension)
        except InfieldError as error:
            raise error.within(self.path) from error
