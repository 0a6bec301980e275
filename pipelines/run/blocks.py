"""Runs of many samples that are drawn block by block, as tasks on any number of workers, and go on after a kill."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from distributed import as_completed

from infield.core.provenance import versions
from infield.datasets.formats.block_writer import BlockWriter
from infield.datasets.formats.zarr_group import remove_tree
from infield.pipelines.run.cluster import client, hosts_of, on_worker
from infield.pipelines.run.console import progress
from infield.pipelines.run.run_options import add_run_arguments as add_run_arguments
from infield.pipelines.run.run_options import check_run as check_run
from infield.pipelines.run.run_options import run_settings as run_settings


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
            task = bar.add_task("samples", total=writer.samples, completed=writer.samples - writer.samples_in(missing))
            everywhere = cluster.scatter(list(shared), broadcast=True, hash=False)
            drawn = partial(cluster.submit, on_worker, versions(), draw, *everywhere, pure=False)
            futures = {drawn(block): block for block in missing}
            for future in as_completed(futures, loop=cluster.loop):
                write(futures[future], future.result)
                bar.advance(task, len(writer.sample_range(futures[future])))
                future.release()
            if scheduler is not None:
                writer.record_workers(hosts_of(cluster))


@contextmanager
def discard_if_empty(writer: BlockWriter) -> Iterator[None]:
    """Remove a file without any block when the work on it is interrupted, and give its lock back."""
    try:
        yield
    except BaseException:
        if writer.partial.exists() and len(writer.missing_blocks()) == writer.blocks:  # nothing worth going on from
            remove_tree(writer.partial)
        writer.release()
        raise
