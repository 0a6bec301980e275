"""Draws posterior samples of the field behind a measurement; its options are in `reconstruct_options`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.core.randomness import SampleStreams
from infield.datasets.formats.measurement import digest_in_memory, open_measurement
from infield.datasets.formats.posterior import PosteriorWriter
from infield.datasets.formats.sources import open_zarr_group
from infield.datasets.formats.zarr_group import check_new
from infield.physics.measurement import Measurement
from infield.pipelines.run.blocks import check_run, run_missing_blocks, run_settings
from infield.pipelines.run.console import say, table
from infield.pipelines.run.devices import device_named
from infield.pipelines.run.fit_options import refuse_fit_of_others
from infield.pipelines.run.fitted_field import (
    UNCHECKED,
    FitOptions,
    Judged,
    fit_options,
    fit_to_points,
    fits_points,
    moments_on_grid,
    refuse_unused_fit,
    takes_fitted_field,
    with_fitted_noise,
)
from infield.pipelines.run.options import check_at_least, refuse_without
from infield.pipelines.run.parameters import named_numbers
from infield.pipelines.run.precision import stored_dtype
from infield.pipelines.run.prior_choice import (
    BUILT_IN,
    cautions,
    choose_prior,
    choose_slice_prior,
    fitted_prior,
    prior_file,
)
from infield.pipelines.run.process import one_thread
from infield.pipelines.run.references import ATTRIBUTE, citations
from infield.pipelines.run.reporting import report_writer, warnings_of
from infield.pipelines.run.samplers import adapted, default_sampler, make_sampler, parameters_of
from infield.posterior.models.surrogate import Surrogate, SurrogateMeasurement, load_surrogate, replace_solver
from infield.posterior.samplers.base import Estimate, Posterior, Sampler
from infield.posterior.samplers.faps import FAPS, LEVELS
from infield.posterior.samplers.faps_tiled import TiledFAPS
from infield.priors.base import FlowPrior
from infield.priors.flows.slices import SlicePrior

CHECKED = 8
"""Samples at which the solver is run once more, to see whether a surrogate was wrong by more than was added."""


COLLAPSED = (
    "the particles of smc collapsed: these are guided draws, which descend from few, and no draws of the posterior"
)
"""Caveat of particles that came down to hardly more than one; see `posterior.samplers.twisted_smc`."""

REPORTED = {
    "acceptance": ("accepted proposals", ".0%"),
    "effective_share": ("least effective share of particles", ".2%"),
    "log_evidence": ("log evidence", ".2f"),
}
"""Diagnostics of samplers, means over the blocks: label, and format of the number."""


def run(arguments: argparse.Namespace) -> int:
    sampler = None
    if arguments.sampler is not None or arguments.settings:
        sampler = make_sampler(arguments.sampler or "faps", arguments.settings)
    common = run_settings(arguments) | {"report": arguments.report}
    if arguments.tiles is None and arguments.halo is None:
        summary = reconstruct(
            arguments.measurement,
            arguments.output,
            prior=arguments.prior,
            at=named_numbers("--at", arguments.fixed),
            surrogate=arguments.surrogate,
            sampler=sampler,
            fit=fit_options(arguments),
            device=arguments.device,
            slices=arguments.slices,
            calibration=arguments.calibration,
            **common,
        )
    else:
        summary = _in_tiles(arguments, sampler, common)
    if arguments.json:
        print(to_json(summary))
        return 0
    rows = {
        "prior": summary["prior"],
        "samples": f"{summary['samples']} by {summary['sampler']}",
        "data chi-square per datum": f"{summary['chi_square']:.3f}",
        **_about_surrogate(summary),
        **{words: format(summary[name], form) for name, (words, form) in REPORTED.items() if name in summary},
        "velocity calls a sample": f"{summary['velocity_calls']:g}",
        "operator calls a sample": f"{summary['operator_calls']:g}",
        "seconds": f"{summary['seconds']:.1f}",
    }
    table(str(arguments.output), rows)
    return 0


def _in_tiles(arguments: argparse.Namespace, sampler: Sampler | None, common: dict[str, Any]) -> dict[str, Any]:
    from infield.pipelines.run.tiles import reconstruct_in_tiles

    refuse_without("--tiles", arguments.tiles is not None, arguments, "halo")
    refuse_unused_fit(fit_options(arguments))
    if arguments.slices is not None:
        raise InfieldError(
            where="--slices", found="--tiles beside it", expected="one of them", remedy="leave out --tiles and --halo"
        )
    if arguments.calibration is not None:
        raise InfieldError(
            where="--tiles", found="--calibration, which is of whole fields", expected="none", remedy="leave it out"
        )
    if arguments.fixed:
        raise InfieldError(
            where=f"--at {arguments.fixed[0]}", found="--tiles", expected="a prior of lightcones, which takes no tiles"
        )
    sampler = sampler or FAPS()
    if not isinstance(sampler, FAPS) or sampler != FAPS(levels=sampler.levels):
        raise InfieldError(
            where="--tiles",
            found=f"--sampler {sampler.method}" if not isinstance(sampler, FAPS) else "--with other than levels",
            expected="--sampler faps, which runs tile by tile, with no parameter but levels",
        )
    of_file = arguments.prior is not None and arguments.prior not in BUILT_IN
    path = prior_file(arguments.prior) if of_file else None
    if path is None or path.suffix != ".ckpt" or arguments.surrogate is not None:
        raise InfieldError(
            where="--tiles",
            found="--surrogate"
            if arguments.surrogate is not None
            else f"--prior {arguments.prior or 'of the default'}",
            expected="--prior with the checkpoint of a prior of patches, and no --surrogate",
        )
    halo = arguments.halo or [n // 2 for n in arguments.tiles]
    tiled = TiledFAPS(tile=tuple(arguments.tiles), halo=tuple(halo), levels=sampler.levels or LEVELS)
    where = device_named(arguments.device)
    return reconstruct_in_tiles(
        arguments.measurement, arguments.output, prior=path, sampler=tiled, device=where, **common
    )


def _about_surrogate(summary: dict[str, Any]) -> dict[str, str]:
    if "surrogate" not in summary:
        return {}
    held_out, samples = summary["surrogate_relative_error"], summary["surrogate_error_at_samples"]
    return {
        "solver replaced by": f"{summary['surrogate']}, relative error {held_out:.2%}",
        "its error at the data": f"{summary['surrogate_error_over_noise']:.3g} times the noise, added to it",
        "its error at the samples": f"{samples:.3g} times what was added (expected 1)",
    }


@one_thread()
def reconstruct(
    measured: Path | Measurement,
    output: Path,
    *,
    prior: Any = None,
    at: Mapping[str, float] | None = None,
    surrogate: Path | None = None,
    sampler: Sampler | None = None,
    samples: int = 64,
    seed: int = 0,
    device: str = "auto",
    slices: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    report: Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    fit: FitOptions | None = None,
    calibration: Path | None = None,
) -> dict[str, Any]:
    """The command as a function; returns a summary in plain JSON types. The measurement's file is opened once.

    A measurement and a prior may also be given as they are in memory.

    Raises:
        InfieldError: An error in the input that the user can fix; no incomplete file is left at `output`.
    """
    start = time.perf_counter()
    check_run(samples, seed, workers, scheduler, least_samples=0)
    check_at_least(1, slices=slices)
    if slices is not None and at:
        raise InfieldError(
            where=f"--at {next(iter(at))}", found="--slices", expected="a prior of lightcones, which takes no slices"
        )
    write_report = report_writer(report, overwrite)
    where = device_named(device)
    check_new(output, overwrite)
    with registry.plugins_recorded() as plugins:
        opened = measurement = measured if isinstance(measured, Measurement) else open_measurement(measured)
        if scheduler is not None:
            from infield.pipelines.run.cluster import check_scheduler  # Dask

            check_scheduler(scheduler)
        about = opened.source or "the measurement"
        of_name = prior is None or (isinstance(prior, str) and prior in BUILT_IN)
        with _about(about) if of_name else nullcontext():
            law = None
            built_in = slices is None and surrogate is None and of_name
            if built_in and fits_points(measurement):
                if at:
                    raise InfieldError(
                        where=f"--at {next(iter(at))}", found="a law fitted to the data", expected="a conditional prior"
                    )
                refuse_fit_of_others(fit, sampler)
                law = fit_to_points(measurement, BUILT_IN[prior or "fitted"], fit or FitOptions(), seed, sampler)
                measurement = with_fitted_noise(measurement, law)
                chosen = fitted_prior(prior, law, sampler)
            elif slices is None:
                refuse_unused_fit(fit)
                chosen = choose_prior(prior, measurement, device=where, at=at)
            else:
                refuse_unused_fit(fit)
                chosen = choose_slice_prior(prior, measurement, device=where)
    fitted = law if takes_fitted_field(sampler) else None  # what moments and draws are of; other samplers get a prior
    if sampler is None:
        sampler = make_sampler("kriging") if fitted is not None else default_sampler(measurement, chosen.fitted)
    if samples == 0 and fitted is None:
        raise InfieldError(
            where="{samples}", found=0, expected="at least 1",
            remedy="mean and standard deviation are known without samples only where a law is fitted to data at points",
            parameters=["samples"],
        )  # fmt: skip
    mending = None
    if calibration is not None:
        from infield.pipelines.run.recalibration import Mending

        mending = Mending.of(calibration, measurement, chosen, sampler, opened, surrogate=surrogate, slices=slices)
    cited = citations(sampler, chosen.prior, fitted=chosen.fitted)
    plugins |= registry.plugin_of("samplers", type(sampler))
    if chosen.fitted:
        say(f"no prior from elsewhere: {chosen.prior.name}", quiet=quiet)
    note = cautions(measurement, chosen.prior, chosen.conditioned_on)
    if note:
        say(note, quiet=quiet)
    if chosen.doubt:
        say(f"{chosen.doubt}; name a prior of an open domain with --prior", quiet=quiet)
    stand_in: dict[str, str] = {}
    if surrogate is not None:
        with registry.plugins_recorded() as of_surrogate:
            learned = load_surrogate(surrogate, where)
        plugins |= of_surrogate
        replaced = _replaced(measurement, surrogate, learned)
        measurement = replaced.measurement
        stand_in = {"surrogate": surrogate.name, "surrogate_sha256": learned.stored.sha256}
    block, of_sampler = sampler.block_of(measurement), parameters_of(sampler)
    writer = PosteriorWriter(
        output,
        grid=measurement.grid,
        channels=measurement.channels,
        units=measurement.units,
        samples=samples,
        block=block,
        dtype=stored_dtype(measurement, chosen.prior if law is None else None),
        overwrite=overwrite,
        title=f"Posterior of {Path(about).name}",
        carried=measurement.carried,
        known={"prior_sha256": chosen.is_known_as},
        run={
            "sampler": sampler.method,
            "sampler_parameters": of_sampler,
            "prior": f"{chosen.label}: {chosen.prior.name}",
            "prior_sha256": chosen.sha256,
            "seed": seed,
            "measurement_sha256": opened.digest or digest_in_memory(opened),
            **stand_in,
            **({"plugins": plugins} if plugins else {}),
            **({} if slices is None else {"slices_a_task": slices}),
            **({} if law is None else {"fit_options": (fit or FitOptions()).of_law()}),
        },
    )

    def write(block: int, result: Callable[[], Posterior]) -> None:
        with _about(about):
            posterior = result()
        own = len(writer.sample_range(block))
        writer.write_block(block, posterior.samples[:own], posterior.cost, posterior.diagnostics)

    if slices is not None and isinstance(chosen.prior, SlicePrior):
        from infield.pipelines.run.slices import draw_volumes  # Dask

        of_slices = (sampler, chosen.prior, measurement, seed)
        draw_volumes(writer, draw_block, of_slices, write, slices, scheduler=scheduler, workers=workers, quiet=quiet)
    else:
        shared = (adapted(sampler, chosen.prior), chosen.prior, measurement, seed)
        run_missing_blocks(writer, draw_block, shared, write, scheduler=scheduler, workers=workers, quiet=quiet)
    chi_square = _chi_square(writer, measurement) if fitted is None else fitted.chi_square()
    means = writer.block_means()
    if fitted is not None:
        judged = Judged.of(fitted, fit or FitOptions())
    else:
        doubt = chosen.doubt or (UNCHECKED if chosen.fitted else None)
        judged = Judged.without_validation(law, doubt).given(chi_square, opened)
    judged = judged.weighed(means)
    trust = {} if surrogate is None else _trust(learned, replaced, writer.read_block(0)[:CHECKED])
    mended = {} if mending is None else mending.apply(writer)
    said = COLLAPSED if sampler.caveat is None and means.get("weights_collapsed", 0.0) > 0 else sampler.caveat
    caveat = {} if said is None else {"caveat": said}
    result = {"result": "estimate"} if issubclass(sampler.result, Estimate) else {}
    writer.finish(
        diagnostics={"chi_square": chi_square, **trust, **caveat, **judged.diagnostics},
        moments=None if fitted is None else moments_on_grid(fitted),
        attributes={**judged.attributes, **result, **mended, ATTRIBUTE: to_json(cited)},
    )
    written: dict[str, Any] = dict(open_zarr_group(output).attrs)
    cost, label, diagnostics = json.loads(written["cost"]), written["prior"], json.loads(written["diagnostics"])
    reported = {name: diagnostics[name] for name in REPORTED if diagnostics.get(name) is not None}
    seconds = time.perf_counter() - start
    summary = {
        "output": str(output),
        "prior": label,
        "prior_sha256": chosen.sha256,
        **({"note": note} if note else {}),
        **stand_in,
        **trust,
        **caveat,
        **result,
        **mended,
        **reported,
        "sampler": sampler.method,
        "samples": samples,
        "seed": seed,
        "chi_square": chi_square,
        **judged.diagnostics,
        **judged.attributes,
        "velocity_calls": cost["velocity_calls"] / max(writer.blocks, 1),
        "operator_calls": cost["operator_calls"] / max(writer.blocks, 1),
        "seconds": seconds,
    }
    doubts = warnings_of(summary)
    write_report(output, opened)
    for line in doubts:
        say(line, quiet=quiet)
    return summary


def _replaced(measurement: Measurement, path: Path, surrogate: Surrogate) -> SurrogateMeasurement:
    try:
        return replace_solver(measurement, surrogate)
    except InfieldError as error:
        raise error.within(f"--surrogate {path}") from error


def _trust(surrogate: Surrogate, replaced: SurrogateMeasurement, samples: torch.Tensor) -> dict[str, float]:
    """What is known of the error of a surrogate: for held-out fields, and for samples of the posterior."""
    return {
        "surrogate_relative_error": surrogate.relative_error,
        "surrogate_error_over_noise": replaced.error.ratio,
        "surrogate_chi_square": replaced.error.chi_square,
        "surrogate_error_at_samples": replaced.error_at(samples),
    }


def _chi_square(writer: PosteriorWriter, measurement: Measurement) -> float:
    """Mean reduced chi-square of the data over all samples, as they are stored."""
    total = sum(float(measurement.chi_square(writer.read_block(b)).sum()) for b in range(writer.blocks))
    return total / writer.samples


def draw_block(sampler: Sampler, prior: FlowPrior, measurement: Measurement, seed: int, block: int) -> Posterior:
    """All samples of one block, needed or not: so that no sample depends on how many there are."""
    size = sampler.block_of(measurement)
    streams = SampleStreams(seed, range(block * size, (block + 1) * size))
    torch.set_num_threads(1)
    return sampler(prior, measurement, size, streams)


@contextmanager
def _about(path: object) -> Iterator[None]:
    """Name the file in errors about its contents."""
    try:
        yield
    except InfieldError as error:
        raise error.within(path) from error
