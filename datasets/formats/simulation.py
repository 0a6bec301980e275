"""The simulation format: many samples of several fields on one grid, as `datasets.training.fields.FieldFile` reads
them.

A zarr group with the variables of the simulation `(sample, *space)`, their units, the coordinates of the grid with
units and `periodic`, and attributes that describe how it was made. How it is written and resumes after a kill: see
`block_writer`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.datasets.formats.block_writer import (
    BlockWriter,
    check_samples,
    create_done_flags,
    makers,
    open_finished,
)
from infield.datasets.formats.field import Field
from infield.datasets.formats.zarr_group import CONVENTIONS, checked, lay_out_group

VERSION = 1


@dataclass(frozen=True)
class Variable:
    """One field of each sample.

    Arguments:
        name: Name of the variable.
        long_name: Human-readable name.
        units: Units of its values, "1" for none.
        complex: Whether they are complex numbers.
        axes: Names and lengths of axes of its own, if it is not on the grid of the others.
    """

    name: str
    long_name: str
    units: str = "1"
    complex: bool = False
    axes: tuple[tuple[str, int], ...] = ()

    def stored(self, dtype: str) -> np.dtype:
        """Type of its values in a file of real numbers of type `dtype`."""
        return np.result_type(dtype, np.complex64) if self.complex else np.dtype(dtype)

    def described(self) -> dict[str, Any]:
        """What it is, in JSON types."""
        found = asdict(self) | {"axes": [list(axis) for axis in self.axes]}
        return {key: value for key, value in found.items() if key not in ("complex", "axes") or value}


class SimulationWriter(BlockWriter):
    """Writes a data set block by block into `<path>.partial`, and resumes an earlier run of it that was stopped.

    Arguments:
        path: The data set to write.
        grid: Domain of its fields.
        variables: Its fields.
        samples: Number of samples.
        block: Samples that are written together; also the chunk of the file.
        run: What makes the samples what they are, in JSON types, e.g. `kind`, `parameters`, `seed`; all of it becomes
            attributes. A run is only continued where all of it is the same.
        dtype: "float32" or "float64", in which values are stored; of complex ones each part.
        title: Human-readable, in one line.
        coordinates: Further coordinates, along `sample` or along axes of the grid, or replacing those of axes.
        chunk: Shape of a chunk in space; None for the whole of it.
        overwrite: Whether an existing group may be replaced, once the new one is finished.

    Raises:
        InfieldError: `path` exists, `<path>.partial` is of another run, or the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        grid: Grid,
        variables: Sequence[Variable],
        samples: int,
        block: int,
        run: Mapping[str, Any],
        dtype: str = "float32",
        title: str = "",
        coordinates: Mapping[str, xr.Variable] | None = None,
        chunk: tuple[int, ...] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.grid, self.variables, self.dtype = grid, tuple(variables), dtype
        self.beside, self.chunk = dict(coordinates or {}), chunk or grid.shape
        described = json.loads(json.dumps(dict(run)))
        layout = {"samples": samples, "block": block, "dtype": dtype}
        layout |= {"grid": grid.to_json(), "variables": [variable.described() for variable in self.variables]}
        attributes = {
            **{key: value if isinstance(value, str | int) else json.dumps(value) for key, value in described.items()},
            "Conventions": CONVENTIONS,
            "infield_format": "simulation",
            "infield_version": VERSION,
            "infield_complete": 0,
            "infield_run": json.dumps({**described, **layout}),
            "title": title or "Simulated fields",
            **makers(),
        }
        super().__init__(
            path,
            kind="simulation",
            version=VERSION,
            samples=samples,
            block=block,
            run={**described, **layout},
            lay_out=lambda draft: self._lay_out(draft, attributes),
            overwrite=overwrite,
        )

    def write_block(self, b: int, fields: Mapping[str, np.ndarray]) -> None:
        """Write one block, then its flag.

        Arguments:
            b: Number of the block.
            fields: Every variable by name, `(samples of the block, *space)`.

        Raises:
            InfieldError: A sample is not finite, or the disk is full.
            ValueError: A variable is missing or of another shape.
        """
        rows = self.sample_range(b)
        stored = {}
        for variable in self.variables:
            name = variable.name
            expected = (len(rows), *(n for _, n in variable.axes or zip(self.grid.names, self.grid.shape, strict=True)))
            if name not in fields or fields[name].shape != expected:
                found = getattr(fields.get(name), "shape", None)
                raise ValueError(f"block {b}: found {name} of shape {found}, expected {expected}")
            with np.errstate(over="ignore"):  # what does not fit becomes infinity, and is refused below
                stored[name] = fields[name].astype(variable.stored(self.dtype))
            whole = np.isfinite(stored[name]).reshape(len(rows), -1).all(1)
            if not whole.all():
                raise InfieldError(
                    where=self.path,
                    found=f"NaN or infinity in the {name} of sample {rows[int(whole.argmin())]}",
                    expected=f"finite values that fit into {self.dtype}",
                )
        self._write_block(b, stored)

    def finish(self) -> None:
        """Mark the data set complete and rename it to its path.

        Raises:
            InfieldError: Blocks are missing, `path` appeared meanwhile, or the disk is full.
        """
        self.refuse_missing_blocks()
        self._complete({}, {})

    def _lay_out(self, path: Path, attributes: Mapping[str, Any]) -> None:
        field = Field(self.grid, ("field",), "1")
        numbers = xr.Variable(("sample",), np.arange(self.samples))
        coordinates = {**field.coordinates(), "sample": numbers, **self.beside}
        empty = xr.Dataset(coords=coordinates, attrs=dict(attributes))
        group = lay_out_group(path, empty)
        block = min(self.block, self.samples)
        for variable in self.variables:
            dims, shape, chunk = field.dims, self.grid.shape, self.chunk
            if variable.axes:
                dims, shape = zip(*variable.axes, strict=True)
                chunk = shape
            group.create_array(
                variable.name,
                shape=(self.samples, *shape),
                chunks=(block, *chunk),
                dimension_names=("sample", *dims),
                dtype=variable.stored(self.dtype),
                fill_value=np.nan,
                compressors=checked(),
                attributes={"units": variable.units, "long_name": variable.long_name},
            )
        create_done_flags(group, self.samples, block)


def open_simulation(path: str | Path) -> xr.Dataset:
    """Open a finished data set, its arrays still on disk.

    Raises:
        InfieldError: The path is missing or no zarr group; the data set is foreign, newer, not complete or truncated.
    """
    group = open_finished(path, "simulation", VERSION)
    check_samples(path, group, tuple(str(name) for name in group.data_vars if name != "done"))
    return group
