"""A sequence of pictures through one set-up."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.projection_mapping.images import fit_to, read_picture, write_png
from infield.physics.projection_mapping.colour import decode
from infield.physics.projection_mapping.compensate import compensate
from infield.physics.projection_mapping.setup import Setup
from infield.pipelines.projection_mapping.compensation import exposure_or_default, report

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def project_frames(
    setup: Setup, frames: Path, folder: Path, *, exposure: float | None = None, **choices: Any
) -> dict[str, Any]:
    """Compensate for each picture of a folder, in the order of names, and write the projectors' pictures.

    Each projector has a folder of its own, and its pictures have the names of the frames. Exposure is one for all.

    Arguments:
        setup: The set-up.
        frames: A folder of pictures.
        folder: Where the results go; it exists.
        exposure: Camera light of the frames' white.
        choices: As of `compensate`.

    Returns:
        The report, in JSON types; frames a second are wall time, reading and writing included.

    Raises:
        InfieldError: There is no picture, two have the same name, or one is no image.
    """
    found = [p for p in sorted(frames.iterdir()) if p.suffix.lower() in SUFFIXES] if frames.is_dir() else []
    if not found:
        raise InfieldError(where=frames, found="no pictures", expected=f"a folder of {', '.join(SUFFIXES)}")
    stems = [path.stem for path in found]
    if len(set(stems)) < len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise InfieldError(where=frames, found=f"two pictures named {twice}", expected="one of each name")
    exposure = exposure_or_default(setup, exposure)
    from_srgb = np.linalg.inv(setup.to_srgb)
    for projector in setup.projectors:
        (folder / projector.name).mkdir()
    rows, notes = [], set()
    began = time.perf_counter()
    for path in found:
        picture = fit_to(read_picture(path), setup.shape)
        notes |= set(picture.notes)
        light = exposure * decode(torch.from_numpy(picture.code)).numpy()
        result = compensate(setup, np.einsum("ij,jyx->iyx", from_srgb, light), **choices)
        for projector, codes in zip(setup.projectors, result.codes, strict=True):
            write_png(folder / projector.name / f"{path.stem}.png", codes)
        figures = report(setup, result, exposure)
        rows.append({"frame": path.name, **{k: figures[k] for k in ("outside", "psnr", "delta_e_2000")}})
    seconds = time.perf_counter() - began
    facts = {
        "frames": len(found),
        "frames_per_second": len(found) / seconds,
        "outside": float(np.mean([row["outside"] for row in rows])),
        "psnr": float(np.mean([row["psnr"] for row in rows])),
        "largest_exposure": figures["largest_exposure"],
        "exposure": exposure,
        "colour": setup.colour,
        "notes": sorted(notes),
        "choices": dict(choices),
    }
    (folder / "report.json").write_text(to_json({**facts, "each": rows}, indent=1) + "\n", encoding="utf-8")
    return facts
