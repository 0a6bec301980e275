"""Data as they come: anisotropic, turned, in any units, with trends, gaps and biases, on the sphere, very few.

Each shape is drawn from its exact law by Cholesky; kriging under that law, with all its parameters, is the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from infield.pipelines.bench.kriging.fields import Problem, at_places
from infield.pipelines.bench.kriging.measurements import Layout
from infield.pipelines.bench.kriging.oracle import Law, dense_kriging, isotropic, turned
from infield.pipelines.bench.kriging.ours import reconstruct
from infield.pipelines.bench.kriging.peers import Answer
from infield.pipelines.bench.kriging.points import scores
from infield.pipelines.bench.kriging.processes import Outcome
from infield.pipelines.bench.kriging.settings import OURS, TRUE_LAW, Settings, enter, enter_ours, enter_peers
from infield.pipelines.bench.kriging.tables import PartsBench

Array = NDArray[np.float64]
EARTH_KM = 6371.0


@dataclass(frozen=True)
class Shape:
    """A problem, its true law and the contents of its file.

    Arguments:
        problem: Data and grid in the file's places.
        exact: Kriging under the true law.
        layout: Of the file.
        options: Of `reconstruct`.
        again: The same file in other units, or None.
        peers: Which of them can be given all of this.
    """

    problem: Problem
    exact: Answer
    layout: Layout = field(default_factory=Layout)
    options: tuple[str, ...] = ()
    again: Layout | None = None
    peers: tuple[str, ...] = ("gpboost", "gpboost-anisotropic")


def run(bench: PartsBench, settings: Settings) -> None:
    """Every shape, on several truths each."""
    for row, (name, make) in enumerate(SHAPES.items()):
        group = f"shapes: {name}"
        if not settings.includes(group):
            continue
        for number in range(settings.truths):
            case = f"{group} #{number}"
            if not bench.pending(case):
                continue
            shape = make(settings.rng(5, row, number), settings.quick)
            score = partial(scores, shape.problem, shape.exact)
            enter(bench, case, TRUE_LAW, Outcome(shape.exact), score)
            ours = partial(enter_ours, bench, case, shape.problem, settings, score)
            ours(layout=shape.layout)
            if shape.options:
                ours(*shape.options, layout=shape.layout, method=f"{OURS} {' '.join(shape.options)}")
            if shape.again is not None and number == 0:
                _moved(bench, case, shape, settings)
            stated = shape.problem.stating(
                noise_sd=shape.problem.noise_sd, order=1.5
            )  # of all these laws, but not given to ours
            enter_peers(bench, case, number, stated, settings, score, *shape.peers)
            bench.finish(case)
        _judge(bench, group, name)


def _moved(bench: PartsBench, case: str, shape: Shape, settings: Settings) -> None:
    """How far the posterior moves, in its own standard deviations, when the units of the axes change."""
    both = (shape.layout, shape.again)
    few = ("--samples", "8")
    found = [reconstruct(shape.problem, settings.limits, *few, layout=x, in_process=settings.quick) for x in both]
    if any(outcome.refused for outcome in found):
        return
    one, two = (outcome.answer for outcome in found)
    moved = max(np.abs((one.mean - two.mean) / one.sd).max(), np.abs(two.sd / one.sd - 1).max())
    bench.scores(case, OURS, {"moved": float(moved)})


def _judge(bench: PartsBench, group: str, name: str) -> None:
    """Covered: 0.88 to 0.92, or within two standard errors between the fields of that; 3 data at least, or refused."""
    mean, error = (figure(group, OURS, "coverage_90") for figure in (bench.mean, bench.error))
    bench.judge(group, "coverage_90", mean, 1.0 if name == "3 data" else 0.92, 0.88, error=error)
    if name.startswith("time"):
        bench.judge(group, "moved_by_units", bench.mean(group, OURS, "moved"), 1e-6)


def _square(
    rng: Generator,
    law: Law,
    data: int,
    side: int,
    noise_sd: float,
    keep: Callable[[Array], NDArray[np.bool_]] | None = None,
    mean: Callable[[Array], Array] | None = None,
    axis: Array | None = None,
) -> Problem:
    """A field on the unit square, measured where `keep` is true, around a mean."""
    axis = np.linspace(0, 1, side) if axis is None else axis
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    places = rng.random((20 * data, 2))
    places = (places if keep is None else places[keep(places)])[:data]
    both = np.concatenate([places, grid])
    values = at_places(law, both, rng) + (0 if mean is None else mean(both))
    seen = values[: len(places)] + noise_sd * rng.standard_normal(len(places))
    return Problem(places, seen, (axis, axis), noise_sd=noise_sd, truth=values[len(places) :])


def _exact(problem: Problem, law: Law, drift: str = "none", noise: Array | float | None = None) -> Answer:
    assert problem.noise_sd is not None
    noise = problem.noise_sd**2 if noise is None else noise
    return Answer(*dense_kriging(law, problem.points, problem.values, noise, problem.targets, drift))


def _sizes(quick: bool, data: int, side: int) -> tuple[int, int]:
    return (min(data, 60), 12) if quick else (data, side)


def anisotropic(ratio: float, degrees: float, rng: Generator, quick: bool) -> Shape:
    """Lengths whose geometric mean is 0.1."""
    law = turned(1.5, (0.1 * ratio**0.5, 0.1 / ratio**0.5), degrees)
    problem = _square(rng, law, *_sizes(quick, 800, 64), 0.2)
    return Shape(problem, _exact(problem, law))


def time_and_space(rng: Generator, quick: bool) -> Shape:
    """30 days by 5,000 m, lengths of 4 days and 800 m; in the other file, hours and kilometres."""
    extent, lengths = np.array([30.0, 5000.0]), np.array([4.0, 800.0])
    unit = _square(rng, Law(1.5, np.diag(extent / lengths)), *_sizes(quick, 500, 48), 0.2)
    axes = (unit.axes[0] * extent[0], unit.axes[1] * extent[1])
    problem = replace(unit, points=unit.points * extent, axes=axes)
    law = Law(1.5, np.diag(1 / lengths))
    days = Layout(("time", "x"), ("days", "m"))
    hours = Layout(("time", "x"), ("hours", "km"), (24.0, 1e-3))
    return Shape(problem, _exact(problem, law), days, again=hours, peers=("gpboost-anisotropic", "gpboost-space-time"))


def trend(rng: Generator, quick: bool) -> Shape:
    """10 to 40 m from one side to the other, 200 sensors, fluctuations of 1 m."""
    law = isotropic(1.5, 0.2)
    problem = _square(rng, law, *_sizes(quick, 200, 32), 0.1, mean=lambda p: 10 + 30 * p[:, 1])
    stated = replace(problem, drift="linear")
    layout = Layout(units=("km", "km"), value_units="m")
    return Shape(stated, _exact(problem, law, "linear"), layout, ("--trend", "linear"))


def one_sided(rng: Generator, quick: bool) -> Shape:
    """Sensors where x < 0.25 alone."""
    law = isotropic(1.5, 0.15)
    problem = _square(rng, law, *_sizes(quick, 200, 48), 0.1, keep=lambda p: p[:, 1] < 0.25)
    return Shape(problem, _exact(problem, law, "constant"))


def hole(rng: Generator, quick: bool) -> Shape:
    """No data in a square of a quarter of the domain."""
    law = isotropic(1.5, 0.15)
    problem = _square(rng, law, *_sizes(quick, 400, 48), 0.1, keep=lambda p: np.abs(p - 0.5).max(1) > 0.25)
    return Shape(problem, _exact(problem, law))


def cell_centres(rng: Generator, quick: bool) -> Shape:
    """The grid holds the centres of cells; data lie beyond the outer ones, within the cells."""
    law = isotropic(1.5, 0.1)
    data, side = _sizes(quick, 500, 48)
    centres = (np.arange(side) + 0.5) / side
    problem = _square(rng, law, data, side, 0.2, axis=centres)
    return Shape(problem, _exact(problem, law))


def log_normal(rng: Generator, quick: bool) -> Shape:
    """Data of exp(field) with additive errors; the map is of the field. Reference: Laplace's approximation."""
    law = isotropic(1.5, 0.15, 0.7)
    problem = _square(rng, law, *_sizes(quick, 400, 48), 0.0)
    noise_sd = 0.1
    seen = np.exp(problem.values) + noise_sd * rng.standard_normal(len(problem.values))
    problem = replace(problem, values=seen, noise_sd=noise_sd)
    z = np.log(np.maximum(seen, 0.2))
    for _ in range(30):  # Gauss-Newton: the data linearised where they are believed to be
        slope = np.exp(z)
        z = dense_kriging(law, problem.points, z + (seen - slope) / slope, noise_sd**2 / slope**2, problem.points)[0]
    slope = np.exp(z)
    exact = dense_kriging(law, problem.points, z + (seen - slope) / slope, noise_sd**2 / slope**2, problem.targets)
    return Shape(problem, Answer(*exact), Layout(link="exp"), peers=())


def biased_track(rng: Generator, quick: bool) -> Shape:
    """300 sensors, and a track of 100 more whose errors share an offset of sd 1."""
    law = isotropic(1.5, 0.1)
    problem = _square(rng, law, *_sizes(quick, 400, 48), 0.2)
    track, n = np.arange(len(problem.points)) < len(problem.points) // 4, len(problem.points)
    along = np.linspace(0.05, 0.95, int(track.sum()))
    places = problem.points.copy()
    places[track] = np.column_stack([along, 0.2 + 0.6 * along])
    values = at_places(law, np.concatenate([places, problem.grid_places]), rng)
    factors = track[None].astype(float)
    seen = values[:n] + 0.2 * rng.standard_normal(n) + factors[0] * rng.standard_normal()
    problem = replace(problem, points=places, values=seen, truth=values[n:])
    return Shape(problem, _exact(problem, law, noise=0.04 * np.eye(n) + factors.T @ factors), Layout(factors=factors))


def at_60_north(rng: Generator, quick: bool) -> Shape:
    """Stations from 55 to 65 N and 5 to 25 E, isotropic on the sphere, length 150 km."""
    law = isotropic(1.5, 150.0, axes=3)
    data, side = _sizes(quick, 300, 40)
    axes = np.linspace(55, 65, side), np.linspace(5, 25, side)
    places = np.column_stack([rng.uniform(55, 65, data), rng.uniform(5, 25, data)])
    problem = Problem(places, np.zeros(data), axes, noise_sd=0.2)
    chords = [_on_sphere(p) for p in (places, problem.grid_places)]
    values = at_places(law, np.concatenate(chords), rng)
    problem = replace(problem, values=values[:data] + 0.2 * rng.standard_normal(data), truth=values[data:])
    exact = dense_kriging(law, chords[0], problem.values, 0.04, chords[1])
    return Shape(problem, Answer(*exact), Layout(("lat", "lon"), ("degrees_north", "degrees_east")))


def few(data: int, rng: Generator, quick: bool) -> Shape:
    """Hardly any data."""
    law = isotropic(1.5, 0.2)
    problem = _square(rng, law, data, _sizes(quick, data, 32)[1], 0.2)
    return Shape(problem, _exact(problem, law), peers=("gpboost",))


def _on_sphere(degrees: Array) -> Array:
    lat, lon = np.deg2rad(degrees).T
    return EARTH_KM * np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def _all() -> Iterator[tuple[str, Callable[[Generator, bool], Shape]]]:
    for ratio, degrees in ((1, 0), (5, 0), (30, 0), (5, 30), (30, 30)):
        yield (
            f"anisotropy 1:{ratio}" + (f", turned by {degrees}" if degrees else ""),
            partial(anisotropic, ratio, degrees),
        )
    yield "time and space, days and m", time_and_space
    yield "trend of 10 to 40 m", trend
    yield "one-sided sensors", one_sided
    yield "a hole of a quarter", hole
    yield "data beyond cell centres", cell_centres
    yield "log-normal field, link exp", log_normal
    yield "a track with a bias", biased_track
    yield "stations at 60 N", at_60_north
    yield "30 data", partial(few, 30)
    yield "3 data", partial(few, 3)


SHAPES = dict(_all())
