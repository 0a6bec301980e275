"""Set-ups from noisy captures beside the truth, and the real Gray code where it is at hand."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import torch

from infield.datasets.projection_mapping.gray_code import decode, refine
from infield.datasets.projection_mapping.images import read_codes
from infield.datasets.projection_mapping.subpixel import refine_by_contrast
from infield.physics.projection_mapping.colour import decode as color_decode
from infield.physics.projection_mapping.extra import require
from infield.pipelines.bench.targets import TargetBench
from infield.pipelines.projection_mapping.bench.cases import calibrated, truth

SMOOTH = ("plane-mild-2", "curved-hard-3", "relief-mild-1")
BOARD = Path("projection") / "graycode_board"


def calibration(bench: TargetBench, name: str, height: int, quick: bool, seed: int) -> None:
    """One scene, from captures of one frame and of four."""
    right = truth(name, height)
    for frames in (1,) if quick else (1, 4):
        found = calibrated(name, height, frames, seed)
        case = f"{name}, {frames} frame{'s' if frames > 1 else ''}"
        off, responses, mixings, widths = [], [], [], []
        known = {p.name: p for p in right.projectors}
        for p in found.projectors:
            true = known[p.name]
            both = np.isfinite(p.warp).all(0) & np.isfinite(true.warp).all(0)
            off.append((p.warp - true.warp)[:, both])
            responses.append(np.abs(p.response - true.response).max())
            parts = (p.mixing - true.mixing)[:, :, both], true.mixing[:, :, both]
            mixings.append(np.linalg.norm(parts[0], axis=(0, 1)) / np.linalg.norm(parts[1], axis=(0, 1)))
            widths.append(abs(p.defocus - true.defocus))
        position = np.concatenate(off, 1)
        smooth = name in SMOOTH
        rms = float(np.sqrt((position**2).mean(1)).max())
        tail = float(np.quantile(np.abs(position), 0.99))
        seen = float((found.seen & right.seen).sum() / right.seen.sum())
        judge = partial(bench.judge, case, "calibrated")
        judge("warp, rms of the worse axis, px", rms, None, 0.15 if smooth else None)
        judge("warp, 99 %, px", tail, None, 0.3 if smooth else None)
        judge("response, largest error", max(responses), None, 0.005)
        judge("mixing, median error", float(np.median(np.concatenate(mixings))), None, {1: 0.025, 4: 0.013}[frames])
        judge("defocus, largest error, px", max(widths))
        judge("seen of what is in view", seen)


def real(bench: TargetBench, seed: int) -> None:
    """The decoder beside OpenCV's on captures of a chessboard."""
    folder = Path(os.environ.get("INFIELD_DATA", "")) / BOARD
    case = "real Gray code (kamino410)"
    if not folder.is_dir():
        bench.add(case, "decoder", "absent", "its captures are not below INFIELD_DATA")
        return
    cv2 = require("cv2")
    images = np.stack([read_codes(folder / f"graycode_{i:02d}.png") for i in range(42)])
    found = decode(images[:40], images[40], images[41], 768, 1024)
    code = cv2.structured_light.GrayCodePattern.create(1024, 768)
    code.setWhiteThreshold(5)
    rng = np.random.default_rng(seed)
    y, x = rng.integers(0, images.shape[1], 3000), rng.integers(0, images.shape[2], 3000)
    ours = decode(images[:40, y, x][:, None], np.full((1, 3000), 255), np.zeros((1, 3000)), 768, 1024)
    equal = 0
    for i in range(3000):
        wrong, position = code.getProjPixel(list(images[:40]), int(x[i]), int(y[i]))
        same = position == (int(ours.column[0, i]), int(ours.row[0, i]))
        equal += bool(wrong) != bool(ours.valid[0, i]) and (bool(wrong) or same)
    bench.judge(case, "decoder", "pixels equal to OpenCV's, of 3000", equal, 3000, None)
    refined = refine(found)
    light = color_decode(torch.from_numpy(images / 255.0)).numpy()
    lit = np.maximum(light[0:40:2] + light[1:40:2] - 2 * light[41], 1e-4)
    contrast = np.clip((light[0:40:2] - light[1:40:2]) / lit, -1.5, 1.5).astype(np.float32)
    fine = refine_by_contrast(images[:40].astype(float), found.lit, contrast, 768, 1024)
    rows, columns = np.nonzero(found.valid)
    on = np.stack([found.column, found.row], -1)[found.valid].astype(float)
    H, _ = cv2.findHomography(np.stack([columns, rows], 1).astype(float), on, cv2.RANSAC, 3.0)
    for method, warp, at in (
        ("as decoded", np.stack([found.row, found.column]), found.valid),
        ("planes through what is decoded", refined.warp, np.isfinite(refined.warp).all(0)),
        ("between pixels by contrast", fine.warp, np.isfinite(fine.warp).all(0)),
    ):
        rows, columns = np.nonzero(at)
        z = H @ np.stack([columns, rows, np.ones_like(rows)])
        rms = np.sqrt(((z[:2] / z[2] - np.stack([warp[1], warp[0]])[:, at]) ** 2).mean(1)).max()
        bench.judge(case, method, "residual of the plane, worse axis, px", float(rms), None, 0.35)
