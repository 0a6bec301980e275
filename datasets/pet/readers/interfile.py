"""Interfile 3.3 headers with their data: images (.hv) and sinograms (.hs), as STIR and Siemens write them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from infield.core.errors import InfieldError
from infield.datasets.pet.readers.common import readable
from infield.datasets.pet.readers.frames import FrameFile

KINDS = {"float": "f", "shortfloat": "f", "longfloat": "f", "signedinteger": "i", "unsignedinteger": "u"}


def read_header(path: Path) -> dict[str, Any]:
    """Keys in lower case without blanks around, `!` and `%`; lists in braces as lists.

    Raises:
        InfieldError: The file is no Interfile header.
    """
    with readable(path, "an Interfile header"):
        text = path.read_text(encoding="latin-1")
    if not re.match(r"\s*!?\s*INTERFILE\s*:=", text, re.IGNORECASE):
        raise InfieldError(where=path, found=f"'{text[:30].strip()!s}'", expected="'!INTERFILE :=' at its start")
    header: dict[str, Any] = {}
    for line in text.splitlines():
        key, separator, value = line.partition(":=")
        key = re.sub(r"\s*\[", "[", " ".join(key.strip().lstrip("!%").lower().split()))
        value = value.strip()
        if separator and key:
            braces = re.fullmatch(r"\{(.*)\}", value)
            header[key] = [part.strip() for part in braces[1].split(",")] if braces else value
    return header


def data_of(path: Path, header: dict[str, Any], count: int) -> np.ndarray:
    """The numbers of a header's data file, memory-mapped, flat.

    Raises:
        InfieldError: The file is missing or empty, its numbers are of an unknown kind, or there are too few.
    """
    data = path.parent / str(header.get("name of data file", ""))
    with readable(data, "the data of an Interfile header"):
        size = data.stat().st_size
    kind = KINDS.get(str(header.get("number format", "")).replace(" ", "").lower())
    width = str(header.get("number of bytes per pixel", ""))
    if kind is None or width not in ("1", "2", "4", "8"):
        raise InfieldError(where=path, found=f"number format '{header.get('number format')}' of {width} bytes",
                           expected="float, signed or unsigned integer of 1 to 8 bytes")  # fmt: skip
    order = ">" if str(header.get("imagedata byte order", "BIGENDIAN")).lower().startswith("big") else "<"
    offset = int(float(header.get("data offset in bytes[1]", header.get("data offset in bytes", 0)) or 0))
    needed = offset + count * int(width)
    if size < needed:
        raise InfieldError(where=data, found=f"{size} bytes", expected=f"{needed}, as {path.name} has it",
                           remedy="copy it again")  # fmt: skip
    return np.memmap(data, dtype=f"{order}{kind}{width}", mode="r", offset=offset, shape=(count,))


def open_interfile(path: Path, *, units: str | None = None) -> FrameFile:
    """Open an image of a patient who lies on the back, head first, as STIR has it.

    The order of the data is (z, y, x): x to the right of the gantry as seen from the bed, which is the patient's left,
    y downwards, z from head to feet. Without `first pixel offset` x and y are centred, z starts at the first plane. Of
    other positions of the patient, and of other programs, the affine of an exported NIfTI file decides.

    Raises:
        InfieldError: It is no image, or its data do not fit.
    """
    header = read_header(path)
    if str(header.get("pet data type", "")).lower() != "image":
        raise InfieldError(where=path, found=f"PET data type '{header.get('pet data type')}'", expected="Image",
                           remedy="sinograms become measurements: give a .hs file")  # fmt: skip
    with readable(path, "Interfile"):
        shape = tuple(int(header[f"matrix size[{k}]"]) for k in (3, 2, 1))
        spacing = [float(header[f"scaling factor (mm/pixel)[{k}]"]) for k in (1, 2, 3)]
        frames = int(header.get("number of time frames", 1))
        scales = [float(header.get(f"image scaling factor[{k + 1}]", 1) or 1) for k in range(frames)]
        middle = [-(n - 1) / 2 * s for n, s in zip(shape[:0:-1], spacing, strict=False)]
        offset = [float(header.get(f"first pixel offset (mm)[{k + 1}]", v)) for k, v in enumerate((*middle, 0.0))]
        durations = [header.get(f"image duration (sec)[{k + 1}]") for k in range(frames)]
        starts = [header.get(f"image relative start time (sec)[{k + 1}]") for k in range(frames)]
    count = int(np.prod(shape))
    data = data_of(path, header, frames * count)
    affine = np.diag([-spacing[0], -spacing[1], -spacing[2], 1.0])
    affine[:3, 3] = [-offset[0], -offset[1], -offset[2]]
    stored = header.get("quantification units")
    known = all(d not in (None, "", "0") for d in durations)
    timed = known and all(s not in (None, "") for s in starts)

    def read(k: int) -> np.ndarray:
        return scales[k] * np.asarray(data[k * count : (k + 1) * count], dtype=np.float64).reshape(shape).transpose(
            2, 1, 0
        )

    return FrameFile(path=path, format="Interfile", frames=frames, read=read, affine=affine,
                     units=units or (None if stored in (None, "", "1") else str(stored)),
                     starts=tuple(float(str(s)) for s in starts) if timed else None,
                     durations=tuple(float(str(d)) for d in durations) if known else None)  # fmt: skip
