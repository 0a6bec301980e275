"""Joint draws of a fitted field on its grid: by conditioning where data are few, else by sequential simulation."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from infield.core.grid import Grid, PointSet
from infield.core.randomness import Randomness, SampleStreams, normal
from infield.posterior.kriging.between import Neighbours
from infield.posterior.kriging.conditioning import MOST_DATA, Conditioned
from infield.posterior.kriging.embedding import Embedding
from infield.posterior.kriging.local import moments
from infield.posterior.kriging.measured import PointData
from infield.posterior.kriging.simulation import Neighbourhood, Plan, Simulator
from infield.posterior.kriging.state import State

FEW_NEIGHBOURS, MOST_NEIGHBOURS = 100, 800
"""Data that a target on a coarse level of joint draws is given at most: for many laws, and for one."""

PLANNED = 100_000
"""Targets up to which order and neighbours of joint draws are chosen once for all states (about 500 bytes each)."""

KEPT = 6e8
"""Bytes that the weights of all states may take to be kept; else they are computed for each call."""

PILOT = 200
"""Targets on which the number of neighbours is chosen."""

WHITE = 4_000_000
"""White numbers that are held at once."""


class Joint:
    """Draws of a field under some states of its hyperparameters, around the centre of its data.

    Arguments:
        data: What was measured.
        grid: Where the field is drawn.
        states: Draw i of a run is under state i, counted around.
        most_probable: State by which neighbours are chosen for all.
        centre: Of the data.
    """

    def __init__(
        self,
        data: PointData,
        grid: Grid | PointSet,
        states: tuple[State, ...],
        most_probable: State,
        centre: float,
    ) -> None:
        self.data, self.grid, self.states, self.centre = data, grid, states, centre
        self.most_probable = most_probable
        self._kept: dict[int, list[Conditioned | Simulator]] = {}
        self._plans: dict[tuple[int, float], Plan] = {}
        self._neighbours: dict[tuple[int, float], Neighbours] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}, "_plans": {}, "_neighbours": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def draw(self, n: int, generator: Randomness) -> Tensor:
        """Fields on the grid, shape `(n, channel, *space)`."""
        channels = len(self.data.channels)
        indices = list(generator.indices) if isinstance(generator, SampleStreams) else list(range(n))
        of_state = [i % len(self.states) for i in indices]
        fields = torch.empty((n, channels, self.grid.size), dtype=torch.float64)
        for s in dict.fromkeys(of_state):
            rows = torch.tensor([row for row, own in enumerate(of_state) if own == s])
            methods = self._methods_of(s)
            size = max(method.numbers for method in methods) + self.data.channels[0].design.shape[1]
            for some in rows.split(max(1, WHITE // (channels * size))):
                own = generator.part(some.tolist()) if isinstance(generator, SampleStreams) else generator
                white = normal(own, len(some), (channels, size))
                for c, method in enumerate(methods):
                    fields[some, c] = self._draw(method, c, self.states[s], white[:, c])
        return fields.reshape(n, channels, *self.grid.shape)

    def _draw(self, method: Conditioned | Simulator, c: int, state: State, white: Tensor) -> Tensor:
        data, of_trend = state.measured(self.data.channels[c], self.centre), state.coefficients[c]
        terms = data.design.shape[1]
        root = torch.linalg.cholesky(of_trend.covariance) if terms else of_trend.covariance
        beta = of_trend.mean + white[:, :terms] @ root.mT
        around = method.draw(data.y - beta @ data.design.mT, white[:, terms : terms + method.numbers])
        return around + beta @ self.data.design_at(self.grid.points(), c).mT

    def _methods_of(self, s: int) -> list[Conditioned | Simulator]:
        """Of each channel under a state; kept where those of all states are small."""
        with self._lock:
            if s not in self._kept:
                state, targets = self.states[s], self.grid.points()
                embedding = None
                if min(len(data) for data in self.data.channels) <= MOST_DATA:
                    embedding = Embedding.of(state.law, self.grid)
                found = [self._method(c, state, targets, embedding) for c in range(len(self.data.channels))]
                if len(self.states) > 1 and len(self.states) * sum(method.bytes for method in found) > KEPT:
                    return found
                self._kept[s] = found
            return self._kept[s]

    def _method(self, c: int, state: State, targets: Tensor, embedding: Embedding | None) -> Conditioned | Simulator:
        data = state.measured(self.data.channels[c], self.centre)
        law, planned_by = state.law, replace(self.most_probable.law, nu=state.law.nu)
        key = c, law.nu
        if embedding is not None and len(data) <= MOST_DATA:
            if key not in self._neighbours:
                self._neighbours[key] = Conditioned.planned(planned_by, data, targets)
            return Conditioned(law, data, targets, embedding, self._neighbours[key])
        own = self._neighbourhood(c, state)
        if len(self.states) == 1 or targets.shape[0] > PLANNED:
            return Simulator(law, data, targets, own)
        if key not in self._plans:
            by = self.most_probable.measured(self.data.channels[c], self.centre)
            self._plans[key] = Simulator.planned(planned_by, by, targets, own)
        return Simulator(law, data, targets, own, plan=self._plans[key])

    def _neighbourhood(self, c: int, state: State) -> Neighbourhood:
        """As many data as moments need; fewer where each draw has a law of its own, which moves more than they do."""
        if len(self.states) > 1:
            return Neighbourhood.of(state.law, most=FEW_NEIGHBOURS)
        own, data = Neighbourhood.of(state.law), state.measured(self.data.channels[c], self.centre)
        if len(data) <= own.most:
            return own
        some = some_targets(self.grid)
        found = moments(state.law, data, some, self.data.design_at(some, c), state.coefficients[c])
        return replace(own, most=max(own.most, min(found.neighbours, MOST_NEIGHBOURS)))


def some_targets(grid: Grid | PointSet) -> Tensor:
    """At random: a fixed step might meet the same column of a grid again and again."""
    order = torch.randperm(grid.size, generator=torch.Generator().manual_seed(0))
    return grid.points()[order[:PILOT].sort().values]
