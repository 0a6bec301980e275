"""Posterior samples of a measurement, in memory or from file to file."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from infield.core.errors import InfieldError
from infield.core.local_path import local_path
from infield.datasets.formats.posterior import open_posterior
from infield.physics.measurement import Measurement
from infield.pipelines.api.loading import sampler as sampler_named
from infield.pipelines.commands import reconstruct as command
from infield.pipelines.run.fitted_field import FitOptions
from infield.pipelines.run.process import process_restored
from infield.pipelines.run.reporting import warnings_of
from infield.posterior.samplers.base import Sampler


def reconstruct(
    measurement: Measurement | str | Path,
    to: str | Path | None = None,
    *,
    prior: Any = None,
    sampler: Sampler | str | None = None,
    samples: int = 64,
    seed: int = 0,
    at: Mapping[str, float] | None = None,
    surrogate: str | Path | None = None,
    trend: str = "constant",
    covariates: Sequence[str] = (),
    isotropic: bool = False,
    azimuth: float | None = None,
    hyper: str = "auto",
    validation: bool = True,
    slices: int | None = None,
    calibration: str | Path | None = None,
    report: str | Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    device: str = "auto",
) -> xr.Dataset:
    """Draw samples of the field behind a measurement; the command `infield reconstruct` as a function.

    Number of threads, random states and warning filters of the process are left as they were. Sample number i depends
    on the seed and on i alone. Whatever the command prints as a warning is a Python warning.

    Arguments:
        measurement: A measurement, or the path of its file.
        to: The posterior to write, a new file, written block by block and resumed if it was interrupted. None: the
            posterior is kept in memory alone.
        prior: A name, a path, or what `load_prior` gives. None: one is fitted to the measurement.
        sampler: What `infield.sampler` gives, or a name. None: chosen for prior and measurement.
        samples: Number of samples.
        seed: Of all random numbers.
        at: Numbers that a conditional prior is given, beside the context of the measurement or in its place.
        surrogate: Checkpoint of a stand-in for the measurement's solver.
        trend: Without a prior, for point data: "none", "constant" or "linear" functions of position.
        covariates: Without a prior, for point data: fields of the context on which the mean depends linearly.
        isotropic: Without a prior, for point data: one length for all axes of one unit.
        azimuth: Without a prior, for point data: angle of unequal lengths in degrees; None where the data decide.
        hyper: Without a prior, for point data: "auto", "sample" or "plug-in" hyperparameters.
        validation: Without a prior, for point data: predict held-out data.
        slices: A prior of slices (y, x) for a volume (z, y, x): slices per task of a worker.
        calibration: What `calibrate` wrote for this measurement, prior and sampler: recalibrated samples and conformal
            intervals are kept beside the samples.
        report: HTML file to write.
        overwrite: Whether existing outputs may be replaced.
        workers: Blocks of samples at a time on this machine; None for as many as it has cores.
        scheduler: Address of a Dask scheduler.
        device: Where networks run: "auto", "cpu", "cuda", ...

    Returns:
        The posterior: `samples`, `mean` and `std` with coordinates and units, diagnostics and costs as attributes. With
        `to`, its arrays stay on disk.

    Raises:
        InfieldError: An error that the caller can fix; no incomplete file is left at `to`.
    """
    for name, value, known in (
        ("trend", trend, ("none", "constant", "linear")),
        ("hyper", hyper, ("auto", "sample", "plug-in")),
    ):
        if value not in known:
            raise InfieldError(where=name, found=repr(value), expected=f"one of {', '.join(known)}")
    measured = measurement if isinstance(measurement, Measurement) else local_path(measurement)
    with process_restored(), _folder_of(to) as output:
        summary = command.reconstruct(
            measured,
            output,
            prior=prior,
            at=at,
            surrogate=None if surrogate is None else local_path(surrogate),
            sampler=sampler_named(sampler) if isinstance(sampler, str) else sampler,
            samples=samples,
            seed=seed,
            device=device,
            slices=slices,
            workers=workers,
            scheduler=scheduler,
            calibration=None if calibration is None else local_path(calibration),
            report=None if report is None else local_path(report),
            overwrite=overwrite,
            quiet=True,
            fit=FitOptions(
                trend,  # type: ignore[arg-type]  # checked above
                isotropic,
                hyper,  # type: ignore[arg-type]
                validation,
                covariates=tuple(covariates),
                azimuth=azimuth,
            ),
        )
        posterior = open_posterior(output)
        if to is None:
            posterior = posterior.load()
            posterior.close()
    for line in (summary.get("note"), *warnings_of(summary)):
        if line:
            warnings.warn(str(line).removeprefix("warning: "), stacklevel=2)
    return posterior


@contextlib.contextmanager
def _folder_of(to: str | Path | None) -> Iterator[Path]:
    """Where the posterior is written: under its name, or in a folder that is removed."""
    if to is not None:
        yield local_path(to)
        return
    folder = Path(tempfile.mkdtemp(prefix="infield-"))
    try:
        yield folder / "posterior.zarr"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
