"""A Cartesian scan as an MRD header (XML) describes it; elements that are missing are taken as is the custom."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from infield.core.errors import InfieldError


@dataclass(frozen=True, kw_only=True)
class Header:
    """Of the first encoding.

    Arguments:
        nx: Samples of a whole readout.
        ny: Lines of a whole phase encoding.
        recon_x: Points of the image along the readout, after oversampling is taken off.
        voxel: Size of a point along y and x, mm; None if the header lacks it.
        centre: Counter of the line at ky = 0.
        bandwidth_ratio: Noise bandwidth of the receiver over the sampling bandwidth.
        trajectory: In lower case.
    """

    nx: int
    ny: int
    recon_x: int
    voxel: tuple[float, float] | None
    centre: int
    bandwidth_ratio: float
    trajectory: str


def read_header(path: Path, text: bytes | str) -> Header:
    """Read it.

    Arguments:
        path: The file, for messages.
        text: The XML.

    Raises:
        InfieldError: It is no XML, or gives no size of k-space.
    """

    def refuse(reason: str) -> InfieldError:
        return InfieldError(where=f"{path}: 'xml'", found=f"no header of an MRD file ({reason})", expected="one")

    raw = (text.encode() if isinstance(text, str) else bytes(text)).strip(b"\0 \r\n\t\xef\xbb\xbf")
    try:
        raw.decode()
    except UnicodeDecodeError:  # names in the alphabet of Windows under a declaration of UTF-8, or none
        raw = re.sub(rb"^<\?xml[^>]*\?>", b"", raw).decode("cp1252", "replace").encode()
    try:
        root = ElementTree.fromstring(raw)
    except (ElementTree.ParseError, ValueError) as error:
        raise refuse(" ".join(str(error).split())[:200]) from error

    def word(*names: str) -> str | None:
        found = root.find("/".join(f"{{*}}{name}" for name in names))
        return None if found is None or found.text is None else found.text.strip()

    def number(*names: str) -> float | None:
        found = word(*names)
        try:
            return None if not found else float(found)
        except ValueError:
            raise refuse(f"{names[-1]} {found!r}, expected a number") from None

    sizes = [number("encoding", "encodedSpace", "matrixSize", axis) for axis in "xy"]
    if not all(sizes):
        raise refuse("encodedSpace has no matrixSize")
    nx, ny = (int(n) for n in sizes if n)
    extent = [number("encoding", "encodedSpace", "fieldOfView_mm", axis) or 0.0 for axis in "xy"]
    shown = number("encoding", "reconSpace", "fieldOfView_mm", "x") or 0.0
    points = number("encoding", "reconSpace", "matrixSize", "x")
    if extent[0] > 0 and shown > 0:  # a coarser image of the same field of view is no smaller one
        recon_x = min(round(nx * shown / extent[0]), nx)
    else:
        recon_x = nx if not points else int(points)
    centre = number("encoding", "encodingLimits", "kspace_encoding_step_1", "center")
    ratio = number("acquisitionSystemInformation", "relativeReceiverNoiseBandwidth")
    return Header(
        nx=nx,
        ny=ny,
        recon_x=recon_x,
        voxel=(extent[1] / ny, extent[0] / nx) if min(extent) > 0 else None,
        centre=ny // 2 if centre is None else int(centre),
        bandwidth_ratio=1.0 if not ratio else ratio,
        trajectory=(word("encoding", "trajectory") or "cartesian").lower(),
    )
