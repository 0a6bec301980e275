"""A set-up's warps for other programs: an MPCDI archive, or UV maps of each projector.

*MPCDI* (VESA, Multiple Projection Common Data Interchange, version 1.0; its text was not at hand: names of elements are
those that its reference library reads), profile 2d: a zip with `mpcdi.xml`, for each projector a PFM of its pixels'
positions in the picture and a PNG of blend weights.

*UV maps*: for each projector pixel the position (u to the right, v down) in the camera's picture, both 0 to 1, pixel
centres at (index + 1/2) / size; an EXR of channels R = u, G = v and B = the blend weight (half 0 where nothing is
seen), rows from the top, or a TIFF of the same three in 16 bits, 65535 being 1.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from scipy import interpolate

from infield.core.errors import InfieldError
from infield.physics.projection_mapping.extra import require
from infield.physics.projection_mapping.setup import Setup

GAMMA = 2.2
"""Of the blend weights in an MPCDI archive."""
DATE = "2013-01-01 00:00:00"
"""In every archive, so that the same set-up gives the same bytes."""
MAP_SUFFIXES = (".exr", ".tif", ".tiff")


def inverse_warp(setup: Setup, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of a projector lands in the camera's picture, and its share there.

    Arguments:
        setup: The set-up.
        p: Which projector.

    Returns:
        (u, v), shape `(2, *raster)`, 0 to 1, NaN where the camera does not see the pixel; and the share of the light,
        0 to 1, shape `raster`, that `setup.feather` gives it, 0 there.
    """
    projector, seen = setup.projectors[p], setup.seen[p]
    height, width = setup.shape
    if not seen.any():
        return np.full((2, *projector.raster), np.nan), np.zeros(projector.raster)
    y, x = np.nonzero(seen)
    weights = setup.feather() ** 2
    share = (weights / np.maximum(weights.sum(1, keepdims=True), 1e-12))[seen[setup.covered], p]
    values = np.stack([(x + 0.5) / width, (y + 0.5) / height, share], 1)
    points = projector.warp[:, seen].T
    found = interpolate.LinearNDInterpolator(points, values)
    pixels = np.stack(np.meshgrid(*(np.arange(n) for n in projector.raster), indexing="ij"), -1)
    image = found(pixels.reshape(-1, 2)).reshape(*projector.raster, 3)
    return image[..., :2].transpose(2, 0, 1), np.nan_to_num(image[..., 2])


def write_mpcdi(path: Path, setup: Setup) -> None:
    """Write the archive; pixels that land nowhere are at (-1, -1) with a blend of 0."""
    root = ElementTree.Element("MPCDI", profile="2d", geometry="1", level="1", version="1.0", date=DATE)
    display, files = ElementTree.SubElement(root, "display"), ElementTree.SubElement(root, "files")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for p, projector in enumerate(setup.projectors):
            uv, share = inverse_warp(setup, p)
            size = {"Xresolution": str(projector.raster[1]), "Yresolution": str(projector.raster[0])}
            buffer = ElementTree.SubElement(display, "buffer", {"id": projector.name, **size})
            whole = {"x": "0.0", "y": "0.0", "xsize": "1.0", "ysize": "1.0"}
            ElementTree.SubElement(buffer, "region", {"id": projector.name, **size, **whole})
            fileset = ElementTree.SubElement(files, "fileset", {"region": projector.name})
            _element(fileset, "geometryWarpFile", path=f"{projector.name}.pfm", interpolation="linear")
            _element(
                fileset, "alphaMap",
                path=f"{projector.name}.png", componentDepth="1", bitDepth="16", gammaEmbedded=f"{GAMMA}",
            )  # fmt: skip
            _add(archive, f"{projector.name}.pfm", pfm(np.nan_to_num(uv, nan=-1.0)))
            _add(archive, f"{projector.name}.png", _png(share ** (1 / GAMMA)))
        ElementTree.indent(root)
        _add(archive, "mpcdi.xml", ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def write_uv_maps(folder: Path, setup: Setup, suffix: str) -> None:
    """Write `NAME_uv` for each projector as EXR or TIFF.

    Raises:
        InfieldError: Another format is asked for.
    """
    if suffix not in MAP_SUFFIXES:
        raise InfieldError(where="UV map", found=suffix, expected=", ".join(MAP_SUFFIXES))
    for p, projector in enumerate(setup.projectors):
        uv, share = inverse_warp(setup, p)
        image = np.ascontiguousarray(np.nan_to_num(np.stack([*uv, share], -1)).astype(np.float32))
        path = folder / f"{projector.name}_uv{suffix}"
        if suffix == ".exr":
            header = {"compression": require("OpenEXR").ZIP_COMPRESSION, "type": require("OpenEXR").scanlineimage}
            require("OpenEXR").File(header, {"RGB": image}).write(str(path))
        else:
            require("tifffile").imwrite(path, np.round(65535 * image.clip(0, 1)).astype(np.uint16), photometric="rgb")


def pfm(uv: np.ndarray) -> bytes:
    """A Portable Float Map of three channels (u, v, 0), little-endian, rows from the bottom to the top."""
    height, width = uv.shape[1:]
    values = np.stack([*uv, np.zeros_like(uv[0])], -1).astype("<f4")
    return f"PF\n{width} {height}\n-1.0\n".encode() + values[::-1].tobytes()


def _element(parent: ElementTree.Element, name: str, **children: str) -> None:
    element = ElementTree.SubElement(parent, name)
    for child, text in children.items():
        ElementTree.SubElement(element, child).text = text


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, (2013, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, data)


def _png(image: np.ndarray) -> bytes:
    _, data = require("cv2").imencode(".png", np.round(65535 * image.clip(0, 1)).astype(np.uint16))
    return bytes(data.tobytes())
