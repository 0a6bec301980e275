"""`reconstruct --slices`: volumes under a prior of slices, whose velocity is evaluated by any number of workers.

A task is the velocity of a group of slices at one time. The sampler itself runs here: its steps need the whole volume.
How many slices a task holds is part of the run; how many workers there are, and which does what, leaves no trace.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from distributed import Client, Future
from torch import Tensor

from infield.core.provenance import versions
from infield.datasets.formats.block_writer import BlockWriter
from infield.physics.measurement import Measurement
from infield.pipelines.run.blocks import discard_if_empty
from infield.pipelines.run.cluster import client, hosts_of, on_worker
from infield.pipelines.run.console import progress
from infield.posterior.samplers.base import Posterior, Sampler
from infield.priors.base import FlowPrior
from infield.priors.flows.slices import SlicePrior


@dataclass(frozen=True, kw_only=True)
class SlicesOnWorkers(SlicePrior):
    """The same prior of volumes, its slices evaluated in groups as tasks.

    Arguments:
        cluster: Whose workers do it.
        remote: The prior of one slice, where they are.
        group: Slices a task.
    """

    cluster: Client
    remote: Future
    group: int

    def velocity_of_slices(self, x: Tensor, t: float) -> Tensor:
        if x.requires_grad:  # a task does not pass derivatives on
            return super().velocity_of_slices(x, t)
        tasks = [
            self.cluster.submit(on_worker, versions(), velocity, self.remote, part, t, pure=False)
            for part in x.split(self.group)
        ]
        return torch.cat(self.cluster.gather(tasks))


def velocity(prior: FlowPrior, x: Tensor, t: float) -> Tensor:
    """v(x, t) on a worker."""
    torch.set_num_threads(1)
    with torch.no_grad():
        return prior.velocity(x, t)


def draw_volumes(
    writer: BlockWriter,
    draw: Callable[..., Posterior],
    shared: tuple[Sampler, SlicePrior, Measurement, int],
    write: Callable[[int, Callable[[], Posterior]], None],
    slices: int,
    *,
    scheduler: str | None,
    workers: int | None,
    quiet: bool,
) -> None:
    """Draw the blocks that a file lacks one after the other, their slices side by side.

    Arguments:
        writer: The file.
        draw: Called as `draw(sampler, prior, measurement, seed, block)`.
        shared: Its first arguments.
        write: Called as `write(block, result)`, `result()` what was drawn.
        slices: Slices a task.
        scheduler: Address of a Dask scheduler; None for threads on this machine.
        workers: Number of these threads; None for as many as cores.
        quiet: Without progress.
    """
    sampler, prior, *others = shared
    with discard_if_empty(writer), progress(quiet=quiet) as bar:
        with client(scheduler, workers or os.cpu_count() or 1) as cluster:
            missing = writer.missing_blocks()
            task = bar.add_task("volumes", total=writer.samples, completed=writer.samples - writer.samples_in(missing))
            remote: Any = cluster.scatter(prior.slices, broadcast=True, hash=False)
            spread = SlicesOnWorkers(
                slices=prior.slices, depth=prior.depth, cluster=cluster, remote=remote, group=slices
            )
            for block in missing:
                write(block, partial(draw, sampler, spread, *others, block))
                bar.advance(task, len(writer.sample_range(block)))
            if scheduler is not None:
                writer.record_workers(hosts_of(cluster))
