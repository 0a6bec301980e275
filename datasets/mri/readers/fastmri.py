"""fastMRI's HDF5 files (Zbontar et al. 2018, arXiv:1811.08839), and others of the same layout such as M4Raw's.

`kspace (slice, [coil,] rows, columns)`; rows are the readout, oversampled twofold, columns the phases, of which whole
ones are left out. `ismrmrd_header` (XML) holds the sizes; `mask` (of the columns) is there in test files only, and the
target `reconstruction_rss` or `reconstruction_esc` in the others. Here rows become ky and columns kx, as the images are
shown.

The oversampled readout is cropped in image space to the header's number of rows, which is exact since every measured
column has all its rows. Columns are left as they are: where some are missing, an image cannot be cropped along them
without mixing what was measured with what was not. fastMRI's targets are the middle of such an image.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np

from infield.core.errors import InfieldError
from infield.datasets.mri.kspace import KSpace, remove_oversampling
from infield.datasets.mri.readers.common import KSpaceFile
from infield.datasets.mri.readers.sampled import measured

TARGETS = ("reconstruction_rss", "reconstruction_esc")
PARTS = (("real", "imag"), ("r", "i"))
"""Names of the fields of complex numbers that are stored as pairs."""

_HEADER = "ismrmrd_header"
_ATTRIBUTES = ("acquisition", "patient_id", "acceleration", "num_low_frequency")


def open_fastmri(path: Path, file: h5py.File) -> KSpaceFile:
    """Wrap an open file.

    Raises:
        InfieldError: Its arrays or its header are not as fastMRI's.
    """
    kspace = file["kspace"]
    parts = kspace.dtype.names if isinstance(kspace, h5py.Dataset) and kspace.dtype.names in PARTS else None
    if (
        not isinstance(kspace, h5py.Dataset)
        or kspace.ndim not in (3, 4)
        or (kspace.dtype.kind != "c" and parts is None)
    ):
        found = f"{kspace.dtype} of shape {kspace.shape}" if isinstance(kspace, h5py.Dataset) else "a group"
        raise InfieldError(
            where=f"{path}: 'kspace'",
            found=found,
            expected="complex (slice, coil, ky, kx) or, of one coil, (slice, ky, kx)",
        )
    if kspace.ndim == 4 and kspace.shape[1] > min(kspace.shape[2:]):
        raise InfieldError(
            where=f"{path}: 'kspace'",
            found=f"{kspace.shape[1]} coils of {kspace.shape[2]} x {kspace.shape[3]} samples in shape {kspace.shape}",
            expected="fewer coils than samples, (slice, coil, ky, kx)",
            remedy="name the axes, say ({order})",
            parameters={"order": ("slice", "ky", "kx", "coil")},
        )
    sizes = _sizes(path, file)
    stated = [f"{key} {_text(file.attrs[key])}" for key in _ATTRIBUTES if key in file.attrs]
    words = f"{path.name} ({', '.join(stated)})" if stated else path.name

    def read(number: int) -> KSpace:
        stored = kspace[number]
        if parts is not None:
            stored = stored[parts[0]] + 1j * stored[parts[1]]
        samples = np.asarray(stored, dtype=np.complex128)
        samples = samples[None] if samples.ndim == 2 else samples
        if not np.isfinite(samples).all():
            raise InfieldError(found=f"NaN or infinity in slice {number}", expected="finite values")
        if not samples.any():
            raise InfieldError(found=f"0 everywhere in slice {number}", expected="measured samples")
        found = measured(samples)
        columns = np.asarray(found.mask.any(axis=0))
        if "mask" in file:
            mask = np.asarray(file["mask"]).astype(bool).ravel()
            if mask.shape != columns.shape:
                raise InfieldError(
                    where="'mask'", found=f"{mask.size} columns", expected=f"{columns.size} as 'kspace' has"
                )
            columns &= mask
        history = [f"{words}, slice {number} of {len(kspace)}", *found.history]
        if sizes.columns is not None:
            columns[: sizes.columns.start] = False
            columns[sizes.columns.stop :] = False
        sampled = found.mask & columns
        whole = np.array_equal(sampled, np.broadcast_to(columns, sampled.shape))
        samples = samples * sampled
        rows = samples.shape[1]
        if sizes.rows is not None and sizes.rows < rows:
            if whole:
                samples = remove_oversampling(samples, -2, sizes.rows)
                samples[..., ~columns] = 0
                sampled = np.broadcast_to(columns, samples.shape[1:]).copy()
                history.append(f"readout of {rows} rows cropped to {sizes.rows} in image space")
            else:
                history.append("zeros in measured columns are no data: the oversampled readout is kept")
        name = next((name for name in TARGETS if name in file), None)
        return KSpace(
            samples=samples,
            mask=sampled,
            rounded=found.rounded,
            readout=0,
            target=None if name is None else np.asarray(file[name][number], dtype=np.float64),
            voxel=sizes.voxel,
            history=tuple(history),
        )

    return KSpaceFile(path=path, format="fastMRI", slices=len(kspace), read=read)


class _Sizes:
    """From the header: rows of the image, measured columns, mm of a point; None for what it lacks."""

    rows: int | None = None
    columns: slice | None = None
    voxel: tuple[float, float] | None = None


def _sizes(path: Path, file: h5py.File) -> _Sizes:
    sizes = _Sizes()
    if _HEADER not in file:
        return sizes
    text = file[_HEADER][()]
    try:
        root = ElementTree.fromstring(text if isinstance(text, str | bytes) else bytes(text))
    except (ElementTree.ParseError, TypeError, ValueError) as error:
        raise InfieldError(where=f"{path}: '{_HEADER}'", found=f"no XML ({error})", expected="an MRD header") from None

    def number(*names: str) -> float | None:
        found = root.find("/".join(["{*}encoding", *(f"{{*}}{name}" for name in names)]))
        try:
            return float(str(found.text)) if found is not None else None
        except ValueError:
            raise InfieldError(
                where=f"{path}: '{_HEADER}'",
                found=f"{names[-1]} {found.text!r}",  # type: ignore[union-attr]
                expected="a number",
            ) from None

    width = file["kspace"].shape[-1]
    encoded, rows = number("encodedSpace", "matrixSize", "y"), number("reconSpace", "matrixSize", "x")
    wide, shown = (number(space, "fieldOfView_mm", "x") for space in ("encodedSpace", "reconSpace"))
    if rows is not None and wide and shown:  # a coarser image of the same field of view is no smaller one
        rows = round(file["kspace"].shape[-2] * shown / wide)
    limits = [number("encodingLimits", "kspace_encoding_step_1", name) for name in ("center", "maximum")]
    sizes.rows = None if rows is None else int(rows)
    if encoded is not None and limits[0] is not None and limits[1] is not None and int(encoded) == width:
        start = int(encoded) // 2 - int(limits[0])
        sizes.columns = slice(max(start, 0), start + int(limits[1]) + 1)
    extent = [number("encodedSpace", "fieldOfView_mm", axis) for axis in "xy"]
    points = [number("encodedSpace", "matrixSize", axis) for axis in "xy"]
    if all(value is not None and value > 0 for value in (*extent, *points)):
        dy, dx = (mm / n for mm, n in zip(extent, points, strict=True))  # type: ignore[operator]
        sizes.voxel = dy, dx
    return sizes


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
