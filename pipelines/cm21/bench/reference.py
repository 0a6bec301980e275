"""The simulator's side of a comparison in one small file: summaries of its ensembles, and a truth to observe.

    python -m infield.pipelines.cm21.bench.reference REF0.zarr REF1.zarr -o reference.npz

Ensembles of `infield simulate 21cm --at ...`, each of one point of the parameters, are tens of megabytes each; what a
comparison with them needs is not: the global signal, the share of exact zeros and Delta^2 of every member, and, of the
first member of the first file, the stretch where about half of the voxels are ionised, with mean and power spectrum of
the other members there, from which Wiener filtering is made, and with its initial conditions if the file holds them.
`lightcones_32_reference.npz` beside the checkpoints is such a file; notebook 40 reads it.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.cm21.lightcone_file import DENSITY, Lightcones, lightcone_grid
from infield.datasets.cm21.observation import Observation, ObservedField
from infield.physics.measurement import Measurement
from infield.pipelines.cm21.bench.telescope import gaussian_of, half_ionised, wiener_prior
from infield.pipelines.cm21.members import check_same_grid, members_of
from infield.pipelines.options import as_option
from infield.pipelines.package_data import CHECKPOINTS
from infield.posterior.cm21.cone_statistics import SpectrumBins, chunks, fully_ionised_fraction, global_signal
from infield.priors.gaussian.prior import GaussianPrior
from infield.priors.gaussian.spectral_density import fold, unfold

VERSION = 1
CHECKPOINT = CHECKPOINTS / "lightcones_32.ckpt"
REFERENCE = CHECKPOINTS / "lightcones_32_reference.npz"
STORED = frozenset(
    "points cell distance redshift chunk k global_signal_0 zeros_0 spectrum_0 ensembles provenance truth truth_start "
    "mean variance".split()
)
LIGHTCONES_PER_READ = 4
"""Cones that are read together."""


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Summaries of cones of one point of the parameters, the members first.

    Arguments:
        point: Parameters by 21cmFAST's names.
        global_signal: mK, shape `(n, los)`.
        zeros: Share of exact zeros of each slice, shape `(n, los)`.
        spectrum: Delta^2 in mK^2, shape `(n, chunks, k)`.
        k: rad/Mpc, shape `(k,)`.
    """

    point: Mapping[str, float]
    global_signal: Tensor
    zeros: Tensor
    spectrum: Tensor
    k: Tensor

    @classmethod
    def of(cls, point: Mapping[str, float], cones: Tensor, spacing: Sequence[float], chunk: int) -> Ensemble:
        """Of cones `(n, x, y, los)` in mK, float64.

        Arguments:
            point: Of all of them.
            cones: Whole chunks.
            spacing: Of cells in Mpc.
            chunk: Cells of a chunk of the line of sight.
        """
        dx, dy, dz = spacing
        shells = SpectrumBins((cones.shape[1], cones.shape[2], chunk), (dx, dy, dz))
        spectra = [shells.spherical(shells.power(cones[..., part])) for part in chunks(cones.shape[-1], chunk)]
        k = spectra[0][0]
        delta = torch.stack([delta for _, delta in spectra], dim=1)
        return cls(
            point=point, global_signal=global_signal(cones), zeros=fully_ionised_fraction(cones), spectrum=delta, k=k
        )

    def part(self, cells: slice, chunk: int) -> Ensemble:
        """The same on a part of the line of sight, from the edge of a chunk to the edge of a chunk."""
        if cells.start % chunk or cells.stop % chunk:
            raise ValueError(f"found cells {cells.start} to {cells.stop}, expected edges of chunks of {chunk}")
        return Ensemble(
            point=self.point,
            global_signal=self.global_signal[:, cells],
            zeros=self.zeros[:, cells],
            spectrum=self.spectrum[:, cells.start // chunk : cells.stop // chunk],
            k=self.k,
        )


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a file holds.

    Arguments:
        cones: Grid, redshifts and provenance of all.
        chunk: Cells of a chunk of the line of sight.
        ensembles: One a point.
        truth: A stretch of the first member of the first ensemble, mK, `(x, y, cells)`, float64.
        cells: Which part of the line of sight it is.
        mean: Of each of its slices, over the sky and the other members, mK, shape `(cells,)`.
        variance: Of the Fourier modes of the other members there, mK^2, shape `(1, x, y, cells)`.
        box: Initial conditions of the truth, as an emulator takes them but for their scale, `(los, x, y)`; None where
            not known.
    """

    cones: Lightcones
    chunk: int
    ensembles: tuple[Ensemble, ...]
    truth: Tensor
    cells: slice
    mean: Tensor
    variance: Tensor
    box: Tensor | None = None

    @property
    def wiener(self) -> GaussianPrior:
        """The Gaussian whose posterior mean is Wiener filtering with the true spectrum."""
        return gaussian_of(self.mean, self.variance)

    def measure(self, observation: Observation, seed: int) -> Measurement:
        """An observation of the truth by a telescope; the seed is that of the noise."""
        field = ObservedField(self.cones, range(self.cells.start, self.cells.stop), observation)
        return field.measure(self.truth, seed)

    def summary(self, point: Mapping[str, float], cones: Tensor) -> Ensemble:
        """Summaries of other cones of this spacing, `(n, x, y, los)` in mK."""
        return Ensemble.of(point, cones.to(torch.float64), self.cones.grid.spacing, self.chunk)


def make_reference(paths: Sequence[Path], output: Path, *, overwrite: bool = False) -> None:
    """Summarise ensembles, the first of which gives the truth.

    Arguments:
        paths: Files of lightcones, each of one point of the parameters, all on one grid.
        output: The file to write, an .npz.
        overwrite: Whether an existing one may be replaced.

    Raises:
        InfieldError: A file is none, of another grid, of several points or of a single cone; or `output` exists.
    """
    if output.exists() and not overwrite:
        raise InfieldError(
            where=output, found="an existing file", expected="none", remedy="give another name or --overwrite"
        )
    members = [members_of(path, None, "REF.zarr") for path in paths]
    first = members[0]
    (nx, ny, depth), spacing = first.cones.grid.shape, first.cones.grid.spacing
    chunk = min(nx, depth)
    stored: dict[str, Any] = {
        "version": VERSION,
        "points": np.array([nx, ny]),
        "cell": spacing[0],
        "distance": np.array(first.cones.grid.axes[2].coordinates),
        "redshift": first.cones.redshift,
        "chunk": chunk,
    }
    described = []
    for i, one in enumerate(members):
        check_same_grid(first, one)
        point = {}
        for name, (low, high) in one.parameters.items():
            if low != high:
                raise InfieldError(
                    where=one.path, found=f"{name} {low:g} to {high:g}", expected="one point of the parameters"
                )
            point[name] = low
        n = len(one.numbers)
        if n < 2:
            raise InfieldError(where=one.path, found=f"{n} cone", expected="an ensemble of several seeds")
        parts = [
            Ensemble.of(point, one.block(j, j + LIGHTCONES_PER_READ), spacing, chunk)
            for j in range(0, n, LIGHTCONES_PER_READ)
        ]
        for name in ("global_signal", "zeros", "spectrum"):
            stored[f"{name}_{i}"] = torch.cat([getattr(part, name) for part in parts]).float().numpy()
        stored["k"] = parts[0].k.numpy()
        described.append({"point": point, "seeds": [] if one.cones.seeds is None else one.cones.seeds.tolist()})
    cells = half_ionised(torch.from_numpy(stored["zeros_0"]).double().mean(0))
    stretch = first.block(0, len(first.numbers))[..., cells]
    gaussian = wiener_prior(stretch[1:])
    stored |= {
        "ensembles": to_json(described),
        "provenance": to_json(dict(first.cones.provenance)),
        "truth": stretch[0].float().numpy(),
        "truth_start": cells.start,
        "mean": stretch[1:].mean((0, 1, 2)).numpy(),
        "variance": fold(gaussian.covariance.diagonal).float().numpy(),
    }
    if DENSITY in first.group:
        stored["initial_density"] = first.group[DENSITY][first.numbers[0]].values.astype(np.float16)
    np.savez_compressed(output, **stored)


def load_reference(path: Path = REFERENCE) -> Reference:
    """What `make_reference` wrote.

    Raises:
        InfieldError: The file is missing, none of these, or of a newer version.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        version = int(found["version"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InfieldError(where=path, found=f"no such file ({error})", expected="one of cm21_reference") from error
    if version > VERSION:
        raise InfieldError(
            where=path, found=f"version {version}", expected=f"at most {VERSION}", remedy="update infield"
        )
    missing = sorted(STORED - set(found))
    if missing:
        raise InfieldError(where=path, found=f"no {', no '.join(missing)}", expected="one of cm21_reference")
    nx, ny = map(int, found["points"])
    truth = torch.from_numpy(found["truth"]).double()
    start, k = int(found["truth_start"]), torch.from_numpy(found["k"])
    box = found.get("initial_density")
    ensembles = []
    for i, described in enumerate(json.loads(str(found["ensembles"]))):
        names = ("global_signal", "zeros", "spectrum")
        summaries = {name: torch.from_numpy(found[f"{name}_{i}"]).double() for name in names}
        ensembles.append(Ensemble(point=described["point"], k=k, **summaries))
    return Reference(
        cones=Lightcones(
            grid=lightcone_grid((nx, ny), float(found["cell"]), found["distance"]),
            redshift=found["redshift"],
            samples=len(ensembles[0].zeros),
            parameters={},
            provenance=json.loads(str(found["provenance"])),
        ),
        chunk=int(found["chunk"]),
        ensembles=tuple(ensembles),
        truth=truth,
        cells=slice(start, start + truth.shape[2]),
        mean=torch.from_numpy(found["mean"]),
        variance=unfold(torch.from_numpy(found["variance"]).double(), tuple(truth.shape)),
        box=torch.from_numpy(box.astype(np.float32)).movedim(-1, 0) if box is not None else None,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="cm21_reference", description=(__doc__ or "").split("\n", 1)[0], allow_abbrev=False
    )
    parser.add_argument("references", type=Path, nargs="+", metavar="REF.zarr", help="ensembles of one point each")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="REFERENCE.npz")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    given = parser.parse_args(arguments)
    try:
        make_reference(given.references, given.output, overwrite=given.overwrite)
    except InfieldError as error:
        print(error.render(as_option), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
