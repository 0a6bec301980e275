"""Real files, the noise level estimated: stations, ship tracks, a gridded sea surface with gaps. Held-out data judge.

The files lie under `$INFIELD_DATA`: `tables/` and `ocean/`. Longitudes and latitudes become kilometres on the local
plane, for all methods alike.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.stats import kurtosis

from infield.pipelines.bench.kriging.fields import Problem
from infield.pipelines.bench.kriging.measurements import Layout
from infield.pipelines.bench.kriging.peers import Answer
from infield.pipelines.bench.kriging.scores import coverage, rmse
from infield.pipelines.bench.kriging.settings import OURS, Settings, enter_ours, enter_peers, labels
from infield.pipelines.bench.kriging.tables import PartsBench

Array = NDArray[np.float64]

KM_A_DEGREE = 111.195
SPLITS = 3
GAUSSIAN = 1.0
"""Excess kurtosis of the standardised residuals below which their intervals are judged."""

TREND = ("--trend", "linear")

ORDER = 1.5
"""Of the peers' laws, their usual default; ours and one row of GPBoost find it."""

PEERS = ("gpboost", "gpboost-anisotropic", "gpboost-free-order", "pykrige", "pykrige-32", "scikit-learn", "gpytorch")
LARGE_PEERS = ("gpboost", "gpboost-anisotropic", "pykrige-32")


@dataclass(frozen=True)
class RealFile:
    """A table of places in kilometres and values, and the grid of the map.

    Arguments:
        name: Row.
        places: `(n, 2)`, north and east, km.
        values: `(n,)`.
        side: Points of the grid along each axis.
        units: Of the values.
        kept: Data of a fit, at most.
        held_out: Data that judge, at most.
        drift: What all are given of the mean.
    """

    name: str
    places: Array
    values: Array
    side: int
    units: str
    kept: int
    held_out: int
    drift: str = "constant"


def run(bench: PartsBench, settings: Settings) -> None:
    """Each file; three random splits of stations, one of what is large."""
    root = os.environ.get("INFIELD_DATA")
    if root is None or not Path(root).is_dir():
        bench.refuse("real: all files", OURS, "no folder $INFIELD_DATA")
        return
    for row, file in enumerate(_tables(Path(root), settings)):
        splits = SPLITS if len(file.values) < 5000 and not settings.quick else 1
        peers = PEERS if len(file.values) < 5000 else LARGE_PEERS
        group = f"real: {file.name}"
        if not settings.includes(group):
            continue
        for number in range(splits):
            case = f"{group} #{number}"
            if not bench.pending(case):
                continue
            problem = _split(file, settings.rng(6, row, number))
            _enter(bench, case, number, problem, Layout(units=("km", "km"), value_units=file.units),
                   settings, peers)  # fmt: skip
        _judge(bench, group, peers)
    group = "real: ostia_monthly, a month with land and a block of gaps"
    if settings.includes(group):
        if bench.pending(f"{group} #0"):
            problem, layout = _sea_surface(Path(root), settings)
            _enter(bench, f"{group} #0", 0, problem, layout, settings, LARGE_PEERS)
        _judge(bench, group, LARGE_PEERS)


def _enter(bench: PartsBench, case: str, number: int, problem: Problem, layout: Layout, settings: Settings,
           peers: tuple[str, ...]) -> None:  # fmt: skip
    score = partial(scores, problem)
    enter_ours(bench, case, problem, settings, score, layout=layout)
    if problem.drift == "linear":
        enter_ours(bench, case, problem, settings, score, *TREND, layout=layout, method=f"{OURS} {' '.join(TREND)}")
    stated = problem.stating(noise_sd=None, order=ORDER)
    enter_peers(bench, case, number, stated, settings, score, *peers)
    bench.finish(case)


def _judge(bench: PartsBench, group: str, peers: tuple[str, ...]) -> None:
    """Of ours with the same information as the peers."""
    named = labels(*(peer for peer in peers if peers == PEERS or peer != "pykrige-32"))  # it holds all pairs: tried
    ours = f"{OURS} {' '.join(TREND)}" if "linear" in group else OURS
    bench.judge(group, "rmse_over_best_peer", bench.ratio(group, ours, named, "rmse"), 1.02, peers=named)
    tails = bench.mean(group, ours, "kurtosis")
    if tails is None or tails < GAUSSIAN:
        cover, error = (figure(group, ours, "coverage_90") for figure in (bench.mean, bench.error))
        bench.judge(group, "coverage_90", cover, 0.93, 0.87, error=error)


def scores(problem: Problem, answer: Answer) -> dict[str, float]:
    """Of the held-out data, whose own errors have the noise level that the method found."""
    assert problem.held_out is not None
    values, cells = problem.held_out[1], int(np.prod(problem.shape))
    mean, noise = answer.mean[cells:], problem.noise_sd if answer.noise_sd is None else answer.noise_sd
    found = {"rmse": rmse(mean, values)}
    if noise is not None:
        sd = np.hypot(answer.sd[cells:], noise)
        found |= {f"coverage_{p}": coverage(mean, sd, values, p / 100) for p in (50, 80, 90, 95)}
        found["kurtosis"] = float(kurtosis((values - mean) / sd))
    return found


def _tables(root: Path, settings: Settings) -> Iterator[RealFile]:
    stations = pd.read_csv(root / "tables/texas_wind.csv")
    places = kilometres(stations["latitude"], stations["longitude"])
    side = 16 if settings.quick else 64
    for column, what in (("wind_speed_east_knots", "eastward wind"), ("air_temperature_c", "air temperature")):
        values = stations[column].to_numpy(float)
        yield RealFile(f"texas_wind, {what}", places, values, side, "knots" if "knots" in column else "degC",
                       len(values), len(values) // 10)  # fmt: skip
    _, lat, lon, temperature = np.loadtxt(root / "tables/dwd_temperature.txt").T
    for drift in ("constant", "linear"):
        yield RealFile(f"dwd_temperature, {drift} drift", kilometres(lat, lon), temperature, side, "degC",
                       len(lat), len(lat) // 10, drift)  # fmt: skip
    if settings.quick:
        return
    soundings = pd.read_csv(root / "tables/baja_bathymetry.csv.xz").drop_duplicates(["longitude", "latitude"])
    places = kilometres(soundings["latitude"], soundings["longitude"])
    depth = soundings["bathymetry_m"].to_numpy(float)
    yield RealFile("baja_bathymetry, 20,000 points", places, depth, 192, "m", 20_000, 8000)
    if settings.full:
        yield RealFile("baja_bathymetry, all points", places, depth, 192, "m", len(depth) - 8000, 8000)


def _split(file: RealFile, rng: Generator) -> Problem:
    order = rng.permutation(len(file.values))
    out, kept = order[: file.held_out], order[file.held_out :][: file.kept]
    low, high = file.places.min(0), file.places.max(0)
    axes = tuple(np.linspace(a, b, file.side) for a, b in zip(low, high, strict=True))
    return Problem(file.places[kept], file.values[kept], axes, drift=file.drift,
                   held_out=(file.places[out], file.values[out]))  # fmt: skip


def kilometres(latitude: Array, longitude: Array) -> Array:
    """North and east of the middle, on the local plane."""
    lat, lon = np.asarray(latitude, float), np.asarray(longitude, float)
    middle = 0.5 * (lat.min() + lat.max())
    return KM_A_DEGREE * np.column_stack([lat - middle, np.cos(np.deg2rad(middle)) * (lon - lon.mean())])


def _sea_surface(root: Path, settings: Settings) -> tuple[Problem, Layout]:
    """The first month: sea cells seen but for a tenth at random and a block of 40 degrees of longitude."""
    with xr.open_dataset(root / "ocean/ostia_monthly.nc") as file:
        month = file["surface_temperature"].isel(time=0).load()
    if settings.quick:
        month = month.isel(longitude=slice(200, 260))
    lat, lon = (month[name].to_numpy().astype(float) for name in ("latitude", "longitude"))
    sea, rng = np.isfinite(month.to_numpy()), settings.rng(7, 0)
    hidden = rng.random(sea.shape) < 0.1
    hidden[:, (lon > 195) & (lon < 235)] = True
    seen, out = sea & ~hidden, sea & hidden
    axes = lat * KM_A_DEGREE, lon * KM_A_DEGREE
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    values = month.to_numpy().astype(float)
    problem = Problem(grid[seen], values[seen], axes, held_out=(grid[out], values[out]))
    return problem, Layout(("lat", "lon"), ("km", "km"), value_units="K", on_grid=seen)
