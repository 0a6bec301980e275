"""A slice of fastMRI's size by the two commands of a user: `infield convert mri`, then `infield reconstruct`.

A synthetic head of 240 mm in the middle of 640 x 372 points of 0.75 mm, twice as many rows as it fills, as an
oversampled readout has them; 15 smooth coils; noise 0.02 in each part, where bright tissue is 1. The file states
neither maps nor noise nor a smaller field of view, so all of it is estimated and reconstructed. Each command runs in
a process of its own, on one thread; its CPU time counts its imports.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.datasets.formats.posterior import open_posterior
from infield.datasets.mri.brains import BrainPhantom
from infield.datasets.mri.kspace import fourier
from infield.pipelines.bench.kept import Kept
from infield.pipelines.bench.kriging.processes import Limits, of_ours
from infield.pipelines.bench.targets import TargetBench
from infield.pipelines.mri.bench.cases import NOISE, UNSEEN, smooth_coils

CPU_SECONDS, GIGABYTES, OPERATOR_CALLS = 240.0, 3.0, 100.0
"""Of both commands together; of the larger one; of A and its adjoint, a sample."""

DRAWS, BOTH = 4, "both commands"


@dataclass(frozen=True)
class Size:
    """Of a slice.

    Arguments:
        rows, columns, coils: Of k-space.
        head: Points of the square that holds the head.
    """

    rows: int = 640
    columns: int = 372
    coils: int = 15
    head: int = 320

    @property
    def words(self) -> str:
        return f"{self.coils} coils, {self.rows} x {self.columns}"


SMALL = Size(160, 152, 4, 128)


def write_slice(path: Path, size: Size, seed: int) -> np.ndarray:
    """A file of fastMRI's layout; its image, complex `(y, x)`."""
    fov = 240.0
    grid = Grid.regular((size.head, size.head), (fov, fov), names=("y", "x"), units="mm", periodic=True)
    head = BrainPhantom(fov=fov).draw(grid, SampleStreams(UNSEEN, [seed]).normal)[0].numpy()
    shape = size.rows, size.columns
    image = np.zeros(shape, dtype=complex)
    image[tuple(slice((n - size.head) // 2, (n + size.head) // 2) for n in shape)] = head
    n = max(shape)
    middle = tuple(slice((n - m) // 2, (n - m) // 2 + m) for m in shape)
    maps = smooth_coils(n, size.coils)[(slice(None), *middle)]
    parts = np.random.default_rng(seed).standard_normal((2, size.coils, *shape))
    kspace = fourier(maps * image) + NOISE * (parts[0] + 1j * parts[1])
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace[None].astype(np.complex64)
    return image


CASES: dict[str, tuple[str, list[str]]] = {
    "full-size": ("all samples", []),
    "accelerated": ("a quarter", ["--acceleration", "4", "--mask", "equispaced"]),
}
"""Words of a case, and options of `infield convert mri`."""


def judge_full_size(bench: TargetBench, kept: Kept, cases: list[str], *, quick: bool) -> None:
    """Add what both commands cost in some cases; without targets when quick."""
    size = SMALL if quick else Size()
    targets = {} if quick else {"cpu_seconds": CPU_SECONDS, "memory_gb": GIGABYTES, "operator_calls": OPERATOR_CALLS}
    for words, options in (CASES[case] for case in cases):
        case = f"{size.words}, {words}"
        found = kept.case(f"{case} seed {bench.seed}", partial(_run, size, options, bench.seed))
        for name, value in found.items():
            method, metric = name.split("/")
            high = targets.get(metric) if method == BOTH else None
            bench.judge(case, method, metric, float(value), high=high)


def _run(size: Size, options: list[str], seed: int) -> dict[str, np.ndarray]:
    """Figures by "method/metric"."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        source, measurement, output = (f"{folder}/{name}" for name in ("slice.h5", "y.zarr", "x.zarr"))
        image = np.abs(write_slice(Path(source), size, seed))
        for command in (
            ["convert", "mri", source, "-o", measurement, *options],
            ["reconstruct", measurement, "-o", output, "--samples", f"{DRAWS}"],
        ):
            outcome = of_ours(command, Limits(Path(folder)))
            if outcome.refused is not None:
                raise InfieldError(where=f"infield {command[0]}", found=outcome.refused)
            found[f"infield {command[0]}/cpu_seconds"] = outcome.cost["cpu_seconds"]
            found[f"infield {command[0]}/memory_gb"] = outcome.cost["memory"] * 2**20 / 1e9
        for metric, of_both in (("cpu_seconds", sum), ("memory_gb", max)):
            found[f"{BOTH}/{metric}"] = of_both(v for name, v in found.items() if name.endswith(metric))
        with open_posterior(Path(output)) as posterior:
            mean = np.hypot(*posterior["mean"].transpose("channel", ...).to_numpy().astype(float))
            found[f"{BOTH}/operator_calls"] = json.loads(posterior.attrs["cost"])["operator_calls"] / DRAWS
        with xr.open_zarr(measurement, consolidated=False) as file:
            seen = (np.abs(file["coil_maps"].to_numpy()) > 0).reshape(size.coils, *image.shape, -1).any((0, -1))
        found[f"{BOTH}/relative_l2_of_the_head"] = _error(mean[seen], image[seen])
    return {name: np.array(value) for name, value in found.items()}


def _error(found: np.ndarray, truth: np.ndarray) -> float:
    """Relative error of magnitudes where coils see anything, scaled to fit best: files have their own units, and maps
    no absolute phase."""
    scale = (found * truth).sum() / (found**2).sum()
    return float(np.linalg.norm(scale * found - truth) / np.linalg.norm(truth))
