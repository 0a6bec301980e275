"""Images by their names."""

from __future__ import annotations

from pathlib import Path

from infield.core.errors import InfieldError
from infield.datasets.pet.readers.dicom import open_dicom
from infield.datasets.pet.readers.ecat import open_ecat
from infield.datasets.pet.readers.frames import FrameFile
from infield.datasets.pet.readers.interfile import open_interfile
from infield.datasets.pet.readers.nifti import open_nifti

READERS = {
    (".nii", ".nii.gz"): open_nifti,
    (".v", ".v.gz"): open_ecat,
    (".hv",): open_interfile,
    (".dcm", ".ima"): open_dicom,
}


def open_image(path: Path, *, units: str | None = None) -> FrameFile:
    """Open an image of any format, lazily.

    Arguments:
        path: A NIfTI, ECAT 7 or Interfile image, a DICOM file or the folder of a series.
        units: In place of those of the file; of NIfTI files also in place of a sidecar.

    Raises:
        InfieldError: The format is not known, or the file is not as its format has it.
    """
    if path.is_dir():
        return open_dicom(path, units=units)
    name = path.name.lower()
    for suffixes, reader in READERS.items():
        if name.endswith(suffixes):
            return reader(path, units=units)
    known = ", ".join(suffix for suffixes in READERS for suffix in suffixes)
    raise InfieldError(where=path, found=f"'{path.suffix}'", expected=f"one of {known}, .hs, .l.hdr or a DICOM folder")
