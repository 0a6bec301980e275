"""Is a posterior right? `infield calibrate` and `infield check` as functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infield.core.local_path import local_path
from infield.physics.measurement import Measurement
from infield.pipelines.api.loading import sampler as sampler_named
from infield.posterior.samplers.base import Sampler


def calibrate(
    measurement: Measurement | str | Path,
    to: str | Path,
    *,
    prior: Any = None,
    sampler: Sampler | str | None = None,
    truths: str | Path = "prior",
    variable: str = "field",
    simulations: int = 64,
    draws: int = 32,
    functionals: Sequence[str] = (),
    seed: int = 0,
    overwrite: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Calibrate a sampler by simulations of a measurement's operator and noise; `infield calibrate`.

    Arguments:
        measurement: A measurement, or the path of its file.
        to: The calibration to write, a new file, for `reconstruct(..., calibration=to)`.
        prior: As for `reconstruct`.
        sampler: What `infield.sampler` gives, or a name. None: as for `reconstruct`.
        truths: "prior", "posterior", or a file of fields.
        variable: Of the file of truths.
        simulations: How many, at least 20.
        draws: Posterior samples of each.
        functionals: Numbers of the field to test beside those declared, e.g. "mean:x=0:0.5".
        seed: Of all random numbers.
        overwrite: Whether an existing file may be replaced.
        workers: Simulations at a time on this machine.
        scheduler: Address of a Dask scheduler.
        device: Where networks run.

    Returns:
        The verdict in JSON types: `right`, `verdict`, `p`, `functionals`, `smallest_faults`, `coverage`, `mending`, ...

    Raises:
        InfieldError: Whatever the caller can mend.
    """
    from infield.pipelines.run.calibrate import calibrate as run

    return run(
        measurement if isinstance(measurement, Measurement) else local_path(measurement),
        local_path(to),
        prior=prior,
        sampler=sampler_named(sampler) if isinstance(sampler, str) else sampler,
        truths=truths,
        variable=variable,
        simulations=simulations,
        draws=draws,
        functionals=functionals,
        seed=seed,
        overwrite=overwrite,
        workers=workers,
        scheduler=scheduler,
        device=device,
        quiet=True,
    )


def check(
    measurement: Measurement | str | Path,
    posterior: str | Path,
    *,
    prior: Any = None,
    draws: int = 99,
    seed: int = 0,
    record: bool = True,
    device: str = "auto",
) -> dict[str, Any]:
    """Check a posterior by the data of its measurement; `infield check`.

    Arguments:
        measurement: A measurement, or the path of its file.
        posterior: A posterior of it.
        prior: That of the posterior. None: looked for by the name that the posterior gives.
        draws: Posterior samples that predict, at least 99.
        seed: Of the split and the draws.
        record: Whether the verdict is written to the posterior.
        device: Where networks run.

    Returns:
        The verdict in JSON types: `trusted`, `trusted_because`, `p`, `largest`, `smallest_faults`, `evidence`, ...

    Raises:
        InfieldError: Whatever the caller can mend.
    """
    from infield.pipelines.run.check import check as run

    given = measurement if isinstance(measurement, Measurement) else local_path(measurement)
    return run(given, local_path(posterior), prior=prior, draws=draws, seed=seed, record=record, device=device)
