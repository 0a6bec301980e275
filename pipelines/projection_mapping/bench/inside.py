"""Targets that the projectors can show, but for at most 5 % of the pixels: the joint solve beside its peers."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from infield.datasets.projection_mapping.renderer import Scene
from infield.physics.projection_mapping.colour import encode
from infield.physics.projection_mapping.compensate import pixelwise_light
from infield.physics.projection_mapping.joint import solve_jointly
from infield.physics.projection_mapping.setup import Setup
from infield.pipelines.bench.targets import TargetBench
from infield.pipelines.projection_mapping.bench.cases import (
    CORNER,
    calibrated,
    delta_e,
    inside_target,
    judged,
    least_squares_then_clip,
    linear_then_clip,
    paired,
    pictures,
    psnr,
    scene,
    show,
    truth,
)

ITERATIONS = 60
ADAM_STEPS = (0.003, 0.01, 0.03)
ADAM_PICTURES = 3


def joint(setup: Setup, target: np.ndarray, iterations: int = ITERATIONS) -> torch.Tensor:
    """Emitted light of the joint solve, in the sRGB code."""
    start = pixelwise_light(setup, target, "coded")
    return solve_jointly(
        setup.operator, torch.from_numpy(setup.background), torch.from_numpy(target), torch.from_numpy(setup.covered),
        start, iterations=iterations,
    )  # fmt: skip


def projected_adam(setup: Setup, target: np.ndarray, step: float, iterations: int = ITERATIONS) -> torch.Tensor:
    """Peer: what differentiable renderers do, from the same start and with as many operator calls."""
    s = pixelwise_light(setup, target, "coded").float().clone().requires_grad_()
    adam = torch.optim.Adam([s], lr=step)
    background, wanted = (torch.from_numpy(a).float() for a in (setup.background, target))
    covered = torch.from_numpy(setup.covered)
    for _ in range(iterations):
        adam.zero_grad()
        error = (encode(setup.operator.A(s[None])[0] + background) - encode(wanted))[:, covered]
        (error**2).sum().backward()
        adam.step()
        with torch.no_grad():
            s.clamp_(0, 1)
    return s.detach()


class Scores(dict[str, tuple[float, float]]):
    """PSNR and Delta E of each method for one target.

    Arguments:
        rendered: The scene.
        target: Linear light, shape `(3, y, x)`.
        inner: Pixels that are compared.
    """

    def __init__(self, rendered: Scene, target: np.ndarray, inner: np.ndarray) -> None:
        super().__init__()
        self.rendered, self.target, self.inner = rendered, target, inner

    def add(self, method: str, setup: Setup, light: torch.Tensor) -> None:
        """Render what emitted light shows, and keep its scores."""
        image = show(self.rendered, setup, light)
        self[method] = psnr(image, self.target, self.inner), delta_e(image, self.target, self.inner)


def inside(bench: TargetBench, name: str, height: int, count: int | None, seed: int) -> None:
    """One scene, `count` pictures."""
    rendered, right = scene(name, height), truth(name, height)
    shown = pictures(right.shape, count)
    found = calibrated(name, height, 1, seed)
    inner = judged(right) & judged(found)
    gains: dict[str, list[float]] = {}
    for i, picture in enumerate(shown.values()):
        target = inside_target(right, picture)
        scores = Scores(rendered, target, inner)
        score = scores.add
        none = torch.from_numpy(np.broadcast_to(target.mean(), (3, *right.grid.shape)).copy())
        score("none", right, none.clamp(0, 1))
        for kind, setup in (("true", right), ("calibrated", found)):
            score(f"linear, {kind}", setup, linear_then_clip(setup, target))
            score(f"least squares, {kind}", setup, least_squares_then_clip(setup, target))
            score(f"pixelwise, {kind}", setup, pixelwise_light(setup, target, "coded"))
            began = time.process_time()
            light = joint(setup, target)
            seconds = time.process_time() - began
            score(f"joint, {kind}", setup, light)
            gains.setdefault(f"CPU seconds, {kind}", []).append(seconds)
            gains.setdefault(f"joint over linear, {kind}, dB", []).append(
                scores[f"joint, {kind}"][0] - scores[f"linear, {kind}"][0]
            )
            gains.setdefault(f"Delta E, joint over linear, {kind}", []).append(
                scores[f"joint, {kind}"][1] / scores[f"linear, {kind}"][1]
            )
        gains.setdefault("true over calibrated, joint, dB", []).append(
            scores["joint, true"][0] - scores["joint, calibrated"][0]
        )
        if name == CORNER:
            flat = replace(right, form_factors=None, reflectance=None)
            score("joint, no geometry", flat, joint(flat, target))
            gains.setdefault("joint without geometry over linear, true, dB", []).append(
                scores["joint, no geometry"][0] - scores["linear, true"][0]
            )
        if i < ADAM_PICTURES:
            for step in ADAM_STEPS:
                score(f"Adam {step}", right, projected_adam(right, target, step))
            best = max(scores[f"Adam {step}"][0] for step in ADAM_STEPS)
            gains.setdefault("joint over the best Adam, dB", []).append(scores["joint, true"][0] - best)
        for method, values in scores.items():
            gains.setdefault(f"PSNR/{method}", []).append(values[0])
            gains.setdefault(f"dE/{method}", []).append(values[1])
    _report(bench, name, rendered.indirect_share(), gains)


def _report(bench: TargetBench, name: str, share: float, gains: dict[str, list[float]]) -> None:
    bench.judge(name, "scene", "indirect light", share)
    for key, values in gains.items():
        kind, slash, method = key.partition("/")
        if slash:
            bench.judge(name, method, {"PSNR": "PSNR, dB", "dE": "Delta E 2000"}[kind], float(np.mean(values)))
    corner = name == CORNER
    targets = {
        "joint over linear, true, dB": (6.0 if corner else 3.0, None),
        "joint over linear, calibrated, dB": (6.0 if corner else 2.0, None),
        "Delta E, joint over linear, true": (None, 0.75),
        "Delta E, joint over linear, calibrated": (None, None if corner else 0.75),
        "joint over the best Adam, dB": (-0.2, None),
        "true over calibrated, joint, dB": (None, 3.0),
    }
    for key, values in gains.items():
        if "/" in key:
            continue
        mean, error = paired(values)
        bench.judge(name, "paired", key, mean, *targets.get(key, (None, None)), error=error)
