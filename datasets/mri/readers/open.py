"""Files of k-space, in whatever format: opened lazily, read slice by slice, refused in one line.

The suffix of a file selects its reader: reader `mri.npy` of the registry, a function of the path, an
`ArrayLayout` and a `contextlib.ExitStack` for what is to be closed, returns a `KSpaceFile`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py

from infield.core import registry
from infield.core.errors import InfieldError
from infield.datasets.mri.readers.arrays import open_arrays
from infield.datasets.mri.readers.common import ArrayLayout, KSpaceFile, readable
from infield.datasets.mri.readers.fastmri import open_fastmri
from infield.datasets.mri.readers.ismrmrd import open_ismrmrd

DOMAIN = "mri"


@contextmanager
def open_kspace(path: str | Path, layout: ArrayLayout | None = None) -> Iterator[KSpaceFile]:
    """Open a file of any format that a reader of the registry is for; data are read when a slice is requested.

    Arguments:
        path: The file.
        layout: Of a plain array.

    Raises:
        InfieldError: It is missing, of another format, damaged, or its contents are no Cartesian k-space.
    """
    path, layout = with_suffix(Path(path)), layout or ArrayLayout()
    if _of_bruker(path):
        raise InfieldError(
            where=path,
            found="a raw scan of Bruker's ParaVision, whose encoding its parameter files acqp and method hold",
            expected=f"complex k-space in one of {', '.join(registry.suffixes(DOMAIN))}",
            remedy="convert the scan's folder to ISMRMRD first, with bruker_to_ismrmrd",
        )
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


def _of_bruker(path: Path) -> bool:
    """Whether it is a scan's folder of ParaVision, or one of its files."""
    folder = path if path.is_dir() else path.parent
    names = ("acqp", "method", "fid", "ser", "2dseq")
    own = path.is_dir() or path.name in names or path.name.startswith("rawdata.job")
    return own and (folder / "acqp").is_file() and (folder / "method").is_file()


def with_suffix(path: Path) -> Path:
    """The path itself, or the data of BART's pair of files where its base name or its header is given."""
    pair = path.with_suffix(".cfl") if path.suffix.lower() == ".hdr" else path.with_name(path.name + ".cfl")
    return pair if not path.is_dir() and pair.is_file() else path


def open_hdf5(path: Path, layout: ArrayLayout, stack: ExitStack) -> KSpaceFile:
    """Open a file of fastMRI's or of ISMRMRD's, or with a layout one of plain arrays.

    Raises:
        InfieldError: It cannot be read, or a layout is given of lines that place themselves.
    """
    with readable(path, "ISMRMRD" if path.suffix.lower() == ".mrd" else "fastMRI or ISMRMRD"):
        file = stack.enter_context(h5py.File(path, "r"))
        scans = any(isinstance(item, h5py.Group) and {"xml", "data"} <= set(item) for item in file.values())
        if scans and "kspace" not in file:
            if layout.order is not None or layout.image or layout.at:
                raise InfieldError(
                    where=path,
                    found="the axes of a plain array, and lines of an ISMRMRD scan",
                    expected="none: its lines have counters",
                    remedy="leave the order out ({order})",
                    parameters=["order"],
                )
            return open_ismrmrd(path, file, layout.variable)
        if layout.given:
            return open_arrays(path, file, layout)
        return open_fastmri(path, file) if "kspace" in file else open_ismrmrd(path, file)
