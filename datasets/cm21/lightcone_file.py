"""21 cm lightcones: a simulation file of brightness temperatures with what makes a place in a lightcone a time.

The simulation format with `brightness_temp (sample, x, y, los)`, float32, mK; `x` and `y` (periodic) and `los`, the
comoving distance, in Mpc, z ascending; along `los` also `redshift` and `frequency` in MHz; along `sample` one variable
for each astrophysical parameter, under 21cmFAST's name for it, and `random_seed` where it is known. If the
simulator stores it, `initial_density (sample, box_x, box_y, box_los)`: the linear density contrast of the box of
initial conditions, as it is today, on its finer grid; cell i of the line of sight lies in slice i of the box, which
repeats along it. Its attributes:
`kind` "21cm", `parameters` (JSON: the names of the parameters), `provenance` (JSON), `history`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.datasets.cm21.cosmology import LINE_MHZ, frequencies_of
from infield.datasets.formats.simulation import SimulationWriter, Variable, open_simulation
from infield.datasets.formats.zarr_group import refusal
from infield.datasets.training.fields import grid_from_dataset

KIND = "21cm"
TEMPERATURE = "brightness_temp"
DENSITY = "initial_density"
AXES = ("x", "y", "los")
BOX_AXES = ("box_x", "box_y", "box_los")
SEED = "random_seed"
CHUNK = 256
"""Cells of a chunk along the line of sight: a part of a deep cone can be read without the rest."""

PARAMETERS = {
    "HII_EFF_FACTOR": ("1", "ionising efficiency zeta"),
    "ION_Tvir_MIN": ("log10(K)", "smallest virial temperature of halos that ionise"),
    "X_RAY_Tvir_MIN": ("log10(K)", "smallest virial temperature of halos that heat"),
    "L_X": ("log10(erg s-1 M_sun-1 yr)", "X-ray luminosity over star formation rate"),
    "R_BUBBLE_MAX": ("Mpc", "largest radius of ionised bubbles"),
    "NU_X_THRESH": ("eV", "lowest energy of X-rays that escape"),
}
"""Units and meaning of parameters, where 21cmFAST documents them."""


@dataclass(frozen=True, kw_only=True)
class Lightcones:
    """Lightcones of a file: their metadata.

    Arguments:
        grid: Axes (x, y, los) in Mpc.
        redshift: Of each cell of the line of sight, ascending, shape `(los,)`.
        samples: Number of cones.
        parameters: Astrophysical parameters by 21cmFAST's names, each of shape `(samples,)`.
        seeds: Random seeds of the simulator, shape `(samples,)`; None where not known.
        provenance: Where the cones are from and what was done to them, in JSON types.
        history: The same as text, one line per step.

    Raises:
        InfieldError: Redshifts do not ascend.
    """

    grid: Grid
    redshift: np.ndarray
    samples: int
    parameters: Mapping[str, np.ndarray]
    seeds: np.ndarray | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.grid.names != AXES or len(self.redshift) != self.grid.shape[2]:
            raise ValueError(f"lightcones: found axes {self.grid.names} and {len(self.redshift)} redshifts")
        if not (np.diff(self.redshift) > 0).all():
            raise InfieldError(
                where="lightcones", found="redshifts that do not ascend", expected="z ascending along the cone"
            )

    @property
    def frequency(self) -> np.ndarray:
        """Observed frequencies in MHz, descending, shape `(los,)`."""
        return frequencies_of(self.redshift)

    def coordinates(self) -> dict[str, xr.Variable]:
        """The coordinate variables beside those of the grid."""
        (_, _, distance) = self.grid.axes
        attributes: dict[str, Any] = {
            "units": distance.units,
            "periodic": 0,
            "long_name": "comoving distance along the line of sight, centres of cells",
        }
        found = {
            "los": xr.Variable("los", np.array(distance.coordinates), attributes),
            "redshift": xr.Variable("los", self.redshift, {"units": "1", "long_name": "redshift"}),
            "frequency": xr.Variable(
                "los", self.frequency, {"units": "MHz", "long_name": f"observed frequency, {LINE_MHZ} MHz / (1 + z)"}
            ),
        }
        for name, values in self.parameters.items():
            units, words = PARAMETERS.get(name, ("1", f"21cmFAST parameter {name}"))
            found[name] = xr.Variable("sample", np.asarray(values, float), {"units": units, "long_name": words})
        if self.seeds is not None:
            of_seed = {"units": "1", "long_name": "random seed of the simulator"}
            found[SEED] = xr.Variable("sample", np.asarray(self.seeds, dtype=np.int64), of_seed)
        return found


def lightcone_grid(points: tuple[int, int], cell: float, distance: np.ndarray) -> Grid:
    """The grid of lightcones: x and y from 0 and periodic, as simulated boxes are.

    Arguments:
        points: Along x and y.
        cell: Spacing along x and y in Mpc.
        distance: Comoving distances of cells in Mpc, ascending.
    """
    across = [Axis(name, tuple(cell * i for i in range(n)), "Mpc", True) for name, n in zip("xy", points, strict=True)]
    return Grid((*across, Axis("los", tuple(map(float, distance)), "Mpc")))


def lightcone_writer(
    path: str | Path,
    cones: Lightcones,
    *,
    run: Mapping[str, Any],
    title: str,
    box: tuple[int, int, int] | None = None,
    overwrite: bool = False,
) -> SimulationWriter:
    """A writer of lightcones, one cone a block; `write_block(i, {TEMPERATURE: values})` with `(1, x, y, los)` in mK.

    Arguments:
        path: The file to write.
        cones: What it will hold.
        run: What makes the cones what they are, in JSON types. A run is only continued where all of it is the same.
        title: Human-readable, in one line.
        box: Cells of the boxes of initial conditions, where blocks hold `DENSITY` beside it.
        overwrite: Whether an existing group may be replaced, once the new one is finished.

    Raises:
        InfieldError: `path` exists, `<path>.partial` is of another run, or the disk is full.
    """
    nx, ny, depth = cones.grid.shape
    variables = [Variable(TEMPERATURE, "21 cm brightness temperature against the CMB", "mK")]
    if box is not None:
        words = "linear density contrast of the initial conditions, as it is today"
        variables.append(Variable(DENSITY, words, axes=tuple(zip(BOX_AXES, box, strict=True))))
    described = {"provenance": dict(cones.provenance), "history": "\n".join(cones.history)}
    return SimulationWriter(
        path,
        grid=cones.grid,
        variables=variables,
        samples=cones.samples,
        block=1,
        run={"kind": KIND, "parameters": list(cones.parameters), **described, **run},
        title=title,
        coordinates=cones.coordinates(),
        chunk=(nx, ny, min(depth, CHUNK)),
        overwrite=overwrite,
    )


def open_lightcones(path: str | Path) -> tuple[xr.Dataset, Lightcones]:
    """Open a finished file of lightcones, the temperatures still on disk, and its metadata.

    Raises:
        InfieldError: The path is missing or no zarr group; the file is foreign, newer, not complete or truncated, or a
            simulation of another kind.
    """
    path = Path(path)
    group = open_simulation(path)
    if TEMPERATURE not in group or group[TEMPERATURE].dims != ("sample", *AXES):
        found = ", ".join(f"{name} {values.dims}" for name, values in group.data_vars.items() if name != "done")
        raise refusal(path, TEMPERATURE, found, f"lightcones, {TEMPERATURE} ('sample', 'x', 'y', 'los')")
    if group[TEMPERATURE].attrs.get("units") != "mK":
        raise refusal(path, f"{TEMPERATURE}.units", repr(group[TEMPERATURE].attrs.get("units")), "'mK'")
    names = [*_parameter_names(path, group), "redshift"]
    for name in names:
        if name not in group.variables:
            raise refusal(path, name, "no such variable", f"one of {sorted(map(str, group.variables))}")
    return group, Lightcones(
        grid=grid_from_dataset(path, group, list(AXES)),
        redshift=group["redshift"].values,
        samples=group.sizes["sample"],
        parameters={name: group[name].values for name in names[:-1]},
        seeds=group[SEED].values if SEED in group.variables else None,
        provenance=json.loads(group.attrs.get("provenance", "{}")),
        history=tuple(str(group.attrs.get("history", "")).splitlines()),
    )


def _parameter_names(path: Path, group: xr.Dataset) -> list[str]:
    try:
        names = json.loads(group.attrs["parameters"])
        assert isinstance(names, list) and all(isinstance(name, str) for name in names)
    except (KeyError, TypeError, ValueError, AssertionError):
        raise refusal(path, "parameters", repr(group.attrs.get("parameters")), "a JSON list of names") from None
    return names
