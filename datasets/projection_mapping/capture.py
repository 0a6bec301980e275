"""Captures of a rendered scene, as a camera with noise, coding and 8 bits takes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml

from infield.datasets.projection_mapping.captures import LEVELS, PRIMARIES
from infield.datasets.projection_mapping.gray_code import patterns
from infield.datasets.projection_mapping.images import write_png
from infield.datasets.projection_mapping.renderer import Scene
from infield.physics.projection_mapping.camera import Camera


def capture_names(height: int, width: int, levels: tuple[int, ...] = LEVELS) -> dict[str, np.ndarray]:
    """Drives of each capture of one projector, 0 to 1, shape `(3, height, width)` or broadcast to it."""
    shape = (3, height, width)
    found = {"white": np.ones(shape), "black": np.zeros(shape)}
    for k, primary in enumerate(PRIMARIES):
        unit = np.zeros((3, 1, 1))
        unit[k] = 1
        found |= {f"{primary}_{level:03d}": np.broadcast_to(unit * level / 255, shape) for level in levels}
    for i, pattern in enumerate(patterns(height, width)):
        found[f"graycode_{i:02d}"] = np.broadcast_to(pattern.astype(float), shape)
    return found


def write_captures(
    folder: Path,
    scene: Scene,
    *,
    camera: Camera | None = None,
    frames: int = 1,
    seed: int = 0,
    geometry: bool = True,
    each: Callable[[], object] | None = None,
) -> None:
    """Write all captures of a scene, with `setup.yaml`.

    Arguments:
        folder: An existing one.
        scene: What is captured.
        camera: By default one of 8 bits, sRGB-coded, with 8000 electrons at full scale.
        frames: Of each capture.
        seed: Of the noise.
        geometry: Whether depth is written beside.
        each: Called after each capture.
    """
    camera = camera or Camera()
    generator = torch.Generator().manual_seed(seed)
    content: dict[str, object] = {
        "camera": {"coding": "srgb" if camera.srgb else "linear"},
        "projectors": [],
        "levels": list(LEVELS),
    }
    projectors: list[dict[str, object]] = []
    for p, pose in enumerate(scene.poses):
        name = f"projector_{p}"
        (folder / name).mkdir()
        projectors.append({"name": name, "width": pose.raster[1], "height": pose.raster[0]})
        for capture, drive in capture_names(*pose.raster).items():
            drives: list[np.ndarray | None] = [None] * len(scene.poses)
            drives[p] = np.asarray(drive)
            light = torch.from_numpy(scene.light(drives))
            for i in range(frames):
                codes = camera.expose(light, generator).numpy().transpose(1, 2, 0)
                suffix = f".{i}" if frames > 1 else ""
                write_png(folder / name / f"{capture}{suffix}.png", codes.astype(np.uint8))
            if each is not None:
                each()
    content["projectors"] = projectors
    if geometry and scene.indirect:
        np.save(folder / "depth.npy", scene.depth)
        content["geometry"] = {"depth": "depth.npy", "focal": float(scene.focal)}
    (folder / "setup.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
