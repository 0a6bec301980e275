"""The gamut's solver beside bounded least squares of scipy: accuracy, speed, growth and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial

import numpy as np
from scipy.optimize import lsq_linear

from infield.physics.projection_mapping.gamut import TIGHT, WORKING, nearest
from infield.pipelines.bench.targets import TargetBench

PROJECTORS = (1, 2, 4, 8)
CHILD = "infield.pipelines.projection_mapping.bench.large"


def random_pixels(projectors: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns `(pixels, 3 projectors, 3)` of mixed primaries, and colours half of which lie outside."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(3) + 0.25 * rng.random((count, projectors, 3, 3))
    columns = mixing * rng.uniform(0.02, 0.6, (count, projectors, 1, 1)) * rng.uniform(0.3, 1, (count, 1, 1, 3))
    columns = columns.reshape(count, 3 * projectors, 3)
    b = columns.sum(1) * rng.uniform(-0.1, 1.3, (count, 3))
    return columns, b


def degenerate(columns: np.ndarray) -> np.ndarray:
    """The same, flat in a third, one line in a third, and of parallel columns in the rest."""
    columns, third = columns.copy(), len(columns) // 3
    columns[:third, :, 2] = columns[:third, :, :2].mean(-1)
    columns[third : 2 * third] = columns[third : 2 * third, :, :1] * np.array([0.5, 0.3, 0.2])
    columns[2 * third :, 1] = 0.5 * columns[2 * third :, 0]
    return columns


def accuracy(bench: TargetBench, projectors: int, quick: bool, seed: int) -> None:
    """Beside scipy, with some number of projectors."""
    count = 60 if quick else 10_000
    nearest(*random_pixels(1, 4, 0))  # compiled before anything is measured
    columns, b = random_pixels(projectors, count, seed + projectors)
    for kind, V in (("random", columns), ("degenerate", degenerate(columns))):
        few = count if kind == "random" else max(60, count // 5)
        kept = np.sort(np.random.default_rng(seed).permutation(count)[:few])
        began = time.process_time()
        reference = np.array([
            np.sqrt(2 * lsq_linear(c.T, t, (0, 1), method="bvls", tol=1e-14).cost)
            for c, t in zip(V[kept], b[kept], strict=True)
        ])  # fmt: skip
        theirs = (time.process_time() - began) / few
        judge = partial(bench.judge, f"{projectors} projectors, {kind}, {few} pixels")
        for words, stages, bound in (("Newton, tight", TIGHT, 1e-6), ("Newton, working", WORKING, 3e-4)):
            error = np.abs(nearest(V[kept], b[kept], stages=stages).distance - reference).max()
            judge(words, "largest error of the distance", error, None, bound)
        if kind == "random":
            wide, many = random_pixels(projectors, 20_000, seed)
            ours = min(_seconds(wide, many) for _ in range(3)) / len(wide)
            judge("Newton, working", "times faster than scipy", theirs / ours, 50, None)
            judge("Newton, working", "CPU microseconds a pixel", 1e6 * ours)


def size(bench: TargetBench, quick: bool, seed: int) -> None:
    """Growth with pixels and projectors; one compensation of 1 megapixel, in a process of its own for its memory."""
    sizes = (20_000, 50_000) if quick else (125_000, 250_000, 500_000, 1_000_000)
    nearest(*random_pixels(1, 4, 0))
    spent = [_seconds(*_many(4, n, seed)) for n in sizes]
    wall = time.perf_counter()
    nearest(*_many(4, sizes[-1], seed))
    case = f"4 projectors, {sizes[-1]} pixels"
    bench.judge(case, "Newton, working", "CPU seconds", spent[-1])
    wall = time.perf_counter() - wall
    bench.judge(case, "Newton, working", "seconds", wall, None, None if quick else 5.0)
    slope = float(np.polyfit(np.log(sizes), np.log(spent), 1)[0])
    bench.judge("4 projectors", "Newton, working", "exponent of the growth with pixels", slope)
    spent = [_seconds(*_many(n, sizes[0], seed)) for n in PROJECTORS]
    slope = float(np.polyfit(np.log(PROJECTORS), np.log(spent), 1)[0])
    bench.judge(f"{sizes[0]} pixels", "Newton, working", "exponent of the growth with projectors", slope)
    pixels = 60_000 if quick else 1_000_000
    found = subprocess.run(
        [sys.executable, "-m", CHILD, str(pixels)], capture_output=True, text=True, check=True, env=os.environ
    )
    figures = json.loads(found.stdout)
    case = f"4 projectors, {figures['pixels']} pixels, a whole compensation"
    bench.judge(case, "pixel by pixel", "CPU seconds", figures["pixelwise"])
    bench.judge(case, "joint", "CPU seconds an iteration", figures["iteration"])
    bench.judge(case, "both", "peak memory of the process, GiB", figures["peak"], None, 2.0)


def _many(projectors: int, pixels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    columns, b = random_pixels(projectors, 1000, seed)
    return np.tile(columns.astype(np.float32), (pixels // 1000, 1, 1)), np.tile(b, (pixels // 1000, 1))


def _seconds(columns: np.ndarray, b: np.ndarray) -> float:
    began = time.process_time()
    nearest(columns, b)
    return time.process_time() - began
