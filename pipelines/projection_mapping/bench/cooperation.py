"""Pictures that projectors can show: one and four pixels beside exact draws, then whole pictures of a prior."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.operators.registry import build_operator
from infield.physics.projection_mapping.colour import decode, encode
from infield.physics.projection_mapping.gamut import TIGHT, nearest
from infield.physics.projection_mapping.gamut_law import GamutNoise
from infield.pipelines.bench.targets import TargetBench
from infield.posterior.diagnostics.calibration import sliced_wasserstein
from infield.posterior.samplers.base import Sampler
from infield.posterior.samplers.diffpir import DiffPIR
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.twisted_smc import TwistedSMC
from infield.priors.gaussian.kernels import White
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import gaussian_prior

EXPOSURE, TOLERANCE = 0.6, 0.02
SMC_STEPS = {1: 60, 4: 200}
DRAWS, SEEDS, QUICK_DRAWS, QUICK_SEEDS = 4000, 10, 400, 2
MEANS = ([1.0, -0.5, -1.0], [-1.0, 0.5, 1.2])
WEIGHTS = (0.4, 0.6)


def few_pixels(bench: TargetBench, pixels: int, quick: bool, seed: int) -> None:
    """Draws under a mixture and the gamut of two projectors, beside rejection sampling."""
    shape = (1, 1) if pixels == 1 else (2, 2)
    count, seeds = (QUICK_DRAWS, QUICK_SEEDS) if quick else (DRAWS, SEEDS)
    measurement, prior = case(shape, seed), mixture(Grid.regular(shape))
    samplers: dict[str, Sampler] = {
        "smc": TwistedSMC(steps=SMC_STEPS[pixels] // (2 if quick else 1), particles=2),
        "faps": FAPS(),
        "diffpir": DiffPIR(),
    }
    found: dict[str, list[float]] = {}
    for k in range(seeds):
        numbers = lambda i: torch.Generator().manual_seed(1000 * seed + 10 * k + i)  # noqa: B023, E731
        exact, other = (by_rejection(prior, measurement, count, numbers(i)) for i in (0, 1))
        floor = sliced_wasserstein(exact, other, numbers(9))
        drawn = {name: s(prior, measurement, count, numbers(2)).samples for name, s in samplers.items()}
        free = draws(prior, count, numbers(3))
        drawn |= {"draws of the prior": free, "draws, then projected": projected(measurement, free)}
        for name, samples in drawn.items():
            found.setdefault(name, []).append(sliced_wasserstein(samples, exact, numbers(9)) / floor)
    for name, away in found.items():
        error = float(np.std(away, ddof=1) / math.sqrt(seeds))
        words = f"{pixels} pixel{'s' if pixels > 1 else ''}, mixture prior, {count} draws, {seeds} seeds"
        target = 1.5 if name == "smc" and not quick else None
        bench.judge(words, name, "sliced Wasserstein over its floor", float(np.mean(away)), None, target, error=error)


def case(shape: tuple[int, int], seed: int) -> Measurement:
    """Two projectors with mixed primaries, each pixel of its own brightness."""
    generator = torch.Generator().manual_seed(seed)
    mixing = 0.12 * torch.eye(3, dtype=torch.float64) + 0.03 * torch.rand(2, 3, 3, generator=generator).double()
    brightness = 0.5 + torch.rand(2, 1, 1, *shape, generator=generator).double()
    noise = GamutNoise(mixing[..., None, None] * brightness, torch.full((3, *shape), 0.02).double(), TOLERANCE)
    grid, description = Grid.regular(shape), {"name": "display", "parameters": {"exposure": EXPOSURE}}
    return Measurement(
        y=torch.zeros(1, 3, *shape, dtype=torch.float64),
        operator=build_operator(description, {}, grid, 3),
        noise=noise,
        grid=grid,
        channels=("red", "green", "blue"),
        description=description,
    )


def mixture(grid: Grid) -> MixturePrior:
    """Two colours, each with a spread of 0.2 in the code."""
    parts = []
    for mean in MEANS:
        part = gaussian_prior(White(), grid, channels=3, source=White()).in_units(0.5, 0.2)
        parts.append(replace(part, mean=torch.tensor(mean).double()[:, None, None] + 0 * part.mean))
    return MixturePrior(tuple(parts), torch.tensor(WEIGHTS, dtype=torch.float64))


def draws(prior: MixturePrior, count: int, generator: torch.Generator) -> Tensor:
    """Exact draws of the mixture, in the code."""
    chosen = torch.multinomial(prior.weights, count, replacement=True, generator=generator)
    means = torch.stack([component.mean for component in prior.components])[chosen]
    return 0.5 + 0.2 * (means + torch.randn(means.shape, generator=generator, dtype=torch.float64))


def by_rejection(prior: MixturePrior, measurement: Measurement, count: int, generator: torch.Generator) -> Tensor:
    """Exact draws of the posterior: draws of the prior, each kept with probability exp(-sum d^2 / 2 s^2)."""
    kept: list[Tensor] = []
    while sum(map(len, kept)) < count:
        x = draws(prior, 4 * count, generator)
        p = measurement.noise.log_prob(measurement.y, measurement.operator.A(x)).exp()
        kept.append(x[p > torch.rand(len(x), generator=generator, dtype=torch.float64)])
    return torch.cat(kept)[:count]


def projected(measurement: Measurement, x: Tensor) -> Tensor:
    """The codes of the nearest points of the gamuts, for an operator `display` without a colour matrix."""
    noise: Any = measurement.noise
    exposure = (measurement.description or {})["parameters"].get("exposure", 1.0)
    light = exposure * decode(x)
    above = (light - noise.background).flatten(2).transpose(1, 2).reshape(-1, 3).numpy()
    columns = noise.mixing.flatten(3).permute(3, 0, 2, 1).reshape(-1, 3 * len(noise.mixing), 3).double().numpy()
    residual = nearest(np.tile(columns, (len(x), 1, 1)), above, stages=TIGHT).residual
    shift = torch.from_numpy(residual).reshape(len(x), -1, 3).transpose(1, 2).reshape(x.shape)
    return encode(((light - shift) / exposure).clamp(min=0))
