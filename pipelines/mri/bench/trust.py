"""Are faulty k-space files found without a truth, and are overconfident posteriors of heads mended?

`check`: files of 24 x 24 points, 2 coils and half of the lines, under the Gaussian prior with mean and covariance of
axial heads. A right file is a draw of that prior. Faulty ones: a sagittal slice of the same template; coil maps that
are wrong by a smooth tenth; noise 1.5 times the stated; and, with a blur in place of coils, one half as wide again.

`mending`: heads of 64 x 64 points, one coil, an eighth of k-space, 16 draws of `faps` with 8 levels under the shipped
flow prior of heads, which is overconfident there. The recalibration is fitted to some heads and judged on others.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.datasets.anatomy.brain_template import load_template
from infield.datasets.mri.brains import BrainPhantom
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.bench.kept import Kept
from infield.pipelines.bench.records import Bench, Record
from infield.pipelines.mri.bench.cases import smooth_coils
from infield.pipelines.mri.bench.one_step_fields import PRIOR, TASKS, measure, psnr
from infield.pipelines.run.check import checked
from infield.pipelines.run.console import progress
from infield.posterior.calibration.recalibration import Recalibration
from infield.posterior.calibration.truths import draw_from_prior
from infield.posterior.diagnostics.calibration import coverage, energy_score, ranks, variance_and_error
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.priors.gaussian.prior import GaussianPrior, empirical_prior
from infield.priors.storage.checkpoint import load_flow_prior

POINTS, COILS, NOISE, FOV = 24, 2, 0.05, 240.0
RIGHT, FAULTY = 40, 20
HEADS_FIT, HEADS_JUDGED, DRAWS, LEVELS = 80, 100, 16, 8

PARTS = ("check", "mending")
METRICS = {
    "found": ".3f",
    "trusted": ".3f",
    "calibration_ratio": ".3f",
    "cover_90": ".3f",
    "energy_score": ".5f",
    "psnr": ".2f",
}
METHOD_NOTE = "found: fraction of files that alarm; interval of the calibration ratio: 95 % over heads (bootstrap)."


def chosen(arguments: argparse.Namespace) -> tuple[ModuleType, dict[str, Any]]:
    return sys.modules[__name__], {
        "parts": arguments.parts,
        "heads": tuple(arguments.heads),
        "levels": arguments.levels,
        "keep": arguments.keep,
    }


def run(
    *,
    quick: bool = False,
    seed: int = 0,
    parts: list[str] | None = None,
    heads: tuple[int, int] = (HEADS_FIT, HEADS_JUDGED),
    levels: int = LEVELS,
    keep: Path | None = None,
) -> Bench:
    """Both parts; a few files and heads when quick."""
    torch.set_num_threads(1)
    bench, kept = Bench("trust-mri", seed), Kept(keep)
    with progress() as bar:
        for part in bar.track(parts or PARTS, description="trust-mri"):
            if part == "check":
                _check(bench, seed, kept, *((2, 1) if quick else (RIGHT, FAULTY)))
            else:
                _mend(bench, seed, kept, *((2, 2) if quick else heads), levels=2 if quick else levels)
    return bench


def _grid(points: int) -> Grid:
    return Grid.regular((points, points), (FOV, FOV), names=("y", "x"), units="mm", periodic=True)


# ------------------------------------------------------------------------------------------------------------ check


@dataclass(frozen=True)
class _Instrument:
    """What makes files of fields: operators as they are and as the file states them, and noise likewise."""

    prior: GaussianPrior
    grid: Grid

    def file(
        self, field: Tensor, generator: Generator, *, real: Any = None, stated: Any = None, noise: float = 1.0
    ) -> Measurement:
        """A measurement by an operator, which states another one, or a noise level."""
        stated = stated if stated is not None else self.coils(generator)
        operator = real or stated
        z = operator.A(field)
        y = z + noise * NOISE * torch.randn(z.shape, generator=generator, dtype=z.dtype)
        observed = getattr(stated, "observed", None)
        y = y if observed is None else torch.where(observed, y, 0.0)
        law = GaussianNoise(torch.tensor(NOISE**2, dtype=torch.float64))
        return Measurement(y=y, operator=stated, noise=law, grid=self.grid, channels=("real", "imag"))

    def coils(self, generator: Generator, maps: np.ndarray | None = None) -> Any:
        """Two coils, half of the lines and the middle."""
        lines = torch.rand(POINTS, generator=generator) < 0.4
        lines[POINTS // 2 - 2 : POINTS // 2 + 2] = True
        mask = lines[:, None].expand(POINTS, POINTS).numpy()
        return self._coils(mask, smooth_coils(POINTS, COILS) if maps is None else maps)

    def _coils(self, mask: np.ndarray, maps: np.ndarray) -> Any:
        description = {"name": "multicoil-mri", "arrays": {"coil_maps": "maps", "mask": "mask"}}
        return build_operator(description, {"maps": maps, "mask": mask}, self.grid, 2)

    def wrong_maps(self, generator: Generator) -> tuple[Any, Any]:
        """The operator, and one whose maps are off by a smooth complex tenth."""
        maps = smooth_coils(POINTS, COILS)
        white = torch.randn((2, COILS, 4, 4), generator=generator, dtype=torch.float64)
        smooth = torch.nn.functional.interpolate(white, size=(POINTS, POINTS), mode="bicubic", align_corners=False)
        error = torch.complex(smooth[0], smooth[1]).numpy()
        error *= 0.1 / np.sqrt((np.abs(error) ** 2).mean())
        state = generator.get_state()
        real = self.coils(generator, maps * (1 + error))
        generator.set_state(state)
        return real, self.coils(generator, maps)

    def blur(self, width: float) -> Any:
        """Convolution with a Gaussian, its width in mm."""
        return build_operator({"name": "convolution", "parameters": {"gaussian_width": width}}, {}, self.grid, 2)


def _check(bench: Bench, seed: int, kept: Kept, right: int, faulty: int) -> None:
    grid = _grid(POINTS)
    images = BrainPhantom().draw(grid, SampleStreams(5000 + seed, range(300)).normal)
    prior = empirical_prior(torch.stack([images.real, images.imag], 1), grid, rank=64)
    instrument = _Instrument(prior, grid)

    def of_prior(generator: Generator) -> Tensor:
        return draw_from_prior(prior, 1, generator)

    def maps(generator: Generator) -> Measurement:
        real, stated = instrument.wrong_maps(generator)
        return instrument.file(of_prior(generator), generator, real=real, stated=stated)

    def blurred(generator: Generator, width: float = 10.0) -> Measurement:
        return instrument.file(
            of_prior(generator), generator, real=instrument.blur(width), stated=instrument.blur(10.0)
        )

    kinds: dict[str, tuple[int, Callable[[Generator], Measurement]]] = {
        "right, coils": (right // 2, lambda g: instrument.file(of_prior(g), g)),
        "right, blur": (right - right // 2, blurred),
        "sagittal slice": (faulty, lambda g: instrument.file(_sagittal(grid, g), g)),
        "coil maps off by 10 %": (faulty, maps),
        "noise off by 1.5": (faulty, lambda g: instrument.file(of_prior(g), g, noise=1.5)),
        "wrong blur": (faulty, lambda g: blurred(g, 15.0)),
    }
    alarms, trusted = 0, 0
    for number, (kind, (count, make)) in enumerate(kinds.items()):

        def verdict(i: int, number: int = number, make: Callable[[Generator], Measurement] = make) -> float:
            generator = Generator().manual_seed(10_000 * seed + 100 * number + i)
            trusted = checked(Exact(), prior, make(generator), 99, i).trusted
            return math.nan if isinstance(trusted, str) else float(trusted)

        verdicts = [kept.number(f"check seed {seed} {kind} {i}", partial(verdict, i)) for i in range(count)]
        found = sum(v == 0 for v in verdicts)
        if kind.startswith("right"):
            alarms, trusted = alarms + found, trusted + sum(v == 1 for v in verdicts)
            bench.add(kind, "check", "found", found / count)
        else:
            add(bench, kind, "check", "found", found / count, "at least 0.9", found / count >= 0.9)
    add(bench, f"{right} right files", "check", "alarms", float(alarms), "at most 2", alarms <= 2)
    add(bench, f"{right} right files", "check", "trusted", trusted / right, "at least 0.9", trusted / right >= 0.9)


def _sagittal(grid: Grid, generator: Generator) -> Tensor:
    """A sagittal slice of the template, `(1, 2, y, x)`: a contrast of its tissues drawn at random, skin around it."""
    n = grid.shape[0]
    axis = (torch.arange(n, dtype=torch.float64) - n / 2) * FOV / n
    up, front = torch.meshgrid(-axis, axis, indexing="ij")
    aside = float(torch.rand(1, generator=generator)) * 60 - 30
    places = torch.stack([torch.full_like(up, aside), front - 18, up + 20], -1)[None]
    grey, white, brain, distance = load_template("").at(places)
    w = torch.rand(4, generator=generator, dtype=torch.float64)
    fluid = (brain - grey - white).clamp_min(0)
    skin = torch.exp(-((distance - 12) / 5).square())
    image = ((0.4 + w[0]) * grey + (0.4 + w[1]) * white + w[2] * fluid + w[3] * skin)[0]
    image = image / image.quantile(0.99)
    phase = 0.5 * torch.randn(3, generator=generator, dtype=torch.float64)
    angle = phase[0] + (phase[1] * up + phase[2] * front) / 100
    return torch.stack([image * angle.cos(), image * angle.sin()])[None]


# ---------------------------------------------------------------------------------------------------------- mending


def _mend(bench: Bench, seed: int, kept: Kept, fit: int, judged: int, *, levels: int) -> None:
    grid = _grid(64)
    prior = load_flow_prior(PRIOR).on(grid)

    def head(i: int) -> dict[str, np.ndarray]:
        """A truth `(2, y, x)` and draws of it."""
        image = BrainPhantom().draw(grid, SampleStreams(7000 + seed, [i]).normal)[0]
        truth = torch.stack([image.real, image.imag])[None]
        measurement = measure(truth, TASKS["mri 8x"].family, grid, 0.02, Generator().manual_seed(i))
        posterior = FAPS(levels=levels)(prior, measurement, DRAWS, SampleStreams(i, range(DRAWS)))
        return {"truth": truth[0].float().numpy(), "draws": posterior.samples.float().numpy()}

    found = [kept.case(f"head seed {seed} levels {levels} {i}", partial(head, i)) for i in range(fit + judged)]
    cases = [(torch.from_numpy(one["truth"]).double(), torch.from_numpy(one["draws"]).double()) for one in found]
    score_mending(bench, cases, fit, f"8x, 64 x 64, faps {levels} levels, {fit} heads fitted, {judged} judged")


def score_mending(bench: Bench, cases: list[tuple[Tensor, Tensor]], fit: int, case: str) -> None:
    """Records of draws as they are, widened by one factor, and recalibrated, on heads to which nothing was fitted."""
    fitted, others = cases[:fit], cases[fit:]
    recalibration = Recalibration.fit(_grid(64), lambda: iter(fitted))
    sums = np.array([variance_and_error(draws, truth) for truth, draws in fitted]).sum(0)
    factor = float((sums[1] / sums[0]) ** 0.5)
    methods: dict[str, Callable[[Tensor, int], Tensor]] = {
        "original": lambda draws, _: draws,
        "one factor": lambda draws, _: draws.mean(0) + factor * (draws - draws.mean(0)),
        "recalibrated": recalibration.apply,
    }
    found: dict[str, dict[str, float]] = {}
    for method, mend in methods.items():
        mended = [(truth, mend(draws, i)) for i, (truth, draws) in enumerate(others)]
        found[method] = scores(mended)
        for metric, value in found[method].items():
            bench.add(case, method, metric, value, "dB" if metric == "psnr" else "1")
    before, after = found["original"], found["recalibrated"]
    low, high = after["ratio_low"], after["ratio_high"]
    held = low <= 1 <= high and (high - low) / 2 <= 0.07
    add(bench, case, "recalibrated", "ratio_half_width", (high - low) / 2, "interval holds 1, at most 0.07", held)
    covered = 0.88 <= after["cover_90"] <= 0.92
    add(bench, case, "recalibrated", "cover", after["cover_90"], "0.88 to 0.92", covered)
    worse = after["energy_score"] / before["energy_score"]
    add(bench, case, "recalibrated", "energy_score_ratio", worse, "at most 1", worse <= 1)
    loss = before["psnr"] - after["psnr"]
    add(bench, case, "recalibrated", "psnr_loss", loss, "at most 0.1 dB", loss <= 0.1)


def scores(cases: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Calibration ratio with its interval over heads, coverage over all points, energy score and PSNR of the mean."""
    sums = np.array([variance_and_error(draws, truth) for truth, draws in cases])
    rng = np.random.default_rng(0)
    again = [sums[rng.integers(len(sums), size=len(sums))].sum(0) for _ in range(1000)]
    low, high = np.quantile([v / e for v, e in again], [0.025, 0.975])
    dice = Generator().manual_seed(0)
    rank = torch.stack([ranks(draws, truth) for truth, draws in cases])
    return {
        "calibration_ratio": float(sums[:, 0].sum() / sums[:, 1].sum()),
        "ratio_low": float(low),
        "ratio_high": float(high),
        "cover_90": coverage(rank, len(cases[0][1]), 0.9, dice),
        "energy_score": float(np.mean([energy_score(draws, truth) for truth, draws in cases])),
        "psnr": float(np.mean([psnr(draws.mean(0, keepdim=True), truth) for truth, draws in cases])),
    }


def add(bench: Bench, case: str, method: str, metric: str, value: float, target: str, met: bool) -> None:
    """A target figure."""
    bench.records.append(replace(Record(bench.name, case, method, metric, value), target=target, met=met))
