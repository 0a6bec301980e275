"""The gamut's solver beside bounded least squares of scipy: accuracy, speed, growth and memory."""

from __future__ import annotations

import resource
import time

import numpy as np
from scipy.optimize import lsq_linear

from infield.physics.projection_mapping.gamut import TIGHT, WORKING, nearest
from infield.pipelines.bench.targets import TargetBench


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


def solver(bench: TargetBench, quick: bool, seed: int) -> None:
    count = 60 if quick else 2500
    nearest(*random_pixels(1, 4, 0))  # compiled before anything is measured
    for projectors in (1, 2, 4, 8):
        columns, b = random_pixels(projectors, count, seed + projectors)
        for kind, V in (("random", columns), ("degenerate", degenerate(columns))):
            subset = slice(None) if kind == "random" else slice(None, max(60, count // 5))
            began = time.process_time()
            reference = np.array([
                np.sqrt(2 * lsq_linear(c.T, t, (0, 1), method="bvls", tol=1e-14).cost)
                for c, t in zip(V[subset], b[subset], strict=True)
            ])  # fmt: skip
            theirs = (time.process_time() - began) / len(reference)
            case = f"{projectors} projectors, {kind}, {len(reference)} pixels"
            tight, working = (nearest(V[subset], b[subset], stages=s).distance for s in (TIGHT, WORKING))
            bench.judge(
                case, "Newton, tight", "largest error of the distance", np.abs(tight - reference).max(), None, 1e-6
            )
            bench.judge(
                case, "Newton, working", "largest error of the distance", np.abs(working - reference).max(), None, 3e-4
            )
            if kind == "random":
                wide, many = random_pixels(projectors, 20_000, seed)
                began = time.process_time()
                nearest(wide, many)
                ours = (time.process_time() - began) / len(wide)
                bench.judge(case, "Newton, working", "times faster than scipy", theirs / ours, 50, None)
                bench.judge(case, "Newton, working", "microseconds a pixel", 1e6 * ours)
    sizes = (50_000,) if quick else (125_000, 500_000, 1_000_000)
    for size in sizes:
        columns, b = random_pixels(4, 1000, seed)
        repeats = size // 1000
        columns, b = np.tile(columns.astype(np.float32), (repeats, 1, 1)), np.tile(b, (repeats, 1))
        began, wall = time.process_time(), time.perf_counter()
        nearest(columns, b)
        case = f"4 projectors, {size} pixels"
        bench.judge(case, "Newton, working", "CPU seconds", time.process_time() - began)
        high = 5.0 if size == 1_000_000 else None
        bench.judge(case, "Newton, working", "seconds", time.perf_counter() - wall, None, high)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    bench.judge(
        f"4 projectors, {sizes[-1]} pixels", "Newton, working", "peak memory of the process, GiB", peak, None, 2.0
    )
