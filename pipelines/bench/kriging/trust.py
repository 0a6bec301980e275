"""Quality of `trusted`: how often right files are called wrong, and how often wrong ones are detected.

Right files: Matern fields of all orders, length 0.1 to 0.4 of the side of the square, noise of sd 0.1 or 0.3 that the
file states or leaves open. Wrong ones, 300 data each: laws as they were once fitted to such files (an open domain taken
for a torus, one length for axes in unlike units, the field's level five times off), and noise that the file states
wrongly. The fit is the default's; all in this process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.random import Generator

from infield.core.grid import Axis, Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise, UnknownGaussianNoise
from infield.physics.operators.sensors import PointSensors
from infield.pipelines.bench.kriging.fields import at_places
from infield.pipelines.bench.kriging.oracle import isotropic, turned
from infield.pipelines.bench.kriging.settings import OURS, Settings
from infield.pipelines.bench.kriging.tables import PartsBench
from infield.pipelines.run.console import say
from infield.posterior.kriging.fit import Fit
from infield.posterior.kriging.fit import Settings as FitSettings
from infield.posterior.kriging.fitted import FittedField, Hyper
from infield.posterior.kriging.validation import validate, verdict

RIGHT = {30: 20, 300: 20, 2000: 4}
"""Data per file, and right files for each of the requested truths: 200, 200 and 40 by default."""

WRONG_DATA, WRONG_SEEDS = 300, 2
"""Data of a wrong file, and seeds for each of the truths."""

SIDE = 16
FALSE_ALARMS, SEEN = 0.05, 0.95
"""Target."""


@dataclass(frozen=True)
class File:
    """Data on the unit square, and the statements of their file.

    Arguments:
        places, values: The data.
        noise_sd: As it is stated; None where it is left open.
        periodic: Whether axes are stated to be periodic.
        fit: What is fixed of the fit.
        changed: What is made of the fitted law, or None.
    """

    places: np.ndarray
    values: np.ndarray
    noise_sd: float | None
    periodic: bool = False
    fit: FitSettings | None = None
    changed: Callable[[Fit], Fit] | None = None


def run(bench: PartsBench, settings: Settings) -> None:
    """Right files of each size, then each kind of wrong ones."""
    torch.set_num_threads(1)
    for row, (data, files) in enumerate(RIGHT.items()):
        number = 2 if settings.quick else files * settings.truths
        if not (settings.quick and data > 300):
            _share(bench, settings, f"trust: right files of {data:,} data", 9 + row, number, partial(right, data))
    for row, (name, make) in enumerate(WRONG.items()):
        number = 1 if settings.quick else WRONG_SEEDS * settings.truths
        _share(bench, settings, f"trust: wrong, {name}", 20 + row, number, make)


def _share(
    bench: PartsBench, settings: Settings, group: str, row: int, number: int, make: Callable[[Generator, int], File]
) -> None:
    if not settings.includes(group):
        return
    for i in range(number):
        case = f"{group} #{i}"
        if not bench.pending(case):
            continue
        trusted, because = judged(make(settings.rng(row, i), i), i)
        bench.scores(case, OURS, {"trusted": float(trusted)})
        if not trusted:
            say(f"{case}: {because}")
        bench.finish(case)
    share = bench.mean(group, OURS, "trusted")
    flagged = None if share is None else 1 - share
    if "right" in group:
        bench.judge(group, "false_alarms", flagged, FALSE_ALARMS)
    else:
        bench.judge(group, "flagged", flagged, 1.0, SEEN)


def judged(file: File, seed: int) -> tuple[int, str]:
    """`trusted` of the default on a file, and why."""
    line = tuple((np.arange(SIDE) / SIDE if file.periodic else np.linspace(0, 1, SIDE)).tolist())
    grid = Grid(tuple(Axis(name, line, "1", file.periodic) for name in "yx"))
    noise: GaussianNoise = UnknownGaussianNoise.of_data(file.values)
    if file.noise_sd is not None:
        noise = GaussianNoise(torch.tensor(file.noise_sd**2, dtype=torch.float64))
    operator = PointSensors.at_coordinates(grid, 1, torch.from_numpy(file.places))
    measurement = Measurement(y=torch.from_numpy(file.values)[None, None], operator=operator, noise=noise, grid=grid)
    hyper: Hyper = "auto" if file.changed is None else "plug-in"
    field = FittedField.of(measurement, settings=file.fit, hyper=hyper, seed=seed)
    if file.changed is not None:
        field = replace(field, fit=file.changed(field.fit))
    found = verdict(field, validate(field, seed=seed))
    return int(found.trusted), found.because


def _drawn(rng: Generator, data: int, length: float, nu: float, noise_sd: float) -> tuple[np.ndarray, np.ndarray]:
    places = rng.random((data, 2))
    values = at_places(isotropic(nu, length), places, rng)
    return places, values + noise_sd * rng.standard_normal(data)


def right(data: int, rng: Generator, i: int) -> File:
    """All combinations of length, order, noise, and whether it is stated."""
    noise_sd = (0.1, 0.3)[i // 9 % 2]
    places, values = _drawn(rng, data, (0.1, 0.2, 0.4)[i % 3], (0.5, 1.5, 2.5)[i // 3 % 3], noise_sd)
    return File(places, values, noise_sd if i // 18 % 2 else None)


def stated_noise(factor: float, rng: Generator, i: int) -> File:
    """Noise of sd 0.3, stated too small or too large."""
    places, values = _drawn(rng, WRONG_DATA, 0.2, 1.5, 0.3)
    return File(places, values, 0.3 * factor)


def level(factor: float, rng: Generator, i: int) -> File:
    """The field's standard deviation so many times the fitted one, as where groups of data were too small."""
    places, values = _drawn(rng, WRONG_DATA, 0.2, 1.5, 0.3)

    def changed(fit: Fit) -> Fit:
        theta = fit.theta.clone()
        theta[0] += 2 * np.log(factor)
        return replace(fit, theta=theta, warnings=())

    return File(places, values, 0.3, changed=changed)


def unlike_units(rng: Generator, i: int) -> File:
    """Lengths 1 to 30 apart, and a law of their geometric mean along both axes."""
    places = rng.random((WRONG_DATA, 2))
    values = at_places(turned(1.5, (0.2 * 30**0.5, 0.2 / 30**0.5)), places, rng) + 0.1 * rng.standard_normal(WRONG_DATA)

    def changed(fit: Fit) -> Fit:
        variance, _, _, factor = fit.family.unpack(fit.theta)
        theta = fit.family.packed(variance, torch.full((2,), 0.2, dtype=torch.float64), None, factor)
        return replace(fit, theta=theta, warnings=())

    return File(places, values, 0.1, fit=FitSettings(shapes=("isotropic",)), changed=changed)


def torus(trend: float, rng: Generator, i: int) -> File:
    """An open domain that its file declares periodic."""
    places, values = _drawn(rng, WRONG_DATA, 0.3, 1.5, 0.1)
    return File(0.999 * places, values + trend * places[:, 1], 0.1, periodic=True)


WRONG: dict[str, Callable[[Generator, int], File]] = {
    "noise stated a fifth": partial(stated_noise, 0.2),
    "noise stated three times": partial(stated_noise, 3.0),
    "level of the field a fifth": partial(level, 0.2),
    "level of the field five times": partial(level, 5.0),
    "one length for axes in unlike units": unlike_units,
    "an open domain taken for a torus": partial(torus, 0.0),
    "an open domain with a trend taken for a torus": partial(torus, 30.0),
}
