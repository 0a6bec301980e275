r"""Folders of captures: what a camera saw of each projector.

A folder holds `setup.yaml` and a folder for each projector:

    camera: {coding: srgb}                      # srgb or linear; optional to_srgb: 3 x 3
    projectors:
      - {name: projector_0, width: 200, height: 150}
    levels: [32, 64, 96, 128, 160, 192, 224, 255]
    geometry: {depth: depth.npy, focal: 229}    # optional

    projector_0/{white,black}.png, {red,green,blue}_032.png ..., graycode_00.png ...

Several frames of one capture have a number, `white.0.png`, `white.1.png`; their mean is taken. All other projectors are
black meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from infield.core.errors import InfieldError
from infield.datasets.projection_mapping.gray_code import pattern_count
from infield.datasets.projection_mapping.images import read_codes
from infield.physics.projection_mapping.colour import decode

PRIMARIES = ("red", "green", "blue")
LEVELS = (28, 57, 85, 113, 142, 170, 198, 227, 255)
"""Nine levels of a ramp, equally spaced."""


@dataclass(frozen=True)
class ProjectorCaptures:
    """Captures of one projector.

    Arguments:
        name, width, height: As `setup.yaml` states them.
        folder: Where they are.
        levels: Of the ramps.
        size: Height and width that all captures have; None where that is not known yet.
    """

    name: str
    width: int
    height: int
    folder: Path
    levels: tuple[int, ...]
    size: tuple[int, int] | None = None

    def codes(self, capture: str) -> np.ndarray:
        """Mean codes of all frames of a capture as a fraction of full scale, shape `(3, y, x)`.

        Raises:
            InfieldError: It is missing, or its frames differ in size.
        """
        frames = sorted(self.folder.glob(f"{capture}.*.png")) or [self.folder / f"{capture}.png"]
        if not frames[0].is_file():
            raise InfieldError(
                where=self.folder, found=f"no {capture}.png of projector '{self.name}'", expected="that capture"
            )
        images = [_channels_first(read_codes(path), path) for path in frames]
        if len({image.shape for image in images}) > 1:
            raise InfieldError(where=frames[0], found="frames of different sizes", expected="one size")
        height, width = images[0].shape[-2:]
        if self.size not in (None, (height, width)):
            raise InfieldError(
                where=frames[0],
                found=f"{width} x {height} pixels",
                expected=f"{self.size[1]} x {self.size[0]}, as the first white capture has",  # type: ignore[index]
            )
        return np.asarray(np.mean(images, 0))

    def check_gray_codes(self) -> int:
        """The number of images of the Gray code.

        Raises:
            InfieldError: It is not that of a projector of this size.
        """
        count = pattern_count(self.height, self.width)
        found = len({path.name.split(".")[0] for path in self.folder.glob("graycode_*.png")})
        if found != count:
            raise InfieldError(
                where=self.folder,
                found=f"{found} images of a Gray code",
                expected=f"{count} for a projector of {self.width} x {self.height}",
            )
        return count


@dataclass(frozen=True)
class Captures:
    """A folder of captures.

    Arguments:
        projectors: Those of the folder.
        srgb: Whether codes are sRGB; else they are proportional to light.
        to_srgb: Camera channels to linear sRGB; None where it is not given.
        geometry: Entry of `setup.yaml`, with `depth` read.
        shape: Height and width of the images.
    """

    projectors: tuple[ProjectorCaptures, ...]
    srgb: bool
    to_srgb: np.ndarray | None
    shape: tuple[int, int]
    geometry: Mapping[str, Any] = field(default_factory=dict)

    def light(self, codes: np.ndarray) -> np.ndarray:
        """Linear light of codes, shape of them."""
        return decode(torch.from_numpy(codes)).numpy() if self.srgb else codes


def open_captures(folder: Path) -> Captures:
    """Read `setup.yaml` and look for what it names.

    Raises:
        InfieldError: It is missing or incomplete.
    """
    path = folder / "setup.yaml"
    if not path.is_file():
        raise InfieldError(where=folder, found="no setup.yaml", expected="a folder of captures")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InfieldError(
            where=path, found=f"no YAML ({str(error).splitlines()[0]})", expected="a description"
        ) from None
    entries = content.get("projectors") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InfieldError(where=path, found="no projectors", expected="a list with name, width and height")
    camera = content.get("camera") or {}
    coding = camera.get("coding", "srgb")
    if coding not in ("srgb", "linear"):
        raise InfieldError(where=path, found=f"coding '{coding}'", expected="srgb or linear")
    levels = tuple(content.get("levels") or LEVELS)
    if len(levels) < 3 or list(levels) != sorted(set(levels)) or levels[-1] != 255 or levels[0] <= 0:
        raise InfieldError(where=path, found=f"levels {list(levels)}", expected="at least 3, rising, the last 255")
    projectors: list[ProjectorCaptures] = []
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict) or not {"name", "width", "height"} <= set(entry):
            raise InfieldError(where=path, found=f"projector {i}: {entry!r}", expected="name, width and height")
        name = str(entry["name"])
        if Path(name).name != name or name in (p.name for p in projectors):
            raise InfieldError(
                where=path, found=f"projector {i}: name '{name}'", expected="the name of a folder, another for each"
            )
        where = folder / name
        if not where.is_dir():
            raise InfieldError(where=where, found="no folder", expected=f"captures of projector '{entry['name']}'")
        projectors.append(
            ProjectorCaptures(str(entry["name"]), int(entry["width"]), int(entry["height"]), where, levels)
        )
    matrix = camera.get("to_srgb")
    to_srgb = None if matrix is None else np.asarray(matrix, dtype=np.float64)
    if to_srgb is not None and (to_srgb.shape != (3, 3) or abs(np.linalg.det(to_srgb)) < 1e-6):
        raise InfieldError(where=path, found=f"to_srgb {matrix}", expected="an invertible 3 x 3 matrix")
    shape = projectors[0].codes("white").shape[-2:]
    projectors = [replace(p, size=(shape[0], shape[1])) for p in projectors]
    geometry = dict(content.get("geometry") or {})
    if geometry:
        geometry["depth"] = _depth(folder / str(geometry.get("depth")), shape)
    return Captures(tuple(projectors), coding == "srgb", to_srgb, (shape[0], shape[1]), geometry)


def _depth(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    if path.suffix == ".exr" and path.is_file():
        import OpenEXR

        with OpenEXR.File(str(path)) as file:
            depth = np.asarray(next(iter(file.channels().values())).pixels, np.float64)
            depth = depth[..., 0] if depth.ndim == 3 else depth
    elif path.is_file():
        depth = np.load(path)
    else:
        raise InfieldError(where=path, found="nothing there", expected="depth as .npy or .exr")
    if depth.shape != tuple(shape) or not np.isfinite(depth).all():
        raise InfieldError(where=path, found=f"shape {depth.shape}", expected=f"finite depths of {tuple(shape)}")
    return depth


def _channels_first(codes: np.ndarray, path: Path) -> np.ndarray:
    if codes.dtype not in (np.uint8, np.uint16):
        raise InfieldError(where=path, found=f"values of type {codes.dtype}", expected="8 or 16 bits")
    values = codes.astype(np.float64) / np.iinfo(codes.dtype).max
    return np.stack([values] * 3) if values.ndim == 2 else values[..., :3].transpose(2, 0, 1)
