"""What a posterior of a wall-pressure plane costs as the domain grows, tile by tile, and what a second worker brings.

Every size is one run of `infield reconstruct --tiles` in a process of its own, whose peak memory is that of the whole
process. The sizes have as many levels and samples, and tiles with the same halo. Time is the
processor's, without imports, so that other work on the machine does not matter.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from distributed import LocalCluster

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.core.randomness import SampleStreams
from infield.datasets.wall_pressure.sensors import WallSensors, write_wall_measurement
from infield.physics.wall_pressure.wall_units import DX_PLUS, DZ_PLUS, WALL_LENGTH
from infield.pipelines.bench.peak_memory import peak_mib
from infield.pipelines.bench.records import Bench
from infield.pipelines.wall_pressure.bench.cases import NOISE_STD, SHARE
from infield.priors.wall_pressure.synthetic import WallPressure

RE_TAU, BASE, TILE, HALO = 180.0, (64, 128), (32, 64), (16, 32)
"""Base: 4/3 pi x 4 pi half heights at Re_tau 180, which one tile with its halo just covers."""


def write_measurement(folder: Path, factor: int, seed: int) -> Path:
    """Sensors on a domain whose area is so many times that of `BASE`, a power of 4; no truth is stored."""
    side = math.isqrt(factor)
    sizes = zip(("z", "x"), BASE, (DZ_PLUS, DX_PLUS), strict=True)
    axes = (Axis(name, tuple(step * i for i in range(side * n)), WALL_LENGTH, True) for name, n, step in sizes)
    grid, path = Grid(tuple(axes)), folder / f"measurement_{factor}.zarr"
    truth = WallPressure(RE_TAU).draw(grid, SampleStreams(seed, [factor]).normal)[0]
    sensors = WallSensors.random(grid, SHARE, seed)
    seen = sensors.measure(truth, NOISE_STD, seed)
    write_wall_measurement(path, sensors.readings(seen.y.flatten(), NOISE_STD), re_tau=RE_TAU, synthetic=True)
    return path


def add_growth(
    bench: Bench, prior: Path, folder: Path, factors: tuple[int, ...], levels: int, samples: int, seed: int
) -> None:
    """Peak memory and time of each size; the growth of memory from the first to the last, and the slope
    d log(seconds) / d log(points) between the last two, where opening files and the like no longer count."""
    seconds, peaks = [], []
    for factor in factors:
        path, output = write_measurement(folder, factor, seed), folder / f"posterior_{factor}.zarr"
        report = _reconstruct(prior, path, output, levels, samples)
        row = f"domain x {factor}"
        bench.add(f"{factor}", row, "peak_mib", report["peak_mib"], "MiB")
        bench.add(f"{factor}", row, "run_seconds", report["seconds"], "s")
        bench.add(f"{factor}", row, "core_seconds", report["core_seconds"], "s")
        bench.add(f"{factor}", row, "chi_square", report["chi_square"])
        seconds.append(report["core_seconds"])
        peaks.append(report["peak_mib"])
    if len(factors) > 1:
        slope = math.log(seconds[-1] / seconds[-2]) / math.log(factors[-1] / factors[-2])
        bench.add("all", "growth", "slope", slope)
        bench.add("all", "growth", "memory_growth", peaks[-1] / peaks[0] - 1)


def add_workers(
    bench: Bench, prior: Path, folder: Path, factor: int, levels: int, samples: int, seed: int, counts: tuple[int, ...]
) -> None:
    """Seconds of the same run on so many Dask workers, each a process of one thread, and their ratio to those of the
    first count."""
    apart, first = folder / "workers", math.nan
    apart.mkdir()
    path = write_measurement(apart, factor, seed)
    warm_up = write_measurement(apart, 1, seed)  # so that imports of the workers do not count
    for count in counts:
        with LocalCluster(n_workers=count, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
            scheduler = ("--scheduler", cluster.scheduler_address)
            _reconstruct(prior, warm_up, apart / f"warm_{count}.zarr", 1, 4, *scheduler)
            output = apart / f"posterior_{count}.zarr"
            seconds = _reconstruct(prior, path, output, levels, samples, *scheduler)["seconds"]
        first = seconds if math.isnan(first) else first
        bench.add("workers", f"{count} Dask worker{'s' * (count > 1)}", "run_seconds", seconds, "s")
        bench.add("workers", f"{count} Dask worker{'s' * (count > 1)}", "speedup", first / seconds)


def _reconstruct(prior: Path, path: Path, output: Path, levels: int, samples: int, *more: str) -> dict[str, Any]:
    """The summary of the command, run in a process of its own, and that process' peak memory and time."""
    settings = ("--tiles", *TILE, "--halo", *HALO, "--with", f"levels={levels}", "--samples", samples, "--overwrite")
    arguments = ("reconstruct", path, "-o", output, "--prior", prior, *settings, "--json", *more)
    command = [sys.executable, "-m", __name__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InfieldError(done.stderr.strip().splitlines()[-1], where="bench wall-pressure: reconstruct")
    summary, own = (json.loads(line) for line in done.stdout.strip().splitlines()[-2:])
    return {**summary, **own}


if __name__ == "__main__":
    from infield.pipelines.cli import main
    from infield.pipelines.run import tiles  # noqa: F401

    start = time.process_time()
    status = main(sys.argv[1:])
    print(json.dumps({"peak_mib": peak_mib(), "core_seconds": time.process_time() - start}))
    sys.exit(status)
