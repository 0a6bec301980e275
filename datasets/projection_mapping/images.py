"""Pictures in files: any that OpenCV reads, 8 or 16 bits, grey, colour or with alpha; PNG written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from infield.core.errors import InfieldError
from infield.physics.projection_mapping.colour import decode, encode
from infield.physics.projection_mapping.extra import require

ASPECT_RTOL = 0.02
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.flipud(np.rot90(a)),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.fliplr(np.rot90(a)),
    8: np.rot90,
}
"""What brings a picture of an EXIF orientation upright."""


@dataclass(frozen=True)
class Picture:
    """A picture.

    Arguments:
        code: sRGB-coded, 0 to 1, shape `(3, y, x)`.
        notes: Choices made in reading it.
    """

    code: np.ndarray
    notes: tuple[str, ...] = ()


def read_codes(path: Path) -> np.ndarray:
    """Codes of an image as they are stored, `(y, x)` or `(y, x, channels)` in the order red, green, blue, alpha.

    Raises:
        InfieldError: There is no such file, or it is no image.
    """
    if not path.is_file():
        raise InfieldError(where=path, found="nothing there", expected="an image", remedy="check the path")
    cv2 = require("cv2")
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise InfieldError(where=path, found="no image that OpenCV reads", expected="PNG, TIFF, JPEG, ...")
    if image.ndim == 3:
        image = image[..., [2, 1, 0, *range(3, image.shape[2])]]
    return np.asarray(image)


def read_picture(path: Path) -> Picture:
    """A picture as sRGB codes: upright as its EXIF orientation states, alpha over black, grey in all channels, 16 bits
    scaled, colour profiles ignored.

    Raises:
        InfieldError: As `read_codes`, or its values are of another type than 8 or 16 bits.
    """
    codes, notes = read_codes(path), []
    if codes.dtype not in (np.uint8, np.uint16):
        raise InfieldError(where=path, found=f"values of type {codes.dtype}", expected="8 or 16 bits")
    if codes.dtype == np.uint16:
        notes.append("16 bits")
    orientation = _orientation(path)
    if orientation in UPRIGHT:
        codes = np.ascontiguousarray(UPRIGHT[orientation](codes))
        notes.append("turned upright as its EXIF orientation states")
    values = codes.astype(np.float64) / np.iinfo(codes.dtype).max
    if values.ndim == 2:
        values = values[..., None]
    if values.shape[-1] in (2, 4):
        alpha, values = values[..., -1:], values[..., :-1]
        if (alpha < 1).any():
            values = _encoded(alpha * _light(values))
            notes.append("alpha over black")
    if values.shape[-1] == 1:
        values = np.repeat(values, 3, -1)
        notes.append("grey in all channels")
    if _has_profile(path):
        notes.append("its colour profile is ignored, values are read as sRGB")
    return Picture(values.transpose(2, 0, 1), tuple(notes))


def fit_to(picture: Picture, shape: tuple[int, int]) -> Picture:
    """The picture at another size, cropped about its centre to the aspect; resampled by area, in linear light."""
    cv2 = require("cv2")
    (height, width), code, notes = picture.code.shape[1:], picture.code, list(picture.notes)
    aspect = shape[1] / shape[0]
    if abs(width / height / aspect - 1) > ASPECT_RTOL:
        h, w = min(height, round(width / aspect)), min(width, round(height * aspect))
        top, left = (height - h) // 2, (width - w) // 2
        code = code[:, top : top + h, left : left + w]
        notes.append(f"cropped from {width} x {height} to {w} x {h}, the aspect of the camera")
    if code.shape[1:] != shape:
        shrink = code.shape[1] >= shape[0]
        how = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
        light = cv2.resize(
            np.ascontiguousarray(_light(code).transpose(1, 2, 0)), (shape[1], shape[0]), interpolation=how
        )
        code = _encoded(light.transpose(2, 0, 1))
    return Picture(code, tuple(notes))


def eight_bits(code: np.ndarray) -> np.ndarray:
    """A picture `(3, y, x)` of values from 0 to 1, others clipped, as uint8 `(y, x, 3)`."""
    return np.round(255 * np.clip(code, 0, 1)).astype(np.uint8).transpose(1, 2, 0)


def write_png(path: Path, codes: np.ndarray) -> None:
    """Write `(y, x)` or `(y, x, 3)`, 8 or 16 bits."""
    cv2 = require("cv2")
    order = codes[..., ::-1] if codes.ndim == 3 else codes
    done, content = cv2.imencode(".png", np.ascontiguousarray(order))
    if not done:
        raise InfieldError(where=path, found="a picture that cannot be coded", expected="8 or 16 bits")
    path.write_bytes(content.tobytes())


def _light(code: np.ndarray) -> np.ndarray:
    return np.asarray(decode(torch.from_numpy(np.ascontiguousarray(code))).numpy())


def _encoded(light: np.ndarray) -> np.ndarray:
    return np.asarray(encode(torch.from_numpy(np.ascontiguousarray(light))).numpy())


def _orientation(path: Path) -> int:
    """EXIF's tag 274, 1 where there is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return int(image.getexif().get(274, 1))
    except (UnidentifiedImageError, OSError, ValueError, TypeError, SyntaxError):
        return 1


def _has_profile(path: Path) -> bool:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return bool(image.info.get("icc_profile"))
    except (UnidentifiedImageError, OSError):
        return False
