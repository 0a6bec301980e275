"""Runs of many samples that are drawn block by block, as tasks on any number of workers, and go on after a kill."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any

from infield.core.provenance import versions
from infield.datasets.formats.block_writer import BlockWriter
from infield.datasets.formats.zarr_group import remove_tree
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
        scheduler: Address of a Dask scheduler; None for threads of this process, without Dask.
        workers: Number of these threads; None for as many as cores.
        quiet: Without progress.
    """
    with discard_if_empty(writer), progress(quiet=quiet) as bar:
        missing = writer.missing_blocks()
        task = bar.add_task("samples", total=writer.samples, completed=writer.samples - writer.samples_in(missing))

        def finish(block: int, result: Callable[[], Any]) -> None:
            write(block, result)
            bar.advance(task, len(writer.sample_range(block)))

        if scheduler is None:
            _in_threads(missing, partial(draw, *shared), finish, workers or os.cpu_count() or 1)
        else:
            _on_cluster(writer, missing, draw, shared, finish, scheduler)


def _in_threads(
    missing: Sequence[int], draw: Callable[[int], Any], finish: Callable[[int, Callable[[], Any]], None], workers: int
) -> None:
    """Draw blocks in threads that an interrupt does not wait for; with one worker, here."""

    def attempt(block: int) -> tuple[int, Callable[[], Any]]:
        try:
            found = draw(block)
        except BaseException as error:
            return block, partial(_raise, error)
        return block, lambda: found

    if min(workers, len(missing)) <= 1:
        for block in missing:
            finish(*attempt(block))
        return
    with ThreadPool(min(workers, len(missing))) as pool:
        for block, result in pool.imap_unordered(attempt, missing):
            finish(block, result)


def _raise(error: BaseException) -> None:
    raise error


def _on_cluster(
    writer: BlockWriter,
    missing: Sequence[int],
    draw: Callable[..., Any],
    shared: Sequence[Any],
    finish: Callable[[int, Callable[[], Any]], None],
    scheduler: str,
) -> None:
    """Draw blocks on the workers of a Dask scheduler."""
    from distributed import as_completed  # four tenths of a second of a processor

    from infield.pipelines.run.cluster import client, hosts_of, on_worker

    with client(scheduler, 1) as cluster:
        everywhere = cluster.scatter(list(shared), broadcast=True, hash=False)
        drawn = partial(cluster.submit, on_worker, versions(), draw, *everywhere, pure=False)
        futures = {drawn(block): block for block in missing}
        for future in as_completed(futures, loop=cluster.loop):
            finish(futures[future], future.result)
            future.release()
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
