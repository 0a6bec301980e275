"""Pictures of a prior under the gamut and its guides, each beside its unguided row, and a ring of views."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core.grid import Grid
from infield.datasets.projection_mapping.renderer import Scene
from infield.physics.measurement import Measurement
from infield.physics.operators.registry import build_operator
from infield.physics.projection_mapping.gamut_measurement import LOW_PASS_SD, Guides, gamut_measurement
from infield.physics.projection_mapping.guidance import LUMA
from infield.physics.projection_mapping.setup import Setup
from infield.pipelines.bench.targets import TargetBench
from infield.pipelines.package_data import shipped_checkpoints
from infield.pipelines.projection_mapping.bench.cases import FEWEST_PAIRS, truth
from infield.pipelines.projection_mapping.bench.cases import pictures as photographs
from infield.pipelines.projection_mapping.bench.cooperation import projected
from infield.pipelines.projection_mapping.ring import Ring, cross_faded, draw_ring, seams
from infield.pipelines.run.prior_choice import choose_prior
from infield.posterior.samplers.diffpir import DiffPIR
from infield.priors.base import FlowPrior, sample

PRIOR = "pictures"
GAMUT, RELIEF = "curved-hard-3", "relief-mild-1"
OUTSIDE, TOLERANCE, EVERY = 0.04, 0.01, 2
SAMPLES, QUICK_SAMPLES = 12, 3
VIEWS, OVERLAP = 6, 16
EDGE_SHARE = 0.8
"""Quantile of the surface's gradient from which a pixel lies on an edge."""


def pictures(bench: TargetBench, height: int, quick: bool, seed: int) -> None:
    """Distance, diversity and probability under the prior, then each guide."""
    if PRIOR not in shipped_checkpoints():
        bench.add("pictures", "diffpir", "absent", "the prior is not installed")
        return
    count = QUICK_SAMPLES if quick else SAMPLES
    _gamut(bench, truth(GAMUT, height), count, seed)
    _guides(bench, truth(RELIEF, height), count, seed)


def _numbers(seed: int, i: int) -> torch.Generator:
    return torch.Generator().manual_seed(100 * seed + i)


def _gamut(bench: TargetBench, setup: Setup, count: int, seed: int) -> None:
    far = lambda m, x: float(m.noise.distances(m.operator.A(x), m.observed)[:, _seen(m)].mean())  # noqa: E731
    measurement = gamut_measurement(setup, 1.0, TOLERANCE, EVERY)
    prior: Any = choose_prior(PRIOR, measurement).prior
    free = sample(prior, count, _numbers(seed, 0), steps=40).clamp(0, 1)
    low, high = 0.0, 4.0
    for _ in range(12):
        exposure = 0.5 * (low + high)
        measurement = gamut_measurement(setup, exposure, TOLERANCE, EVERY)
        low, high = (low, exposure) if far(measurement, free) > OUTSIDE else (exposure, high)
    guided = DiffPIR()(prior, measurement, count, _numbers(seed, 1)).samples
    moved = torch.where(_seen(measurement), projected(measurement, free), free)
    case, judge = f"{GAMUT}, exposure {exposure:.3g}, {count} samples", bench.judge
    judge(case, "unguided", "mean distance from the gamut", far(measurement, free))
    judge(case, "diffpir", "mean distance from the gamut", far(measurement, guided))
    judge(case, "diffpir", "times nearer than unguided", far(measurement, free) / far(measurement, guided), 20)
    ratio, error = diversity_ratio(guided, moved)
    judge(case, "diffpir", "diversity over that of projected samples", ratio, 0.85, error=error)
    around: Any = choose_prior(PRIOR, _on_torus(measurement)).prior  # a window has no density of its own
    bits = [bits_per_dimension(around, x.clamp(0, 1), _numbers(seed, 2)) for x in (guided, moved, free)]
    gain = (bits[1] - bits[0]).numpy()
    error = float(gain.std(ddof=1) / math.sqrt(count)) if count > 1 else 0.0
    judge(case, "diffpir", "bits per dimension below projected samples", float(gain.mean()), 0.05, error=error)
    judge(case, "unguided", "bits per dimension below projected samples", float((bits[1] - bits[2]).mean()))


def _guides(bench: TargetBench, setup: Setup, count: int, seed: int) -> None:
    exposure = 0.5 * float(np.nanmedian(_white(setup)))
    like = next(iter(photographs(setup.shape, 1).values()))
    picture = np.clip(like[:, ::EVERY, ::EVERY], 0, 1) ** (1 / 2.2)
    rows: dict[str, tuple[Measurement, Tensor]] = {}
    for name, guides in (
        ("gamut alone", Guides()),
        ("edges", Guides(edges=1.0)),
        ("depth", Guides(depth=1.0)),
        ("like", Guides(like=1.0, picture=picture)),
    ):
        measurement = gamut_measurement(setup, exposure, TOLERANCE, EVERY, guides)
        prior = choose_prior(PRIOR, measurement).prior
        rows[name] = measurement, DiffPIR()(prior, measurement, count, _numbers(seed, 3)).samples
    case, alone = f"{RELIEF}, {count} samples", rows["gamut alone"][1]
    xi = rows["edges"][0].arrays["edge_direction"]
    steep = torch.from_numpy(np.hypot(*xi))
    edge = steep > torch.quantile(steep.flatten(), EDGE_SHARE)
    contrast = {n: _on_edges(rows[n][1], edge) for n in ("gamut alone", "edges")}
    bench.judge(case, "gamut alone", "gradient on edges over that elsewhere", contrast["gamut alone"])
    bench.judge(case, "edges", "gradient on edges over that elsewhere", contrast["edges"])
    bench.judge(case, "edges", "times that of the gamut alone", contrast["edges"] / contrast["gamut alone"], 1.3)
    ratio, error = diversity_ratio(rows["edges"][1], alone)
    bench.judge(case, "edges", "diversity over that of the gamut alone", ratio, 0.9, error=error)
    depth, error = diversity_ratio(rows["depth"][1], alone)
    bench.judge(case, "depth", "diversity over that of the gamut alone", depth, error=error)
    measurement = rows["depth"][0]
    wanted, part = _last(measurement), measurement.operator.operators[1]
    for name in ("gamut alone", "depth"):
        together = float(np.mean([_correlation(part.A(x[None])[0, 0], wanted[0]) for x in rows[name][1]]))
        bench.judge(case, name, "correlation with the shading", together)
    measurement = rows["like"][0]
    wanted, part = _last(measurement), measurement.operator.operators[1]
    for name, high in (("gamut alone", None), ("like", LOW_PASS_SD)):
        off = float((part.A(rows[name][1]) - wanted).square().mean().sqrt())
        bench.judge(case, name, "rms of the low pass off the picture's, code", off, None, high)


def ring(bench: TargetBench, quick: bool, seed: int) -> None:
    """Views of reliefs of their own, joined and alone."""
    if PRIOR not in shipped_checkpoints():
        bench.add("ring", "diffpir", "absent", "the prior is not installed")
        return
    count, height = (3, 48) if quick else (VIEWS, 64)
    setups = tuple(Scene("relief", "mild", 2, height, 0.8, 0.7, seed=20 + v).truth() for v in range(count))
    whole = Ring(tuple(f"view_{v}" for v in range(count)), setups, OVERLAP)
    exposure = 0.5 * min(float(np.nanmedian(_white(setup))) for setup in setups)
    case, shared = f"ring of {count} views", OVERLAP // EVERY
    for method, joined in (("views in turn", True), ("views alone", False)):
        drawn = draw_ring(whole, PRIOR, DiffPIR(), exposure=exposure, tolerance=TOLERANCE, every=EVERY, seed=seed,
                          joined=joined)  # fmt: skip
        as_drawn, faded = seams(drawn, shared, True), seams(cross_faded(drawn, shared, True), shared, True)
        bench.judge(case, method, "rms at shared pixels, code", as_drawn["overlap"], None, 0.04 if joined else None)
        judged = "steps at seams over those within views"
        bench.judge(case, method, judged, as_drawn["step"], None, 1.3 if joined else None)
        bench.judge(case, method, f"{judged}, cross-faded", faded["step"])  # smooth whatever was drawn


def diversity(x: Tensor) -> float:
    """Mean distance of two pictures, root mean square over pixels and channels."""
    flat = x.flatten(1)
    return float(torch.pdist(flat).mean() / math.sqrt(flat.shape[1])) if len(x) > 1 else 0.0


def diversity_ratio(x: Tensor, other: Tensor) -> tuple[float, float]:
    """That of x over that of others, drawn from the same numbers, and its standard error by the jackknife over
    samples; 0 of fewer than `FEWEST_PAIRS`, so that no target is met by an error."""
    n, ratio = len(x), diversity(x) / max(diversity(other), 1e-12)
    if n < FEWEST_PAIRS:
        return ratio, 0.0
    rest = [torch.arange(n) != i for i in range(n)]
    without = np.array([diversity(x[r]) / diversity(other[r]) for r in rest])
    return ratio, float(np.sqrt((n - 1) * without.var()))


def bits_per_dimension(
    prior: FlowPrior, x: Tensor, generator: torch.Generator, steps: int = 40, probes: int = 2
) -> Tensor:
    """-log2 p(x) a value of a picture in its units, by the flow backwards (Chen et al. 2018, instantaneous change of
    variables) with Hutchinson's estimate of the divergence by central differences; shape `(batch,)`.

    Stops at t = 0.99, since the prior's density has no width at edges; the same for all that are compared.
    """
    u = prior.standardisation.from_units(x)
    n, last, h = u[0].numel(), 0.99, 0.01
    signs = [torch.randn(u.shape, generator=generator, dtype=u.dtype).sign() for _ in range(probes)]
    x_t, divergence = last * u, torch.zeros(len(u), dtype=u.dtype)
    dt = last / steps
    for k in range(steps, 0, -1):
        t = k * dt
        middle = x_t - 0.5 * dt * prior.velocity(x_t, t)
        for e in signs:
            change = prior.velocity(middle + h * e, t - dt / 2) - prior.velocity(middle - h * e, t - dt / 2)
            divergence += dt * (e * change).flatten(1).sum(1) / (2 * h * probes)
        x_t = x_t - dt * prior.velocity(middle, t - dt / 2)
    C_0 = prior.source
    white = C_0.modes.analyse(x_t) / C_0.diagonal.sqrt()
    log_source = -0.5 * (white.square() + C_0.diagonal.log() + math.log(2 * math.pi)).flatten(1).sum(1)
    return -(log_source - divergence) / (n * math.log(2))


def _on_torus(measurement: Measurement) -> Measurement:
    """The same on a periodic grid of the same pixels."""
    shape = measurement.grid.shape
    grid = Grid.regular(shape, tuple(map(float, shape)), names=("y", "x"), units="1", periodic=True)
    operator = build_operator(measurement.description or {}, {}, grid, 3)
    return replace(measurement, grid=grid, operator=operator)


def _seen(measurement: Measurement) -> Tensor:
    space = measurement.grid.shape
    assert measurement.observed is not None
    return measurement.observed.reshape(3, *space).all(0)


def _white(setup: Setup) -> np.ndarray:
    from infield.physics.projection_mapping.gamut import largest_gain

    return np.asarray(largest_gain(setup.columns(), np.ones((int(setup.covered.sum()), 3))))


def _on_edges(x: Tensor, edge: Tensor) -> float:
    """Mean gradient of the luma on edges over that elsewhere."""
    luma = torch.einsum("c,bcyx->byx", x.new_tensor(LUMA), x)
    down, across = (torch.diff(luma, dim=d, append=luma.narrow(d, luma.shape[d] - 1, 1)) for d in (1, 2))
    length = torch.hypot(down, across)
    return float(length[:, edge].mean() / length[:, ~edge].mean())


def _last(measurement: Measurement) -> Tensor:
    """Data of the last part of a stack, in its shape."""
    operator: Any = measurement.operator
    part = operator.operators[-1]
    return measurement.y[0, 0, -math.prod(part.data_shape) :].reshape(part.data_shape)


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])
