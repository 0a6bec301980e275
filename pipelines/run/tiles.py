"""`reconstruct --tiles`: fields larger than memory, tile by tile, in turn or as tasks on any number of workers.

A task is one level of one tile of one block of samples. It waits for its neighbours' level before, reads what the tile
needs from the zarr group of the run and writes what the tile owns; nothing else is shared. Which worker does a task,
and how often it had to be done again, leaves no trace in the numbers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from distributed import as_completed
from torch import Tensor

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.core.json_text import to_json
from infield.core.provenance import versions
from infield.datasets.formats.measurement import open_measurement
from infield.datasets.formats.tiled_posterior import TiledPosteriorWriter, TileStore
from infield.physics.measurement import Measurement
from infield.physics.operators.sensors import PointSensors
from infield.pipelines.run.blocks import check_run
from infield.pipelines.run.cluster import check_scheduler, client, hosts_of, on_worker
from infield.pipelines.run.console import progress, say
from infield.pipelines.run.fitted_field import Judged
from infield.pipelines.run.precision import stored_dtype
from infield.pipelines.run.prior_choice import cautions
from infield.pipelines.run.process import one_thread
from infield.pipelines.run.references import ATTRIBUTE, OWN
from infield.pipelines.run.reporting import report_writer, warnings_of
from infield.posterior.inference.tiling import Tiling
from infield.posterior.samplers.faps_tiled import TiledFAPS, TiledPosterior
from infield.priors.storage.checkpoint import file_sha256, load_flow_prior


@dataclass(frozen=True)
class TileRun:
    """What a worker needs: files that it can reach, and numbers.

    Arguments:
        partial: The group of the run.
        prior: Checkpoint of a prior of patches.
        measurement: Measurement file.
        digests: SHA-256 of both, so that what is kept of them is of them.
        sampler: How.
        samples: Number of samples.
        seed: Of the run.
        device: Where the network runs.
    """

    partial: Path
    prior: Path
    measurement: Path
    digests: tuple[str, str]
    sampler: TiledFAPS
    samples: int
    seed: int
    device: str = "cpu"


@one_thread()
def reconstruct_in_tiles(
    measurement_path: Path,
    output: Path,
    *,
    prior: Path,
    sampler: TiledFAPS,
    samples: int,
    seed: int = 0,
    device: str = "cpu",
    workers: int | None = None,
    scheduler: str | None = None,
    report: Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """The command as a function; returns a summary in plain JSON types. With one worker and no scheduler, in turn.

    Raises:
        InfieldError: An error in the input that the user can fix; no incomplete file is left at `output`.
    """
    start = time.perf_counter()
    check_run(samples, seed, workers, scheduler, output=output, overwrite=overwrite)
    write_report = report_writer(report, overwrite)
    check_scheduler(scheduler)
    measurement = open_measurement(measurement_path)
    digests = file_sha256(prior), str(measurement.digest)
    setup = TileRun(
        output.with_name(output.name + ".partial").absolute(), prior.absolute(), measurement_path.absolute(), digests,
        sampler, samples, seed, device,
    )  # fmt: skip
    posterior = _posterior(setup, measurement)
    tiling = posterior.tiling
    note = cautions(measurement, posterior.prior)
    if note:
        say(note, quiet=quiet)
    writer = TiledPosteriorWriter(
        output,
        tile=tiling.tile,
        torus=tiling.shape,
        grid=measurement.grid,
        channels=measurement.channels,
        units=measurement.units,
        samples=samples,
        block=sampler.block,
        dtype=stored_dtype(measurement, posterior.prior),
        overwrite=overwrite,
        title=f"Posterior of {measurement_path.name}",
        carried=measurement.carried,
        run={
            "sampler": sampler.method,
            "sampler_parameters": asdict(sampler),
            "prior": f"{prior.name}: {posterior.prior.name}",
            "prior_sha256": digests[0],
            "seed": seed,
            "measurement_sha256": digests[1],
            **_plugins(posterior),
        },
    )
    seen = sum(torch.Size(map(len, tiling.region(tile))).numel() for tile in tiling.tiles)
    overhead = seen / torch.Size(tiling.shape).numel()
    with progress(quiet=quiet) as bar:
        done = writer.store.all_levels_done()
        task = bar.add_task("levels of tiles", total=done.size * sampler.levels, completed=int(done.sum()))
        for _ in _tasks(setup, tiling, writer, scheduler, workers):
            bar.advance(task)
    seconds = time.perf_counter() - start
    for b in writer.missing_blocks():
        cost = {"velocity_calls": sampler.levels * sampler.block * overhead, "operator_calls": 0.0}
        writer.finish_block(b, {**cost, "seconds": seconds / writer.blocks})
    chi_square = _chi_square(writer, measurement)
    judged = Judged.without_validation(None).given(chi_square, measurement)
    cited = [*registry.find("samplers", "faps").papers, *posterior.prior.papers]
    writer.finish(
        cost={"seen_over_owned": overhead},
        diagnostics={"chi_square": chi_square},
        attributes={**judged.attributes, ATTRIBUTE: to_json([OWN, *cited])},
    )
    seconds = time.perf_counter() - start
    write_report(output, measurement)
    summary = {
        "output": str(output),
        "prior": f"{prior.name}: {posterior.prior.name}",
        "prior_sha256": digests[0],
        **({"note": note} if note else {}),
        "sampler": sampler.method,
        "samples": samples,
        "seed": seed,
        "tiles": len(tiling.tiles),
        "seen_over_owned": overhead,
        "chi_square": chi_square,
        **judged.attributes,
        "velocity_calls": sampler.levels * overhead,
        "operator_calls": 0.0,
        "seconds": seconds,
    }
    for line in warnings_of(summary):
        say(line, quiet=quiet)
    return summary


def _plugins(posterior: TiledPosterior) -> dict[str, dict[str, str]]:
    """The other packages that take part, with their versions, as an entry `plugins`; none where there are none."""
    network = posterior.prior.network
    found = registry.plugin_of("samplers", type(posterior.sampler))
    found |= registry.plugin_of("noise_models", type(posterior.measurement.noise))
    for part in (network, getattr(network, "inner", None)):
        found |= registry.plugin_of("networks", type(part))
    return {"plugins": found} if found else {}


def advance_tile(setup: TileRun, block: int, level: int, tile: tuple[int, ...], *after: object) -> None:
    """One level of one tile; done before, it does nothing.

    Arguments:
        setup: The run.
        block: Number of the block of samples.
        level: k, from 0.
        tile: The tile.
        after: What it waits for, of no further use.
    """
    torch.set_num_threads(1)
    posterior, store = _posterior(setup), _store(setup)
    if store.levels_done(block, tile) > level:
        return
    tiling, K = posterior.tiling, posterior.sampler.levels
    u_t = None if level == 0 else store.read(level, block, tiling.region(tile))
    samples = range(block * setup.sampler.block, (block + 1) * setup.sampler.block)
    with torch.no_grad():
        u = posterior.advance(tile, level, samples, u_t)
    if not torch.isfinite(u).all():
        raise InfieldError(where=setup.measurement, found=f"NaN or infinity in tile {tile} after level {level}")
    write = store.write if level + 1 < K else store.write_samples
    write(level + 1, block, tile, tiling.core(tile), u)


def _tasks(
    setup: TileRun, tiling: Tiling, writer: TiledPosteriorWriter, scheduler: str | None, workers: int | None
) -> Iterator[None]:
    """Do what is not done yet, yielding after each level of each tile."""
    done = writer.store.all_levels_done()
    neighbours = {tile: tiling.neighbours(tile) for tile in tiling.tiles}
    todo = [
        (block, level, tile)
        for block in range(writer.blocks)
        for level in range(setup.sampler.levels)
        for tile in tiling.tiles
        if done[(block, *tile)] <= level
    ]
    if scheduler is None and (workers or 1) == 1:
        for block, level, tile in todo:
            advance_tile(setup, block, level, tile)
            yield
        return
    with client(scheduler, workers or 1) as cluster:
        futures: dict[tuple[int, int, tuple[int, ...]], Any] = {}
        submit = partial(cluster.submit, on_worker, versions(), advance_tile, setup, pure=False)
        for block, level, tile in todo:
            waits = [futures[key] for n in neighbours[tile] if (key := (block, level - 1, n)) in futures]
            futures[block, level, tile] = submit(block, level, tile, *waits)
        for future in as_completed(list(futures.values()), loop=cluster.loop):
            with _unwrapped():
                future.result()
            yield
        if scheduler is not None:
            writer.record_workers(hosts_of(cluster))


@contextmanager
def _unwrapped() -> Iterator[None]:
    """An error of ours as it is, however the scheduler wraps it."""
    try:
        yield
    except InfieldError:
        raise
    except Exception as error:
        cause = error.__cause__ or error.__context__
        raise (cause if isinstance(cause, InfieldError) else error) from None


_kept: dict[TileRun, TiledPosterior] = {}
"""The last run's prior and measurement, read once a process."""


def _posterior(setup: TileRun, measurement: Measurement | None = None) -> TiledPosterior:
    """The run's prior and measurement; read where this process has not done so.

    Arguments:
        setup: The run.
        measurement: As it was opened, where it was.
    """
    found = _kept.get(setup)
    if found is None:
        found = _read(setup, measurement or open_measurement(setup.measurement))
        _kept.clear()
        _kept[setup] = found
    return found


def _read(setup: TileRun, measurement: Measurement) -> TiledPosterior:
    if measurement.digest != setup.digests[1]:
        raise InfieldError(
            where=setup.measurement, found="another measurement than when the run began", expected="the same file"
        )
    if not isinstance(measurement.grid, Grid):
        raise InfieldError(
            where=f"{setup.measurement}: --tiles", found="a field on scattered points", expected="one on a grid"
        )
    prior = load_flow_prior(setup.prior).to(setup.device)
    try:
        return TiledPosterior(setup.sampler, prior, measurement, setup.seed)
    except InfieldError as error:
        raise error.within(f"{setup.measurement}, --prior {setup.prior.name}") from error


@lru_cache(maxsize=2)
def _store(setup: TileRun) -> TileStore:
    return TileStore(setup.partial, setup.samples, setup.sampler.block)


def _chi_square(writer: TiledPosteriorWriter, measurement: Measurement) -> float:
    """Mean reduced chi-square of the data over all samples, as they are stored, one tile in memory."""
    operator = measurement.operator
    assert isinstance(operator, PointSensors)
    places = torch.stack(torch.unravel_index(operator.corners, operator.grid.shape))
    predicted = torch.zeros((writer.samples, operator.corners.shape[1]), dtype=torch.float64)
    for region in writer.regions():
        inside = torch.stack([(p >= s.start) & (p < s.stop) for p, s in zip(places, region, strict=True)]).all(0)
        corner, sensor = inside.nonzero(as_tuple=True)
        if len(sensor) == 0:
            continue
        local = [p[corner, sensor] - s.start for p, s in zip(places, region, strict=True)]
        for b in range(writer.blocks):
            rows = writer.sample_range(b)
            values = writer.read_region(b, region)[:, 0]
            seen: Tensor = values[(slice(None), *local)] * operator.weights[corner, sensor]
            predicted[rows.start : rows.stop].index_add_(1, sensor, seen)
    z = predicted[:, None]
    return float((measurement.noise.chi_square(measurement.y, z, measurement.observed) / measurement.count).mean())
