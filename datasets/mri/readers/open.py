"""Files of k-space, in whatever format: opened lazily, read slice by slice, refused in one line.

Which reader opens a file is told by its suffix: reader `mri.npy` of the registry, a function of the path, an
`ArrayLayout` and a `contextlib.ExitStack` for what is to be closed, returns a `KSpaceFile`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py

from infield.core import registry
from infield.core.errors import InfieldError
from infield.datasets.mri.readers.common import ArrayLayout, KSpaceFile, readable
from infield.datasets.mri.readers.fastmri import open_fastmri
from infield.datasets.mri.readers.ismrmrd import open_ismrmrd

DOMAIN = "mri"


@contextmanager
def open_kspace(path: str | Path, layout: ArrayLayout | None = None) -> Iterator[KSpaceFile]:
    """Open a file of any format that a reader of the registry is for; data are read when a slice is asked for.

    Arguments:
        path: The file.
        layout: Of a plain array.

    Raises:
        InfieldError: It is missing, of another format, damaged, or its contents are no Cartesian k-space.
    """
    path, layout = Path(path), layout or ArrayLayout()
    name = DOMAIN + path.suffix.lower()
    if not path.suffix or not registry.known("readers", name):
        raise InfieldError(
            where=path,
            found=f"a '{path.suffix}' file",
            expected=f"complex k-space in one of {', '.join(registry.suffixes(DOMAIN))}",
            remedy="convert it first (scanner's own formats: with siemens_to_ismrmrd and its kin)",
        )
    if not path.is_file():
        raise InfieldError(where=path, found="no such file", expected="complex k-space", remedy="check the path")
    with ExitStack() as stack:
        yield registry.load("readers", name)(path, layout, stack)


def open_hdf5(path: Path, layout: ArrayLayout, stack: ExitStack) -> KSpaceFile:
    """Open a file of fastMRI's or of ISMRMRD's.

    Raises:
        InfieldError: It cannot be read, or a layout is given.
    """
    if layout.given:
        raise InfieldError(
            where=path, found="a layout of a plain array", expected=f"none for a '{path.suffix.lower()}' file"
        )
    with readable(path, "ISMRMRD" if path.suffix.lower() == ".mrd" else "fastMRI or ISMRMRD"):
        file = stack.enter_context(h5py.File(path, "r"))
        return open_fastmri(path, file) if "kspace" in file else open_ismrmrd(path, file)
