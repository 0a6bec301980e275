"""k-space as plain arrays: numpy's .npy and .npz, MATLAB's .mat (version 5 and 7.3), BART's .cfl with its .hdr.

What an array does not say of itself is taken as is the custom of its format; another `order` can be given:

| format | axes of 2, 3 and 4 dimensions | beside it in the file, by name |
| --- | --- | --- |
| `.npy` | (coil, ky, kx); (slice, coil, ky, kx) | |
| `.npz` | the same | maps, mask, noise covariance |
| `.mat` | (ky, kx); (ky, kx, coil); (ky, kx, coil, slice), as MATLAB prints the shape | the same |
| `.cfl` | BART's own; ky, kx are the two of READ, PHS1, PHS2 that are longer than 1, in this order | |

In `.npz` and `.mat` the k-space is the variable called kspace, ksp or data, or the only complex array. Maps and mask
have its axes, less those they lack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from infield.core.errors import InfieldError
from infield.datasets.mri.kspace import KSpace, fourier
from infield.datasets.mri.readers.common import ArrayLayout, KSpaceFile, readable

AXES = ("slice", "coil", "ky", "kx")
EXPECTED = "expected complex k-space (coil, ky, kx)"
_NUMPY = {3: AXES[1:], 4: AXES}
_MATLAB = {2: ("ky", "kx"), 3: ("ky", "kx", "coil"), 4: ("ky", "kx", "coil", "slice")}
_KSPACE = ("kspace", "ksp", "k_space", "data")
_MAPS = ("coil_maps", "maps", "sens_maps", "sensitivity_maps", "sens", "csm")
_MASK = ("mask", "sampling_mask")
_COVARIANCE = ("noise_covariance", "noise_cov", "psi")
_BART = ("READ", "PHS1", "PHS2", "COIL", "MAPS", "TE", "COEFF", "COEFF2", "ITER", "CSHIFT", "TIME", "TIME2", "LEVEL",
         "SLICE", "AVG", "BATCH")  # fmt: skip


@dataclass(frozen=True)
class _Array:
    """An array on disk: its shape as its format prints it, whether it is complex, and how a part of it is read."""

    shape: tuple[int, ...]
    is_complex: Callable[[], bool] = field(repr=False)
    dtype: str
    at: Callable[[tuple[Any, ...]], np.ndarray] = field(repr=False)


def open_numpy(path: Path, layout: ArrayLayout, stack: ExitStack, names: tuple[str, ...] = _KSPACE) -> KSpaceFile:
    """Open a `.npy` file (memory-mapped) or the arrays of an `.npz` file.

    Raises:
        InfieldError: It cannot be read, or holds no k-space.
    """
    try:
        loaded = np.load(path, mmap_mode="r" if path.suffix.lower() == ".npy" else None, allow_pickle=False)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(stack.enter_context(loaded))
    except Exception as error:  # zipfile and numpy's parser raise many kinds
        reason = " ".join(str(error).split())
        raise InfieldError(where=path, found=f"no readable NumPy file ({reason}), {EXPECTED}") from None
    wrapped = {name: _in_memory(array) for name, array in arrays.items()}
    return _file(path, "numpy", wrapped, layout, _NUMPY, names)


def open_matlab(path: Path, layout: ArrayLayout, stack: ExitStack, names: tuple[str, ...] = _KSPACE) -> KSpaceFile:
    """Open a `.mat` file; version 7.3 is HDF5 and read part by part, version 5 variable by variable.

    Raises:
        InfieldError: It cannot be read, or holds no k-space.
    """
    with readable(path, "MATLAB"):
        if h5py.is_hdf5(path):
            file = stack.enter_context(h5py.File(path, "r"))
            items = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset) and item.ndim}
            arrays = {name: _reversed(item) for name, item in items.items()}
        else:
            arrays = {name: _variable(path, name, shape, kind) for name, shape, kind in scipy.io.whosmat(path)}
    return _file(path, "MATLAB", arrays, layout, _MATLAB, names)


def open_bart(path: Path, layout: ArrayLayout, stack: ExitStack | None = None) -> KSpaceFile:
    """Open BART's pair of files, memory-mapped.

    Raises:
        InfieldError: The header is missing or is none, the data are of another size, or are more than slices of coils.
    """
    header = path.with_suffix(".hdr")
    try:
        lines = [line for line in header.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
        sizes = [int(word) for word in lines[0].split()]
        if min(sizes) < 1 or len(sizes) > len(_BART):
            raise ValueError(f"dimensions {sizes}")
    except (OSError, ValueError, IndexError, UnicodeDecodeError) as error:
        raise InfieldError(
            where=path,
            found=f"no header {header.name} with dimensions ({' '.join(str(error).split())})",
            expected="BART's pair of files",
        ) from None
    expected = 8 * int(np.prod(sizes))
    if path.stat().st_size != expected:
        raise InfieldError(
            where=path,
            found=f"{path.stat().st_size} bytes",
            expected=f"{expected} for the dimensions {sizes} of {header.name}",
            remedy="the file is truncated or belongs to another header",
        )
    names = dict(zip(_BART, sizes, strict=False))
    if layout.order is None:
        space = [name for name in _BART[:3] if names.get(name, 1) > 1]
        odd = [
            f"{name} {size}" for name, size in names.items() if size > 1 and name not in (*_BART[:3], "COIL", "SLICE")
        ]
        if odd:
            raise InfieldError(
                where=path,
                found=f"the dimensions {', '.join(odd)}",
                expected="slices of coils",
                remedy="`bart slice` takes one out",
            )
        if len(space) != 2:
            raise InfieldError(
                where=path,
                found=f"{len(space)} of READ, PHS1, PHS2 longer than 1 ({sizes[:3]})",
                expected="2, one slice in each",
                remedy="of a volume take the transform along the readout first (bart fft -i -u 1) and then a slice",
            )
        named = {space[0]: "ky", space[1]: "kx", "COIL": "coil", "SLICE": "slice"}
        layout = ArrayLayout(
            order=tuple(named[n] for n in names if n in named and (names[n] > 1 or n == "COIL")), image=layout.image
        )
        shape = tuple(names[n] for n in names if n in named and (names[n] > 1 or n == "COIL"))
    else:
        shape = tuple(size for size in sizes if size > 1)
    memory = np.memmap(path, dtype="<c8", mode="r", shape=shape, order="F")
    return _file(path, "BART", {"": _in_memory(memory)}, layout, {}, ())


def read_maps(path: Path) -> np.ndarray:
    """Coil maps alone in a file of plain arrays, `(coil, y, x)`, laid out as k-space is.

    Raises:
        InfieldError: It is missing, of another format or no such array.
    """
    openers: Mapping[str, Callable[..., KSpaceFile]] = {".npy": open_numpy, ".npz": open_numpy, ".mat": open_matlab}
    if not path.is_file() or path.suffix.lower() not in (*openers, ".cfl"):
        raise InfieldError(
            where=path, found="no file of coil maps", expected=".npy, .npz, .mat or .cfl", remedy="check the path"
        )
    with ExitStack() as stack:
        if path.suffix.lower() == ".cfl":
            found = open_bart(path, ArrayLayout())
        else:
            found = openers[path.suffix.lower()](path, ArrayLayout(), stack, _MAPS)
        if found.slices > 1:
            raise InfieldError(where=path, found=f"coil maps of {found.slices} slices", expected="those of one")
        with readable(path, found.format):
            return found.read(0).samples


def measured(samples: np.ndarray) -> np.ndarray:
    """Which samples were measured where only zeros tell it, bool `(ky, kx)`.

    Whole numbers (counts of a converter) may be 0 by chance: of those a sample was left out only where its line was,
    unless zeros are more than one in a hundred.

    Arguments:
        samples: `(coil, ky, kx)`.
    """
    found = (samples != 0).any(0)
    lines = np.logical_and.outer(found.any(1), found.any(0))
    if not found.any() or found[lines].mean() <= 0.99:
        return found
    parts = np.ascontiguousarray(samples[:, found]).view(np.float64)
    counts = np.median(np.abs(parts)) >= 0.5 and np.abs(parts - np.rint(parts)).max() < 1e-6
    return lines if counts else found


def _in_memory(array: np.ndarray) -> _Array:
    complex_ = array.dtype.kind == "c"
    return _Array(array.shape, lambda: complex_, str(array.dtype), lambda index: np.asarray(array[index]))


def _reversed(item: h5py.Dataset) -> _Array:
    """MATLAB's arrays in HDF5 have their axes in reverse, and complex numbers as pairs called real and imag."""
    pair = item.dtype.names == ("real", "imag")

    def at(index: tuple[Any, ...]) -> np.ndarray:
        values = item[index[::-1]]
        if pair:
            values = values["real"] + 1j * values["imag"]
        return np.asarray(values).T

    return _Array(item.shape[::-1], lambda: pair or item.dtype.kind == "c", str(item.dtype), at)


def _variable(path: Path, name: str, shape: tuple[int, ...], kind: str) -> _Array:
    """A variable of a MATLAB 5 file, read when it is needed: even to know whether it is complex."""
    loaded: list[np.ndarray] = []

    def values() -> np.ndarray:
        if not loaded:
            with readable(path, "MATLAB"):
                loaded.append(np.asarray(scipy.io.loadmat(path, variable_names=[name])[name]))
        return loaded[0]

    numeric = kind in ("double", "single") and len(shape) >= 2 and min(shape) > 0
    return _Array(shape, lambda: numeric and np.iscomplexobj(values()), kind, lambda index: values()[index])


def _file(
    path: Path,
    kind: str,
    arrays: Mapping[str, _Array],
    layout: ArrayLayout,
    custom: Mapping[int, tuple[str, ...]],
    names: tuple[str, ...],
) -> KSpaceFile:
    name = _chosen(path, arrays, layout, names)
    array = arrays[name]
    order = layout.order or custom.get(len(array.shape))
    called = f" '{name}'" if name else ""
    if order is None or len(order) != len(array.shape) or not {"ky", "kx"} <= set(order) <= set(AXES):
        expected = EXPECTED if layout.order is None else f"axes as named: {', '.join(layout.order)}"
        raise InfieldError(
            where=path, found=f"an array{called} of shape {array.shape}, {expected}", remedy="give one slice"
        )
    if len(set(order)) < len(order):
        raise InfieldError(where=path, found=f"the order {', '.join(order)}", expected="names that differ")
    if not array.is_complex():
        raise InfieldError(
            where=path, found=f"values of type {array.dtype}{called}, {EXPECTED}", remedy="raw data, not a picture"
        )
    sizes = dict(zip(order, array.shape, strict=True))
    if sizes.get("coil", 1) > min(sizes["ky"], sizes["kx"]):
        raise InfieldError(
            where=path,
            found=f"{sizes['coil']} coils of {sizes['ky']} x {sizes['kx']} samples in shape {array.shape}",
            expected="fewer coils than samples",
            remedy="name the axes ({order} is what was tried)",
            parameters={"order": order},
        )

    def read(number: int) -> KSpace:
        samples = _in_order(array, order, number)
        bad = int(samples.size - np.isfinite(samples).sum())
        if bad:
            raise InfieldError(
                where=path,
                found=f"NaN or infinity in {bad} of {samples.size} values",
                expected="finite ones",
                remedy="set 0",
            )
        if not samples.any():
            raise InfieldError(where=path, found="0 everywhere", expected="measured samples")
        samples = samples.astype(np.complex128)
        words = f"{path.name}{called}" + (f", slice {number}" if "slice" in sizes else "")
        if layout.image:
            samples, words = fourier(samples), f"{words}: k-space computed from complex images"
        beside = _beside(arrays, order, number, set(arrays) - {name})
        mask = beside.pop("mask", None)
        sampled = measured(samples) if mask is None else mask
        if sampled.shape == samples.shape[1:]:  # another shape is refused below
            samples = np.where(sampled, samples, 0)
        return KSpace(samples=samples, mask=sampled, history=(words,), **beside)

    return KSpaceFile(path=path, format=kind, slices=sizes.get("slice", 1), read=read)


def _chosen(path: Path, arrays: Mapping[str, _Array], layout: ArrayLayout, names: tuple[str, ...]) -> str:
    """Name of the array that holds the k-space."""
    if layout.variable is not None:
        if layout.variable not in arrays:
            raise InfieldError(
                where=path, found=f"no variable '{layout.variable}'", expected=f"one of {', '.join(arrays)}"
            )
        return layout.variable
    known = {name.lower(): name for name in arrays}
    for candidate in (*names, ""):
        if candidate in known:
            return known[candidate]
    complex_ones = [name for name, array in arrays.items() if array.is_complex()]
    if len(complex_ones) != 1:
        listed = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
        raise InfieldError(
            where=path,
            found=f"{len(complex_ones)} complex arrays ({listed})",
            expected="one, or one called kspace",
            remedy="name it ({variable})",
            parameters=["variable"],
        )
    return complex_ones[0]


def _in_order(array: _Array, order: tuple[str, ...], number: int) -> np.ndarray:
    """One slice with the axes coil, ky, kx."""
    index = tuple(number if axis == "slice" else slice(None) for axis in order)
    values, left = array.at(index), [axis for axis in order if axis != "slice"]
    if "coil" not in left:
        values, left = values[None], ["coil", *left]
    return np.transpose(values, [left.index(axis) for axis in AXES[1:]])


def _beside(arrays: Mapping[str, _Array], order: tuple[str, ...], number: int, names: set[str]) -> dict[str, Any]:
    """What else the file says of the slice."""
    lower = {name.lower(): name for name in names}
    of_slice = tuple(axis for axis in order if axis != "slice")
    plane = tuple(axis for axis in order if axis in ("ky", "kx"))
    found: dict[str, Any] = {}
    for role, candidates, layouts in (
        ("coil_maps", _MAPS, (of_slice, order)),
        ("mask", _MASK, (plane, tuple(axis for axis in order if axis != "coil"))),
        ("noise_covariance", _COVARIANCE, (("coil", "coil"),)),
    ):
        name = next((lower[c] for c in candidates if c in lower), None)
        if name is None:
            continue
        array = arrays[name]
        axes = next((axes for axes in layouts if len(axes) == len(array.shape)), None)
        if axes is None:
            raise InfieldError(found=f"'{name}' of shape {array.shape}", expected=f"the axes {', '.join(layouts[0])}")
        if role == "noise_covariance":
            found[role] = array.at((slice(None), slice(None))).astype(np.complex128)
        elif role == "mask":
            found[role] = _in_order(array, axes, number)[0] != 0
        else:
            found[role] = _in_order(array, axes, number).astype(np.complex128)
    return found
