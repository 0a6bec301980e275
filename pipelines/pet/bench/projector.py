"""The projector beside deepinv's Tomography: seconds, adjoint, and a disc against its chords."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Generator

from infield.physics.operators.registry import build_operator
from infield.pipelines.bench.records import Bench, Record
from infield.pipelines.pet.bench.cases import FIELD_OF_VIEW, image_grid

OURS, PEER = "projection", "deepinv Tomography"
REPEATS = 3
DISCS = {64: 0.012, 128: 0.006}
"""Relative error of the projections of a disc that is the target, by the points along a side."""


def run(bench: Bench, *, side: int, angles: int) -> None:
    """One image on one thread: the least CPU seconds of a few calls of A and of A^T."""
    grid, pixel = image_grid(side), FIELD_OF_VIEW / side
    ours = {"name": OURS, "parameters": {"angles": angles, "bins": side + side // 2, "bin_width": pixel}}
    theirs = {"name": "deepinv:Tomography", "parameters": {"angles": angles, "img_width": side, "normalize": False}}
    generator, seconds = Generator().manual_seed(0), {}
    x = torch.rand((1, 1, side, side), generator=generator, dtype=torch.float64)
    for method, description in ((OURS, ours), (PEER, theirs)):
        A = build_operator(description, {}, grid, 1)
        y = torch.rand((1, *A.data_shape), generator=generator, dtype=torch.float64)
        seconds[method] = _least(partial(A.A, x)) + _least(partial(A.A_adjoint, y))
        bench.add("projector", method, "cpu_seconds", seconds[method], "s")
        error = abs(float((A.A(x) * y).sum() / (x * A.A_adjoint(y)).sum()) - 1)
        _judge(bench, "error of the adjoint", error, 1e-12, method)
    speed = seconds[PEER] / seconds[OURS]
    met = speed >= 8
    bench.records.append(Record(bench.name, "projector", OURS, "speed", speed, "1", "at least 8 times deepinv's", met))
    for points, most in DISCS.items():
        _judge(bench, f"error of a disc, {points} points", disc_error(points), most)


def disc_error(side: int, *, angles: int = 60, radius: float = 100.0, fine: int = 8) -> float:
    """Of the projections of a disc, sampled by its share of each pixel, relative to its chords (root mean square)."""
    coordinates = (np.arange(fine * side) - (fine * side - 1) / 2) * FIELD_OF_VIEW / (fine * side)
    y_0, x_0 = 8.0, -13.0
    inside = (coordinates[:, None] - y_0) ** 2 + (coordinates - x_0) ** 2 < radius**2
    disc = torch.from_numpy(inside.reshape(side, fine, side, fine).mean((1, 3)))[None, None]
    parameters = {"angles": angles, "bins": side, "bin_width": FIELD_OF_VIEW / side}
    A = build_operator({"name": OURS, "parameters": parameters}, {}, image_grid(side), 1)
    theta, s = (np.asarray(axis.coordinates) for axis in A.data_grid.axes)
    distance = s - x_0 * np.cos(theta)[:, None] - y_0 * np.sin(theta)[:, None]
    chords = 2 * np.sqrt(np.clip(radius**2 - distance**2, 0, None))
    return float(np.linalg.norm(A.A(disc)[0, 0].numpy() - chords) / np.linalg.norm(chords))


def _least(call: Callable[[], object]) -> float:
    call()
    found = []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def _judge(bench: Bench, metric: str, value: float, most: float, method: str = OURS) -> None:
    bench.records.append(
        Record(bench.name, "projector", method, metric, value, "1", f"at most {most:g}", value <= most)
    )
