"""Lightcones as files have them, put into one order: axes (x, y, line of sight), z ascending, mK, one grid for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from infield.core.errors import InfieldError
from infield.datasets.cm21.lightcone_file import Lightcones, lightcone_grid
from infield.datasets.cm21.readers.sanity import check_cone, check_distances, check_redshifts

GRID_RTOL = 1e-4
"""Relative differences up to which spacings, sizes and distances are the same."""

MAIN_PARAMETERS = ("ION_Tvir_MIN", "HII_EFF_FACTOR")
"""Kept even where they do not vary: the two that emulators of const-zeta models are conditioned on."""


@dataclass(frozen=True)
class UserMetadata:
    """Metadata of lightcones given by the user, where files lack them.

    Arguments:
        variable: Name of the field; None for the brightness temperature.
        depth: Cells of the line of sight that are kept, from the lowest redshift on; None for all.
        parameters: Astrophysical parameters that are kept; None for the main two and what else varies.
        box: Size across in Mpc, of plain arrays.
        redshifts: A file with the redshifts of plain arrays.
        hubble, omega_m: Cosmology of plain arrays and of observed cubes; None for that of 21cmFAST 4.
        units: Of temperatures in plain arrays, "mK" or "K"; None for mK.
        resample: Whether cells are interpolated to an even comoving distance, where they are not.
    """

    variable: str | None = None
    depth: int | None = None
    parameters: tuple[str, ...] | None = None
    box: float | None = None
    redshifts: Path | None = None
    hubble: float | None = None
    omega_m: float | None = None
    units: str | None = None
    resample: bool = False


@dataclass(frozen=True, kw_only=True)
class RawLightcones:
    """Lightcones of one file, as it has them.

    Arguments:
        path: The file.
        format: Human-readable name of the file's format.
        samples: Number of cones.
        points: Along x and y.
        cell: Spacing across in Mpc.
        distance: Comoving distances of cells in the order of the file, Mpc, shape `(los,)`.
        redshift: Their redshifts.
        parameters: Astrophysical parameters by 21cmFAST's names, each of shape `(samples,)`.
        seeds: Random seeds, shape `(samples,)`; None where not known.
        read: Reads some cells of one cone in mK, `(x, y, cells)`, in the order of the file.
        provenance: In JSON types.
        history: What was done, one line a step.
        notes: Notes for the user.
        simulated: Whether it is of a simulation, which has no foregrounds.
        unused: Names of what may be `UserMetadata` that the file itself holds.
    """

    path: Path
    format: str
    samples: int
    points: tuple[int, int]
    cell: float
    distance: np.ndarray
    redshift: np.ndarray
    parameters: Mapping[str, np.ndarray]
    seeds: np.ndarray | None
    read: Callable[[int, slice], np.ndarray]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    simulated: bool = True
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class LightconeSource:
    """Lightcones of one or several files on one grid.

    Arguments:
        cones: What is known of them.
        files: The files.
        notes: Notes for the user.
        uneven: Distances of the files' cells where the cones have even ones; None where they are the same.
    """

    cones: Lightcones
    files: tuple[RawLightcones, ...]
    notes: tuple[str, ...]
    uneven: np.ndarray | None = None

    def read(self, sample: int) -> np.ndarray:
        """One cone in mK, `(x, y, los)`, float32, z ascending.

        Raises:
            InfieldError: It is not finite, or the file is damaged.
        """
        within = sample
        for file in self.files:
            if within < file.samples:
                break
            within -= file.samples
        depth, reverse = self.cones.grid.shape[2], descending(file.redshift)
        cells = slice(len(file.redshift) - depth, None) if reverse else slice(0, depth)
        values = np.asarray(file.read(within, cells), dtype=np.float32)
        bad = int(values.size - np.isfinite(values).sum())
        if bad:
            raise InfieldError(
                where=file.path,
                found=f"NaN or infinity in {bad} of {values.size} voxels of cone {within}",
                expected="finite temperatures",
                remedy="leave that cone out or simulate it again",
            )
        values = values[..., ::-1] if reverse else values
        check_cone(file.path, values, within, simulated=file.simulated)
        return values if self.uneven is None else self._resampled(values)

    def _resampled(self, values: np.ndarray) -> np.ndarray:
        """Linear interpolation along the line of sight."""
        assert self.uneven is not None
        places = np.interp(self.cones.grid.axes[2].coordinates, self.uneven, np.arange(len(self.uneven)))
        lower = np.minimum(places.astype(int), len(self.uneven) - 2)
        fraction = (places - lower).astype(np.float32)
        return values[..., lower] * (1 - fraction) + values[..., lower + 1] * fraction


def descending(redshift: np.ndarray) -> bool:
    """Whether a file has its highest redshift first."""
    return bool(redshift[0] > redshift[-1])


def join(files: Sequence[RawLightcones], stated: UserMetadata) -> LightconeSource:
    """Put files together.

    Raises:
        InfieldError: A file's line of sight is not in order, or two files are of different boxes or redshifts, or a
            parameter is not in all of them; or what is stated is stored in all files.
    """
    for name in files[0].unused:
        if getattr(stated, name) is not None and all(name in file.unused for file in files):
            raise InfieldError(
                where=files[0].path,
                found=f"{{{name}}}",
                expected=f"none for a file of this kind ({files[0].format}), which holds it",
                parameters=[name],
            )
    twice = [path for path, n in Counter(file.path.resolve() for file in files).items() if n > 1]
    if twice:
        raise InfieldError(
            where=twice[0], found="the same file twice", expected="every file once", remedy="leave one out"
        )
    notes = [f"{file.path}: {note}" for file in files for note in file.notes]
    for file in files:
        steps = np.diff(file.redshift)
        if (
            len(file.redshift) < 2
            or not np.isfinite(file.redshift).all()
            or not ((steps > 0).all() or (steps < 0).all())
        ):
            raise InfieldError(
                where=file.path,
                found=f"{len(file.redshift)} redshifts that neither ascend nor descend",
                expected="them in order",
            )
        check_redshifts(file.path, file.redshift)
        check_distances(file.path, file.distance, file.redshift)
        if descending(file.redshift):
            notes.append(f"{file.path}: redshifts descend along the line of sight; turned round")
    first = files[0]
    redshift, distance = (
        values[::-1] if descending(first.redshift) else values for values in (first.redshift, first.distance)
    )
    depth = _depth(files, stated)
    for file in files[1:]:
        _check_same_grid(first, file, depth)
    parameters = _parameters(files, stated)
    seeds = None
    if all(file.seeds is not None for file in files):
        seeds = np.concatenate([np.asarray(file.seeds) for file in files])
        runs = Counter(zip(seeds.tolist(), *(values.tolist() for values in parameters.values()), strict=True))
        again = len(seeds) - len(runs)
        if again:
            notes.append(
                f"{again} of {len(seeds)} cones have the seed and the parameters of another: the same universe"
            )
    history = [line for file in files for line in file.history] + notes
    if depth < len(redshift):
        history.append(f"the first {depth} of {len(redshift)} cells of the line of sight")
    redshift, distance, uneven = redshift[:depth], distance[:depth], None
    if stated.resample:
        uneven, distance = distance, np.linspace(distance[0], distance[-1], depth)
        redshift = np.interp(distance, uneven, redshift)
        history.append("cells interpolated along the line of sight to an even comoving distance")
    cones = Lightcones(
        grid=lightcone_grid(first.points, first.cell, distance),
        redshift=redshift,
        samples=sum(file.samples for file in files),
        parameters=parameters,
        seeds=seeds,
        provenance={
            "files": [{"file": file.path.name, "format": file.format, "cones": file.samples} for file in files],
            "simulation": dict(first.provenance),
        },
        history=tuple(dict.fromkeys(history)),
    )
    return LightconeSource(cones, tuple(files), tuple(notes), uneven)


def _depth(files: Sequence[RawLightcones], stated: UserMetadata) -> int:
    least = min(files, key=lambda file: len(file.redshift))
    depth = len(least.redshift) if stated.depth is None else stated.depth
    if not 2 <= depth <= len(least.redshift):
        raise InfieldError(
            where="{depth}",
            found=depth,
            expected=f"2 to {len(least.redshift)}, the cells of the line of sight in {least.path}",
            parameters=["depth"],
        )
    if stated.depth is None and any(len(file.redshift) != depth for file in files):
        longest = max(len(file.redshift) for file in files)
        raise InfieldError(
            where=least.path,
            found=f"{depth} cells along the line of sight beside {longest} in another file",
            expected="as many in all",
            remedy="keep the first ones of each ({depth})",
            parameters={"depth": depth},
        )
    return depth


def _check_same_grid(first: RawLightcones, other: RawLightcones, depth: int) -> None:
    sizes = [(*file.points, *(file.cell * n for n in file.points)) for file in (first, other)]
    if first.points != other.points or abs(other.cell / first.cell - 1) > GRID_RTOL:
        stored = [f"{nx} x {ny} cells on {lx:g} x {ly:g} Mpc" for nx, ny, lx, ly in sizes]
        raise InfieldError(
            where=other.path,
            found=stored[1],
            expected=f"{stored[0]} as in {first.path}: cones of one file are of one box",
            remedy="convert them apart",
        )
    ends = []
    for file in (first, other):
        values = file.redshift[::-1] if descending(file.redshift) else file.redshift
        ends.append(values[:depth])
    if np.abs(ends[0] - ends[1]).max() > GRID_RTOL * ends[0].max():
        stored = [f"z {z[0]:.5g} to {z[-1]:.5g}" for z in ends]
        raise InfieldError(
            where=other.path,
            found=f"{stored[1]} along {depth} cells",
            expected=f"{stored[0]} as in {first.path}: cones of one file have one line of sight and cosmology",
            remedy="convert them apart",
        )


def _parameters(files: Sequence[RawLightcones], stated: UserMetadata) -> dict[str, np.ndarray]:
    common = [name for name in files[0].parameters if all(name in file.parameters for file in files)]
    values = {name: np.concatenate([np.atleast_1d(file.parameters[name]) for file in files]) for name in common}
    if stated.parameters is not None:
        unknown = [name for name in stated.parameters if name not in values]
        if unknown:
            raise InfieldError(
                where="{parameters}",
                found=", ".join(unknown),
                expected=f"some of {', '.join(values) or 'none'}",
                parameters=["parameters"],
            )
        return {name: values[name] for name in stated.parameters}
    kept: dict[str, np.ndarray] = {}
    for name in (*(name for name in MAIN_PARAMETERS if name in values), *values):
        repeats = any(np.array_equal(values[name], other) for other in kept.values())
        if name in MAIN_PARAMETERS or (len(np.unique(values[name])) > 1 and not repeats):
            kept[name] = values[name]
    return kept
