"""Simulation-based calibration of a sampler on a measurement file; its options are in `commands.calibrate`."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.core.randomness import SampleStreams
from infield.datasets.formats.calibration import CalibrationWriter
from infield.datasets.formats.measurement import digest_in_memory, open_measurement
from infield.datasets.training.fields import FieldFile
from infield.physics.measurement import Measurement
from infield.physics.units import same_units
from infield.pipelines.run.blocks import check_run, discard_if_empty, run_missing_blocks
from infield.pipelines.run.console import say, table
from infield.pipelines.run.devices import device_named
from infield.pipelines.run.fitted_field import FitOptions, fit_to_points, fits_points, with_fitted_noise
from infield.pipelines.run.options import check_at_least
from infield.pipelines.run.prior_choice import BUILT_IN, ChosenPrior, choose_prior, fitted_prior
from infield.pipelines.run.process import one_thread
from infield.pipelines.run.recalibration import judge_mending, keys_of, stored_arrays
from infield.pipelines.run.samplers import adapted, default_sampler, make_sampler
from infield.posterior.calibration.assessment import Assessment, Simulation, assess, refuse_few
from infield.posterior.calibration.beside_exact import ClassifierTest, compare_with_exact, is_known
from infield.posterior.calibration.functionals import functional_of, predeclared
from infield.posterior.calibration.places import groups_of_places
from infield.posterior.calibration.truths import draw_from_prior, simulated
from infield.posterior.samplers.base import Estimate, Sampler

WRONG = 3
"""Exit status with `--strict` where a fault was found."""

MEMORY = 2**29
"""Bytes of simulations that are kept in memory while they are judged; others are read again."""

EXACT_DRAWS = 7
"""Part of the seed of draws of the exact posterior."""

MISFITS = {
    "prior": ("log likelihood of the simulated data",),
    "file": ("log likelihood of the simulated data",),
    "posterior": ("log likelihood of the replicated data", "log likelihood of the observed data"),
}


def run(arguments: argparse.Namespace) -> int:
    sampler = None
    if arguments.sampler is not None or arguments.settings:
        sampler = make_sampler(arguments.sampler or "faps", arguments.settings)
    summary = calibrate(
        arguments.measurement,
        arguments.output,
        prior=arguments.prior,
        sampler=sampler,
        truths=arguments.truths,
        variable=arguments.variable,
        simulations=arguments.simulations,
        draws=arguments.draws,
        functionals=arguments.functionals,
        plan=arguments.plan,
        seed=arguments.seed,
        device=arguments.device,
        workers=arguments.workers,
        scheduler=arguments.scheduler,
        overwrite=arguments.overwrite,
        quiet=arguments.json,
    )
    if arguments.json:
        print(to_json(summary))
    elif arguments.plan:
        table(str(arguments.measurement), {key: str(value) for key, value in summary.items()})
    else:
        table(str(arguments.output), rows_of(summary))
    return WRONG if arguments.strict and summary.get("right") is False else 0


def rows_of(summary: dict[str, Any]) -> dict[str, str]:
    """What a person reads of a calibration."""
    rows = {"verdict": summary["verdict"], "truths": f"{summary['simulations']} of the {summary['truths']}"}
    for one in summary["coverage"]:
        if one["level"] == 0.8:
            rows[f"80 % intervals, {one['place']}"] = f"hold {100 * one['share']:.1f} +- {100 * one['error']:.1f} %"
    rows["TARP"] = f"p = {summary['tarp_p']:.2g}"
    if summary["c2st"] is not None:
        rows["C2ST"] = summary["c2st"]["words"]
    rows["sees"], rows["does not see"] = summary["sees"], summary["does_not_see"]
    mended = summary["mending"]
    rows["mended, on simulations it was not fitted to"] = (
        f"spread over error {mended['before']['ratio']:.2f} to {mended['after']['ratio']:.2f}, 90 % intervals hold "
        f"{100 * mended['before']['cover_90']:.0f} to {100 * mended['after']['cover_90']:.0f} %, energy score "
        f"{mended['before']['energy_score']:.4g} to {mended['after']['energy_score']:.4g}"
    )
    return rows


@one_thread()
def calibrate(
    measured: Path | Measurement,
    output: Path,
    *,
    prior: Any = None,
    sampler: Sampler | None = None,
    truths: str | Path = "prior",
    variable: str = "field",
    simulations: int = 64,
    draws: int = 32,
    functionals: Sequence[str] = (),
    plan: bool = False,
    seed: int = 0,
    device: str = "auto",
    workers: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    uses: int = 1,
) -> dict[str, Any]:
    """The command as a function; returns the verdict, or with `plan` the cost, in plain JSON types.

    Arguments:
        uses: How often the observed data count in a reconstruction of truths of the posterior; others than 1 are the
            controls of the test.

    Raises:
        InfieldError: An error in the input that the user can fix; no incomplete file is left at `output`.
    """
    refuse_few(simulations)
    check_at_least(8, draws=draws)
    check_run(simulations, seed, workers, scheduler, output=None if plan else output, overwrite=overwrite)
    measurement = measured if isinstance(measured, Measurement) else open_measurement(measured)
    measurement, chosen, sampler = choose_all(measurement, prior, sampler, device_named(device), seed)
    source = str(truths) if str(truths) in ("prior", "posterior") else "file"
    fields = _truths_of(Path(truths), variable, measurement, simulations) if source == "file" else None
    if source == "prior":
        draw_from_prior(chosen.prior, 1, Generator().manual_seed(seed))  # refused before anything is written
    tested = [
        *(functional_of(text, measurement.grid, measurement.channels) for text in functionals),
        *predeclared(measurement.grid, measurement.channels),
    ]
    behind = adapted(sampler, chosen.prior)
    shared = (behind, chosen.prior, measurement, source, fields, draws, seed, uses)
    if plan:
        return _plan(shared, simulations, workers)
    writer = CalibrationWriter(
        output,
        grid=measurement.grid,
        channels=measurement.channels,
        units=measurement.units,
        simulations=simulations,
        draws=draws,
        misfits=MISFITS[source],
        overwrite=overwrite,
        known={"prior_sha256": chosen.is_known_as},
        run={
            **keys_of(measurement, chosen, sampler),
            "prior": f"{chosen.label}: {chosen.prior.name}",
            "truths": source,
            "truths_file": "" if fields is None else str(truths),
            "measurement_sha256": measurement.digest or digest_in_memory(measurement),
            "seed": seed,
            "uses_of_observed_data": uses,
        },
    )

    def write(s: int, result: Callable[[], Drawn]) -> None:
        writer.write_simulation(s, *result())

    with discard_if_empty(writer):
        missing = writer.missing_blocks()
        if missing:
            start = time.perf_counter()
            write(missing[0], lambda: one_simulation(*(*shared, missing[0])))
            each = time.perf_counter() - start
            say(f"{len(missing) - 1} further simulations of about {each:.1f} s of a core each", quiet=quiet)
    run_missing_blocks(writer, one_simulation, shared, write, scheduler=scheduler, workers=workers, quiet=quiet)
    fields_in_memory = MEMORY // (4 * (draws + 1) * int(np.prod(measurement.event_shape)) * 2)
    read = lru_cache(maxsize=min(simulations, int(fields_in_memory)))(writer.read)
    verdict = assess(
        lambda s: Simulation(*read(s)),
        simulations,
        tested,
        groups_of_places(measurement),
        source,
        misfits=writer.misfits,
        seed=seed,
    )
    if is_known(chosen.prior, measurement):
        verdict = replace(verdict, classifier=_beside_exact(shared, simulations, lambda s: read(s)[1]))
    mended, recalibration, factors = judge_mending(measurement.grid, lambda s: read(s)[:2], simulations, seed=seed)
    summary = {**verdict.to_json(), "mending": mended, "output": str(output), "sampler": sampler.method}
    writer.finish(summary, stored_arrays(measurement, recalibration, factors))
    say_faults(verdict, quiet=quiet)
    return summary


def say_faults(verdict: Assessment, *, quiet: bool) -> None:
    """A warning where a fault was found."""
    if not verdict.right:
        say(f"warning: {verdict.verdict}", quiet=quiet)


def choose_all(
    measurement: Measurement, prior: Any, sampler: Sampler | None, device: str, seed: int
) -> tuple[Measurement, ChosenPrior, Sampler]:
    """Measurement, with a noise level as it was fitted, prior and sampler as `reconstruct` would choose them.

    A law fitted to point data is used as a Gaussian prior: simulations are of one law, not of a fit to each.

    Raises:
        InfieldError: As there; or the sampler draws no posterior.
    """
    of_name = prior is None or (isinstance(prior, str) and prior in BUILT_IN)
    if of_name and fits_points(measurement):
        sampler = sampler or make_sampler("exact")
        if sampler.method == "kriging":
            raise InfieldError(
                where="{sampler}", found="'kriging', which fits a law to each file anew",
                expected="a sampler of one prior", remedy="take {exact}",
                parameters={"sampler": None, "exact": None},
            )  # fmt: skip
        law = fit_to_points(measurement, BUILT_IN[prior or "fitted"], FitOptions(), seed, sampler)
        measurement, chosen = with_fitted_noise(measurement, law), fitted_prior(prior, law, sampler)
    else:
        chosen = choose_prior(prior, measurement, device=device)
    sampler = sampler or default_sampler(measurement, chosen.fitted)
    if issubclass(sampler.result, Estimate):
        raise InfieldError(
            where="{sampler}", found=f"'{sampler.method}', an estimate without a spread",
            expected="one that draws from a posterior", parameters=["sampler"],
        )  # fmt: skip
    return measurement, chosen, sampler


Drawn = tuple[Tensor, Tensor, Tensor, float]
"""Truth, draws, their log likelihoods, seconds."""


def one_simulation(
    sampler: Sampler,
    prior: Any,
    measurement: Measurement,
    source: str,
    fields: Tensor | None,
    draws: int,
    seed: int,
    uses: int,
    s: int,
) -> Drawn:
    """Simulation number s: its random numbers depend on the seed and on s alone."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    own, first, second = _seeds(seed, s)
    block = sampler.block
    field = None if fields is None else fields[s : s + 1]
    streams = SampleStreams(first, range(block))
    case, replicate = simulated(
        source, prior, sampler, measurement, Generator().manual_seed(own), streams, field=field, uses=uses
    )
    found = []
    for b in range(-(-draws // block)):  # as `reconstruct` draws them
        found.append(sampler(prior, case, block, SampleStreams(second, range(b * block, (b + 1) * block))).samples)
    samples = torch.cat(found)[:draws].to(torch.float64)
    assert replicate.truth is not None
    candidates = torch.cat([replicate.truth.to(torch.float64), samples])
    data = [replicate, measurement] if source == "posterior" else [replicate]
    with torch.no_grad():
        fit = torch.stack([one.log_likelihood(candidates.to(one.y)).double() for one in data], 1)
    fit = fit.clamp(-1e300, 1e300)  # a draw may be impossible, as rates below zero are
    return candidates[0], samples, fit, time.perf_counter() - start


def _beside_exact(shared: tuple[Any, ...], simulations: int, samples: Callable[[int], Tensor]) -> ClassifierTest:
    """The draws of simulations beside exact ones of the same data, which are simulated again."""
    sampler, prior, measurement, source, fields, draws, seed, _ = shared

    def read(s: int) -> tuple[Measurement, Tensor]:
        own, first, _ = _seeds(seed, s)
        field, streams = None if fields is None else fields[s : s + 1], SampleStreams(first, range(sampler.block))
        generator = Generator().manual_seed(own)
        return simulated(source, prior, sampler, measurement, generator, streams, field=field)[0], samples(s)

    def streams(s: int) -> SampleStreams:
        return SampleStreams(_seeds(seed, s, EXACT_DRAWS)[2], range(draws))

    return compare_with_exact(prior, simulations, draws, read, streams)


def _seeds(seed: int, s: int, *more: int) -> tuple[int, int, int]:
    """Of truth and noise, of a truth's draw, and of the draws of a simulation."""
    own, first, second = (int(k) >> 1 for k in np.random.SeedSequence([seed, s, *more]).generate_state(3, np.uint64))
    return own, first, second


def _plan(shared: tuple[Any, ...], simulations: int, workers: int | None) -> dict[str, Any]:
    _, draws, _, seconds = one_simulation(*(*shared, 0))
    side_by_side = workers or os.cpu_count() or 1
    return {
        "simulations": simulations,
        "draws of each": len(draws),
        "seconds of a core each": round(seconds, 2),
        "seconds of a core in all": round(seconds * simulations, 1),
        "seconds at least": round(seconds * simulations / side_by_side, 1),
        "GiB on disk at most": round(4 * draws[0].numel() * (len(draws) + 1) * simulations / 2**30, 3),
    }


def _truths_of(path: Path, variable: str, measurement: Measurement, simulations: int) -> Tensor:
    """Fields of a file as truths, `(simulations, channel, *space)`, float64.

    Raises:
        InfieldError: Nothing is there, or there are too few fields, or they are of another grid or other units.
    """
    file = FieldFile(str(path), variable, batch_size=1, validation=0.0)
    file.setup("fit")
    found = tuple(file.grid.shape), len(file.channels)
    expected = tuple(measurement.grid.shape), len(measurement.channels)
    if found != expected:
        raise InfieldError(where=path, found=f"fields of shape {found[0]}, {found[1]} channels",
                           expected=f"{expected[0]} and {expected[1]}, as the measurement's")  # fmt: skip
    if not same_units(file.units, measurement.units):
        raise InfieldError(where=path, found=f"units '{file.units}'", expected=f"'{measurement.units}'")
    if len(file.training) < simulations:
        raise InfieldError(
            where=path, found=f"{len(file.training)} fields", expected=f"{simulations}, one a simulation",
            remedy="lower {simulations}", parameters=["simulations"],
        )  # fmt: skip
    return file.training[list(range(simulations))].to(torch.float64)
