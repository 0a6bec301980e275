"""Runs of many samples that are drawn block by block, as tasks on any number of workers, and go on after a kill."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from distributed import as_completed

from infield.core.errors import InfieldError
from infield.datasets.formats.block_writer import BlockWriter
from infield.datasets.formats.zarr_group import remove_tree
from infield.pipelines.run.cluster import client
from infield.pipelines.run.console import progress
from infield.pipelines.run.options import add_json, check_at_least


def add_run_arguments(parser: argparse.ArgumentParser, *, samples: int, of: str = "samples") -> None:
    """Options of a command that draws many samples.

    Arguments:
        parser: Gets them.
        samples: How many, where nothing is said.
        of: What the samples are called.
    """
    parser.add_argument("--samples", type=int, default=samples, metavar="N",
                        help=f"number of {of}, in all (default {samples})")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the run (default 0)")
    parser.add_argument("--workers", type=int, metavar="N",
                        help=f"blocks of {of} at a time on this machine (default: its cores)")  # fmt: skip
    parser.add_argument("--scheduler", metavar="ADDRESS", help="address of a running Dask scheduler; else a local one")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output once the new one is done")
    add_json(parser)


def run_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """These options as the functions behind the commands take them."""
    names = ("samples", "seed", "workers", "scheduler", "overwrite")
    return {name: getattr(arguments, name) for name in names} | {"quiet": arguments.json}


def check_run(
    samples: int, seed: int, workers: int | None, scheduler: str | None = None, *, least_samples: int = 1
) -> None:
    """InfieldError where a number of a run is too small, or workers are asked for that a scheduler has of its own."""
    check_at_least(least_samples, samples=samples)
    check_at_least(1, workers=workers)
    check_at_least(0, seed=seed)
    if scheduler is not None and workers is not None:
        raise InfieldError(
            where="--workers", found=f"--scheduler {scheduler}", expected="one of them: a scheduler has its own workers"
        )


def run_missing_blocks(
    writer: BlockWriter,
    draw: Callable[..., Any],
    shared: Sequence[Any],
    write: Callable[[int, Callable[[], Any]], None],
    *,
    scheduler: str | None,
    workers: int | None,
    quiet: bool,
) -> None:
    """Draw the blocks that a file lacks, side by side, and write each as it comes; a file without any block is removed.

    Arguments:
        writer: The file.
        draw: Called on a worker as `draw(*shared, block)`.
        shared: What all blocks need, sent to the workers once.
        write: Called here as `write(block, result)`; `result()` is what was drawn, or raises what the worker raised.
        scheduler: Address of a Dask scheduler; None for threads on this machine.
        workers: Number of these threads; None for as many as cores.
        quiet: Without progress.
    """
    with discard_if_empty(writer), progress(quiet=quiet) as bar:
        with client(scheduler, workers or os.cpu_count() or 1) as cluster:
            missing = writer.missing_blocks()
            task = bar.add_task("samples", total=writer.samples, completed=writer.samples - samples_in(writer, missing))
            everywhere = cluster.scatter(list(shared), broadcast=True, hash=False)
            futures = {cluster.submit(draw, *everywhere, block, pure=False): block for block in missing}
            for future in as_completed(futures, loop=cluster.loop):
                write(futures[future], future.result)
                bar.advance(task, len(writer.sample_range(futures[future])))
                future.release()


def samples_in(writer: BlockWriter, blocks: Iterable[int]) -> int:
    """How many samples some blocks hold."""
    return sum(len(writer.sample_range(block)) for block in blocks)


@contextmanager
def discard_if_empty(writer: BlockWriter) -> Iterator[None]:
    """Remove a file without any block when the work on it is interrupted."""
    try:
        yield
    except BaseException:
        if writer.partial.exists() and len(writer.missing_blocks()) == writer.blocks:  # nothing worth going on from
            remove_tree(writer.partial)
        raise
