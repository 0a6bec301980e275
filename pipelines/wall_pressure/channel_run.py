"""A run of a channel flow, from where it was left to its end, with its outputs and its restart state."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from infield.core.errors import InfieldError
from infield.datasets.wall_pressure.channel_file import PRESSURE, SHEAR, ChannelWriter
from infield.physics.wall_pressure.channel.channel_statistics import plane_means
from infield.physics.wall_pressure.channel.initial_condition import turbulent_start
from infield.physics.wall_pressure.channel.solver import ChannelFlowSolver, ChannelState
from infield.pipelines.run.options import is_silent

BLOCK = 20
"""Stored times that are written together."""

SAVE_SECONDS = 30.0
"""How much of a run a kill may cost."""


@dataclass(frozen=True)
class ChannelRun:
    """Everything that the flow depends on.

    Arguments:
        re_tau: Friction Reynolds number of the driving force.
        box: Name of the box.
        points: Points in x, y and z.
        turnovers: How long the flow is stored.
        spin_up: How long it runs before.
        interval: Between stored times.
        cfl: Of a time step.
        seed: Of the first state.
        device: Where it runs.
        threads: Of the CPU: sums of another order differ in their last digits, and soon in all of them.
    """

    re_tau: float
    box: str
    points: tuple[int, int, int]
    turnovers: float
    spin_up: float
    interval: float
    cfl: float
    seed: int
    device: str
    threads: int = 1

    @property
    def times(self) -> np.ndarray:
        """The stored times; 0 is the end of the spin-up."""
        return self.interval * np.arange(1, round(self.turnovers / self.interval) + 1)

    def described(self) -> dict[str, Any]:
        """In JSON types; the first that differs is named where a run cannot be continued."""
        settings = {name: value for name, value in vars(self).items() if name != "re_tau"}
        return {
            "Re_tau": self.re_tau,
            **settings,
            "points": list(self.points),
            "device": torch.device(self.device).type,
        }


class Course:
    """A run from where it was left to its end.

    Arguments:
        settings: Its settings.
        flow: The solver.
        writer: Its file.
    """

    def __init__(self, settings: ChannelRun, flow: ChannelFlowSolver, writer: ChannelWriter) -> None:
        self.settings, self.flow, self.writer = settings, flow, writer
        self.records: list[dict[str, np.ndarray]] = []
        self.stored = 0
        kept = writer.read_restart()
        if kept is None:
            generator = torch.Generator().manual_seed(settings.seed)
            self.state = turbulent_start(flow, generator, time=-settings.spin_up)
            return
        modes, mean = (torch.from_numpy(kept.pop(name)).to(flow.device) for name in ("modes", "mean"))
        self.state = ChannelState(modes, mean, float(kept.pop("time")))
        self.stored = int(kept.pop("stored"))
        count = len(next(iter(kept.values()))) if kept else 0
        self.records = [{name: values[i] for name, values in kept.items()} for i in range(count)]

    def go_on(self, *, quiet: bool) -> int:
        """Run to the end; returns the number of steps."""
        steps, saved = 0, time.monotonic()
        times, spin_up = self.settings.times, self.settings.spin_up
        try:
            self._write()
            with turnovers(quiet=quiet) as bar:
                total = spin_up + float(times[-1])
                task = bar.add_task("", total=total)
                while self.stored < len(times):
                    self._step(float(times[self.stored]))
                    steps += 1
                    phase = "spin-up" if self.state.time < 0 else f"{self.stored} of {len(times)} stored"
                    bar.update(task, completed=self.state.time + spin_up, description=phase)
                    if time.monotonic() - saved > SAVE_SECONDS:
                        self.save()
                        saved = time.monotonic()
        except KeyboardInterrupt:
            self.save()
            raise
        return steps

    def _step(self, target: float) -> None:
        """One step, and what is to be stored after it."""
        try:
            state = self.flow.step(self.state, target, self.settings.cfl)
        except InfieldError:
            if len(self.writer.missing_blocks()) == self.writer.blocks:  # nothing worth going on from
                self.writer.remove()
            raise
        if state.time < target:
            self.state = state
            return
        record = self._record(state)
        self.state, self.records, self.stored = state, [*self.records, record], self.stored + 1
        self._write()

    def _write(self) -> None:
        """Write a block that is full, then the state after it: a kill between the two repeats the block."""
        if self.records and (self.stored % BLOCK == 0 or self.stored == len(self.settings.times)):
            self.writer.write_block((self.stored - 1) // BLOCK, self._stacked())
            self.records = []
            self.save()

    def _record(self, state: ChannelState) -> dict[str, np.ndarray]:
        means = plane_means(self.flow, state)
        found = {PRESSURE: self.flow.wall_pressure(state), SHEAR: means.wall_shear, "u_mean": means.u}
        found |= {name: getattr(means, name) for name in ("uu", "vv", "ww", "uv")}
        return {name: values.cpu().numpy() for name, values in found.items()}

    def _stacked(self) -> dict[str, np.ndarray]:
        names = self.records[0] if self.records else ()
        return {name: np.stack([record[name] for record in self.records]) for name in names}

    def save(self) -> None:
        """Keep the state and what is not yet written."""
        state = {"modes": self.state.modes.cpu().numpy(), "mean": self.state.mean.cpu().numpy()}
        numbers = {"time": np.array(self.state.time), "stored": np.array(self.stored)}
        self.writer.save_restart({**state, **numbers, **self._stacked()})


def turnovers(*, quiet: bool = False) -> Progress:
    """A progress bar in eddy turnovers with time left on standard error; nothing where that is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.completed:.2f} of {task.total:g} turnovers"),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or is_silent() or not console.is_terminal,
    )


@contextmanager
def threads(count: int) -> Iterator[None]:
    """A number of threads for tensor algebra, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
