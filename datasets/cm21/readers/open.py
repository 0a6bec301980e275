"""The door to files of lightcones: which reader reads which file.

By its suffix, reader `cm21.fits` of the registry, a function of the path and what is `UserMetadata`, returns
`RawLightcones`; HDF5 files are distinguished by their keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py

from infield.core import registry
from infield.core.errors import InfieldError
from infield.datasets.cm21.readers.common import LightconeSource, RawLightcones, UserMetadata, join
from infield.datasets.cm21.readers.py21cmfast import is_native, native_cone
from infield.datasets.cm21.readers.stack import is_stack, stacked_cones
from infield.datasets.formats.foreign_arrays import readable

DOMAIN = "cm21"
FORMATS = "an HDF5 file of 21cmFAST 3.4 or 4 or of ml21cm, numpy arrays (.npz, .npy), or a FITS cube"


def open_lightcone_files(paths: Sequence[Path], stated: UserMetadata) -> LightconeSource:
    """Lightcones of files of any of the formats, as one set; cones themselves stay on disk.

    Raises:
        InfieldError: A file is missing, damaged or incomplete, or the files do not fit together.
    """
    return join([_open(path, stated) for path in paths], stated)


def _open(path: Path, stated: UserMetadata) -> RawLightcones:
    if not path.exists():
        raise InfieldError(where=path, found="nothing there", expected=FORMATS, remedy="check the path")
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]  # astropy unpacks
    name = DOMAIN + (suffixes[-1] if suffixes else "")
    if registry.known("readers", name):
        cones: RawLightcones = registry.load("readers", name)(path, stated)
        return cones
    if not path.is_file() or not h5py.is_hdf5(path):
        raise InfieldError(where=path, found="a file of another format", expected=FORMATS)
    with readable(path), h5py.File(path, "r") as file:
        if is_native(file):
            return native_cone(path, file, stated)
        if is_stack(file):
            return stacked_cones(path, file, stated)
        keys = ", ".join(file) or "none"
    raise InfieldError(where=path, found=f"the keys {keys}", expected=FORMATS, remedy="older versions wrote other keys")
