"""ECAT 7 images by nibabel.ecat; `nibabel.load` refuses them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from infield.datasets.pet.readers.common import needs, readable
from infield.datasets.pet.readers.frames import FrameFile


def open_ecat(path: Path, *, units: str | None = None) -> FrameFile:
    """Open an image; units and times are those of its headers.

    Raises:
        InfieldError: The file is no ECAT 7 image.
    """
    ecat, nibabel = needs("nibabel.ecat"), needs("nibabel")
    with readable(path, "ECAT 7"), nibabel.openers.ImageOpener(str(path)) as file:
        holder = nibabel.FileHolder(str(path), file)
        image = ecat.EcatImage.from_file_map({"header": holder, "image": holder})
        headers = image.get_subheaders().subheaders
        starts = tuple(float(h["frame_start_time"]) / 1000 for h in headers)
        durations = tuple(float(h["frame_duration"]) / 1000 for h in headers)
        corrections = [float(h["decay_corr_fctr"]) for h in headers]
        header = image.get_header() if hasattr(image, "get_header") else image.header
        stored = bytes(header["data_units"].tobytes()).split(b"\0")[0].decode("latin-1").strip()
        nuclide = bytes(header["isotope_name"].tobytes()).split(b"\0")[0].decode("latin-1").strip()
        affine = np.asarray(image.get_frame_affine(0), dtype=float)

    def read(k: int) -> np.ndarray:
        with readable(path, "ECAT 7"), nibabel.openers.ImageOpener(str(path)) as file:
            image.get_subheaders().fileobj = file
            return np.asarray(image.get_frame(k), dtype=np.float64)

    known = all(d > 0 for d in durations)
    return FrameFile(path=path, format="ECAT 7", frames=len(headers), read=read, affine=affine,
                     units=units or stored or None, starts=starts if known else None,
                     durations=durations if known else None,
                     uncorrected="decay_corr_fctr 1 in all" if max(corrections) <= 1 else None,
                     facts={"TracerRadionuclide": nuclide})  # fmt: skip
