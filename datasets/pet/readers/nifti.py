"""NIfTI images with BIDS sidecars, by nibabel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from infield.core.errors import InfieldError
from infield.datasets.pet.image import MNI, MNI_CODE
from infield.datasets.pet.readers.common import needs, readable
from infield.datasets.pet.readers.frames import FrameFile
from infield.datasets.pet.sidecar import check_sidecar, decay_factors, read_sidecar

MILLIMETRES = {"unknown": 1.0, "mm": 1.0, "meter": 1e3, "micron": 1e-3}
"""Per unit of space of a header."""


def open_nifti(path: Path, *, units: str | None = None) -> FrameFile:
    """Open an image; with `units` named, without a sidecar.

    Raises:
        InfieldError: The file is no NIfTI image, or its sidecar is incomplete.
    """
    nibabel = needs("nibabel")
    with readable(path, "NIfTI"):
        image = nibabel.load(path)
        if len(image.shape) not in (3, 4):
            raise InfieldError(where=path, found=f"{len(image.shape)} axes", expected="3, or 4 with frames")
        frames = image.shape[3] if len(image.shape) == 4 else 1
        header = image.header
        if isinstance(header, nibabel.Nifti1Header) and not (header["sform_code"] or header["qform_code"]):
            raise InfieldError(
                where=path,
                found="sform_code 0 and qform_code 0: no orientation, so that left and right are not known",
                expected="an affine",
                remedy="copy that of the image it was made from, e.g. with nilearn.image.new_img_like",
            )
        affine = image.affine.astype(float)
        if isinstance(header, nibabel.Nifti1Header):
            affine[:3] *= MILLIMETRES[header.get_xyzt_units()[0]]
    facts: dict[str, Any] = {}
    starts = durations = decay = None
    if units is None:
        facts = dict(read_sidecar(path))
        try:
            check_sidecar(facts, frames)
            decay = decay_factors(facts)
        except InfieldError as error:
            raise error.within(path) from error
        units = facts["Units"]
        if decay is not None:
            facts |= {"ImageDecayCorrected": True, "decay": "corrected here, frame by frame, by its integral"}
        starts, durations = tuple(facts["FrameTimesStart"]), tuple(facts["FrameDuration"])

    if int(header["sform_code"]) == MNI_CODE or f"_space-{MNI}" in path.name:
        facts["space"] = MNI

    def read(k: int) -> np.ndarray:
        with readable(path, "NIfTI"):
            return np.asarray(image.dataobj[..., k] if len(image.shape) == 4 else image.dataobj, dtype=np.float64)

    return FrameFile(path=path, format="NIfTI", frames=frames, read=read, affine=affine,
                     units=units, starts=starts, durations=durations, decay=decay, facts=facts)  # fmt: skip
