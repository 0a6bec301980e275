"""Several samplers on one measurement, in a table."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pandas as pd
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.pipelines.api.loading import sampler as sampler_named
from infield.pipelines.run.prior_choice import choose_prior
from infield.pipelines.run.process import one_thread
from infield.pipelines.run.samplers import adapted
from infield.posterior.diagnostics.calibration import coverage, ranks
from infield.posterior.samplers.base import Sampler


@one_thread()
def compare(
    prior: Any,
    measurement: Measurement,
    samplers: Iterable[Sampler | str],
    *,
    samples: int = 64,
    seed: int = 0,
) -> pd.DataFrame:
    """Run several samplers on one measurement, with the same seed.

    Arguments:
        prior: As `infield.reconstruct` takes it.
        measurement: The measurement; with a `truth`, errors and coverage are in the table.
        samplers: Samplers, or their names.
        samples: Samples of each.
        seed: Of the random numbers.

    Returns:
        A row per sampler. `std` is the posterior standard deviation, root mean square over the field; `rmse` the error
        of the posterior mean, both in the units of the field; `coverage_90` the fraction of true values within the
        central 90 % of the samples; `chi_square` that of the data per datum, about 1 under the right model;
        `velocity_calls` and `operator_calls` per sample. A sampler that does not accept prior or measurement has its
        reason under `remark`, one whose samples are no posterior its caveat.

    Raises:
        InfieldError: The prior is not one for this measurement, or a name is unknown.
    """
    chosen = choose_prior(prior, measurement).prior
    rows: dict[str, dict[str, Any]] = {}
    for given in samplers:
        sampler = sampler_named(given) if isinstance(given, str) else given
        name = sampler.method if sampler.method not in rows else f"{sampler.method} ({len(rows)})"
        start = time.perf_counter()
        try:
            drawn = adapted(sampler, chosen)(chosen, measurement, samples, SampleStreams(seed, range(samples)))
        except InfieldError as error:
            rows[name] = {"remark": str(error)}
            continue
        rows[name] = {
            "chi_square": drawn.diagnostics["chi_square"],
            "std": float(drawn.samples.var(0).mean().sqrt()),
            **_against(measurement.truth, drawn.samples),
            "velocity_calls": drawn.cost["velocity_calls"],
            "operator_calls": drawn.cost["operator_calls"],
            "seconds": time.perf_counter() - start,
            "remark": drawn.caveat or "",
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "sampler"
    return table


def _against(truth: Tensor | None, samples: Tensor) -> dict[str, float]:
    """Error and coverage of samples `(n, channel, *space)` beside the truth."""
    if truth is None:
        return {}
    error = (samples.mean(0) - truth[0]).square().mean().sqrt()
    inside = coverage(ranks(samples, truth[0]), len(samples), 0.9, Generator().manual_seed(0))
    return {"rmse": float(error), "coverage_90": inside}
