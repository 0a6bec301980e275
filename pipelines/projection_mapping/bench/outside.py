"""Targets too bright for the surface: what bounds, Lab and a smooth scale buy, and what they do not."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from infield.physics.projection_mapping.choices import SCALES
from infield.physics.projection_mapping.colour import XYZ_OF_SRGB
from infield.physics.projection_mapping.compensate import compensate
from infield.physics.projection_mapping.extra import require
from infield.physics.projection_mapping.pixelwise import least_squares_clipped, linear_clipped, solve_pixels
from infield.physics.projection_mapping.setup import Setup
from infield.pipelines.bench.targets import TargetBench
from infield.pipelines.projection_mapping.bench.cases import (
    bright_target,
    code,
    delta_e,
    judged,
    paired,
    pictures,
    psnr,
    scene,
    show,
    truth,
)

BRIGHTNESS = (2.0, 5.0)
"""White of the pictures over what the median pixel can show of it."""
SCALE_ITERATIONS = 25
HIGH_PASS = 6.0
"""Pixels of the Gaussian whose blur is subtracted before a surface's trace is looked for, at a height of 60."""


def outside(bench: TargetBench, name: str, height: int, count: int | None, factor: float) -> None:
    """One scene at one brightness, `count` pictures."""
    setup = truth(name, height)
    rows: dict[str, list[float]] = {}
    for picture in pictures(setup.shape, count).values():
        target = bright_target(setup, picture, factor)
        if factor == BRIGHTNESS[0]:
            _pixelwise(setup, target, rows)
        _scaled(name, height, setup, target, rows)
    several = len(setup.projectors) > 1
    targets = {
        "error that is minimised, bounded over least squares (linear)": (None, 1.0 + 1e-6),
        "error that is minimised, bounded over linear (coded)": (None, 1.0 + 1e-6),
        "Delta E, Lab over linear": (None, 0.92 if several else 1.01),
        "trace of the surface, smooth over none": (None, 0.6),
        "SSIM, smooth over none, difference": (0.0, None),
    }
    for key, values in rows.items():
        mean, error = paired(values)
        bench.judge(
            f"{name}, white {factor:g} times the median", "paired", key, mean, *targets.get(key, (None, None)),
            error=error,
        )  # fmt: skip


def _pixelwise(setup: Setup, target: np.ndarray, rows: dict[str, list[float]]) -> None:
    """Camera pixels alone: appearance is V s + background."""
    covered, columns = setup.covered, setup.columns()
    weights = np.repeat(setup.feather(), 3, 1)
    ground, wanted = setup.background[:, covered].T, target[:, covered].T
    solutions = {error: solve_pixels(columns, ground, wanted, weights, error) for error in ("linear", "coded", "lab")}
    solutions["linear-clip"] = linear_clipped(columns, wanted - ground, weights)
    solutions["lsq-clip"] = least_squares_clipped(columns, wanted - ground)
    looks = {k: ground + np.einsum("pnc,pn->pc", columns, s) for k, s in solutions.items()}
    images = {k: a.T[:, None] for k, a in looks.items()}
    goal, every = wanted.T[:, None], np.ones((1, len(ground)), bool)
    error = {k: float(np.mean((a - wanted) ** 2)) for k, a in looks.items()}
    coded = {k: float(np.mean((code(a) - code(wanted)) ** 2)) for k, a in looks.items()}
    e = {k: delta_e(a, goal, every) for k, a in images.items()}
    add = lambda key, value: rows.setdefault(key, []).append(value)  # noqa: E731
    add("error that is minimised, bounded over least squares (linear)", error["linear"] / error["lsq-clip"])
    add("error that is minimised, bounded over linear (coded)", coded["coded"] / coded["linear-clip"])
    add("bounded over least squares, linear light, dB", 10 * np.log10(error["lsq-clip"] / error["linear"]))
    add("coded over least squares, PSNR of the code, dB", 10 * np.log10(coded["lsq-clip"] / coded["coded"]))
    add("Delta E, linear light over linear-then-clip", e["linear"] / e["linear-clip"])
    add("Delta E, Lab over linear", e["lab"] / e["linear-clip"])
    add("Delta E 2000, linear-then-clip", e["linear-clip"])
    add("Delta E 2000, Lab", e["lab"])


def _scaled(name: str, height: int, setup: Setup, target: np.ndarray, rows: dict[str, list[float]]) -> None:
    """Rendered pictures of the three scales, exposures matched."""
    rendered, inside = scene(name, height), judged(setup)
    traces, own, similar, ratio, outside = {}, {}, {}, {}, {}
    for kind in SCALES:
        found = compensate(setup, target, scale=kind, iterations=SCALE_ITERATIONS)
        image = show(rendered, setup, found.light)
        outside[kind] = found.outside(setup.covered)
        traces[kind] = _trace(setup, image, target, inside, height)
        own[kind] = _trace(setup, image, found.scaled.target, inside, height)
        similar[kind] = _ssim_exposed(image, target, inside)
        ratio[kind] = psnr(image, target, inside)
    add = lambda key, value: rows.setdefault(key, []).append(value)  # noqa: E731
    add("share of pixels outside, none", outside["none"])
    add("trace of the surface, none", traces["none"])
    add("trace of the surface, smooth", traces["smooth"])
    add("trace of the surface, smooth over none", traces["smooth"] / max(traces["none"], 1e-9))
    add(
        "trace of the surface, smooth over none, beside each one's scaled target",
        own["smooth"] / max(own["none"], 1e-9),
    )
    add("SSIM, smooth over none, difference", similar["smooth"] - similar["none"])
    add("PSNR, none, dB", ratio["none"])
    add("PSNR, global gain, dB", ratio["global"])


def _luminance(light: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("c,cyx->yx", XYZ_OF_SRGB[1].numpy(), np.clip(light, 1e-5, None)))


def _trace(setup: Setup, image: np.ndarray, target: np.ndarray, inside: np.ndarray, height: int) -> float:
    """Share of the variance of the high-passed log residual that the high-passed log reflectance explains. Residuals
    are from the picture that was wanted, as for SSIM, whatever the scale: beside a scaled target, which is nearly
    reached, little is left to explain, and the share of it states nothing."""
    white = sum(np.where(s, p.mixing, 0).sum(1) for p, s in zip(setup.projectors, setup.seen, strict=True))
    sigma = HIGH_PASS * height / 60
    high = lambda a: (a - ndimage.gaussian_filter(a, sigma, mode="nearest"))[inside]  # noqa: E731
    residual = high(np.log(_luminance(image)) - np.log(np.clip(_luminance(target), 1e-3, None)))
    surface = high(np.log(_luminance(np.asarray(white))))
    return float(np.corrcoef(residual, surface)[0, 1] ** 2)


def _ssim_exposed(image: np.ndarray, target: np.ndarray, inside: np.ndarray) -> float:
    """SSIM of the code after the exposure that fits best."""
    gain = float((image * target)[:, inside].sum() / (image**2)[:, inside].sum())
    similarity = require("skimage.metrics").structural_similarity
    _, full = similarity(code(gain * image), code(target), channel_axis=0, data_range=1.0, full=True)
    return float(full[:, inside].mean())
