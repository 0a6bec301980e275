"""k-space as plain arrays: numpy's .npy and .npz, MATLAB's .mat (version 5 and 7.3), BART's .cfl with its .hdr.

What an array leaves open is taken as is the custom of its format; another `order` can be given:

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
from infield.datasets.mri.readers.fastmri import PARTS
from infield.datasets.mri.readers.sampled import measured

AXES = ("slice", "coil", "ky", "kx")
CHOSEN, AVERAGED = ("time", "echo"), "average"
_HDF5 = {3: ("slice", "ky", "kx"), 4: AXES}
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
            arrays = {name: array for name, item in file.items() if (array := _hdf5(item, reverse=True))}
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


def _in_memory(array: np.ndarray) -> _Array:
    complex_ = array.dtype.kind == "c"
    return _Array(array.shape, lambda: complex_, str(array.dtype), lambda index: np.asarray(array[index]))


def open_arrays(path: Path, file: h5py.File, layout: ArrayLayout) -> KSpaceFile:
    """Wrap the plain arrays of an open HDF5 file, whose axes are named or are fastMRI's.

    Raises:
        InfieldError: It holds no k-space.
    """
    arrays = {name: array for name, item in file.items() if (array := _hdf5(item, reverse=False))}
    return _file(path, "HDF5", arrays, layout, _HDF5, _KSPACE)


def _hdf5(item: object, *, reverse: bool) -> _Array | None:
    """An array of HDF5; MATLAB's have their axes in reverse. Complex numbers may be pairs, or a group, of two parts."""
    step = -1 if reverse else 1
    if isinstance(item, h5py.Group):
        names = next((parts for parts in PARTS if set(parts) <= set(item)), None)
        if names is None or item[names[0]].shape != item[names[1]].shape:
            return None
        real, imag = (item[name] for name in names)

        def joined(index: tuple[Any, ...]) -> np.ndarray:
            values = np.asarray(real[index[::step]] + 1j * imag[index[::step]])
            return values.T if reverse else values

        return _Array(real.shape[::step], lambda: True, f"{real.dtype} in two parts", joined)
    if not isinstance(item, h5py.Dataset) or not item.ndim:  # h5py gives None for a damaged link
        return None
    pair = next((parts for parts in PARTS if item.dtype.names == parts), None)

    def at(index: tuple[Any, ...]) -> np.ndarray:
        values = item[index[::step]]
        if pair is not None:
            values = values[pair[0]] + 1j * values[pair[1]]
        return np.asarray(values).T if reverse else np.asarray(values)

    return _Array(item.shape[::step], lambda: pair is not None or item.dtype.kind == "c", str(item.dtype), at)


def _variable(path: Path, name: str, shape: tuple[int, ...], kind: str) -> _Array:
    """A variable of a MATLAB 5 file, read when it is needed, even for its data type."""
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
    if order is None or len(order) != len(array.shape) or not {"ky", "kx"} <= set(order) <= {*AXES, *CHOSEN, AVERAGED}:
        expected = EXPECTED if layout.order is None else f"axes as named: {', '.join(layout.order)}"
        raise InfieldError(
            where=path, found=f"an array{called} of shape {array.shape}, {expected}", remedy="give one slice"
        )
    if len(set(order)) < len(order):
        raise InfieldError(where=path, found=f"the order {', '.join(order)}", expected="names that differ")
    if not array.is_complex():
        parts = (
            "join real and imaginary parts to complex numbers first" if 2 in array.shape else "raw data, not a picture"
        )
        raise InfieldError(
            where=path, found=f"values of type {array.dtype}{called} of shape {array.shape}, {EXPECTED}", remedy=parts
        )
    sizes = dict(zip(order, array.shape, strict=True))
    at = _chosen_places(path, sizes, layout)
    if sizes.get("coil", 1) > min(sizes["ky"], sizes["kx"]):
        raise InfieldError(
            where=path,
            found=f"{sizes['coil']} coils of {sizes['ky']} x {sizes['kx']} samples in shape {array.shape}",
            expected="fewer coils than samples",
            remedy="name the axes ({order} is what was tried)",
            parameters={"order": order},
        )

    def read(number: int) -> KSpace:
        samples = _in_order(array, order, {**at, "slice": number})
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
        beside = _beside(arrays, order, {**at, "slice": number}, set(arrays) - {name})
        mask = beside.pop("mask", None)
        sampled = measured(samples, mask)
        if sampled.mask.shape == samples.shape[1:]:  # another shape is refused below
            samples = np.where(sampled.mask, samples, 0)
        history = (words, *sampled.history)
        return KSpace(samples=samples, mask=sampled.mask, rounded=sampled.rounded, history=history, **beside)

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


def _chosen_places(path: Path, sizes: Mapping[str, int], layout: ArrayLayout) -> dict[str, int]:
    """The time and the echo that are read."""
    at = dict(layout.at)
    for axis in CHOSEN:
        count = sizes.get(axis, 1)
        if axis in sizes and axis not in at and count > 1:
            raise InfieldError(
                where=path,
                found=f"{count} along {axis}",
                expected="one of them",
                remedy="choose it ({at})",
                parameters={"at": f"{axis}=0"},
            )
        if not 0 <= at.setdefault(axis, 0) < count:
            raise InfieldError(where=path, found=f"{axis} {at[axis]}", expected=f"0 to {count - 1}")
    return at


def _in_order(array: _Array, order: tuple[str, ...], at: Mapping[str, int]) -> np.ndarray:
    """One slice with the axes coil, ky, kx: the one at these places, and the mean of its averages."""
    index = tuple(at[axis] if axis in at else slice(None) for axis in order)
    values, left = array.at(index), [axis for axis in order if axis not in at]
    if AVERAGED in left:
        values, left = values.mean(left.index(AVERAGED)), [axis for axis in left if axis != AVERAGED]
    if "coil" not in left:
        values, left = values[None], ["coil", *left]
    return np.transpose(values, [left.index(axis) for axis in AXES[1:]])


def _beside(
    arrays: Mapping[str, _Array], order: tuple[str, ...], at: Mapping[str, int], names: set[str]
) -> dict[str, Any]:
    """Further metadata of the slice in the file."""
    lower = {name.lower(): name for name in names}
    of_slice = tuple(axis for axis in order if axis in AXES[1:])
    of_volume = tuple(axis for axis in order if axis in AXES)
    plane = tuple(axis for axis in order if axis in ("ky", "kx"))
    found: dict[str, Any] = {}
    for role, candidates, layouts in (
        ("coil_maps", _MAPS, (of_slice, of_volume)),
        ("mask", _MASK, (plane, tuple(axis for axis in of_volume if axis != "coil"))),
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
            found[role] = _in_order(array, axes, at)[0] != 0
        else:
            found[role] = _in_order(array, axes, at).astype(np.complex128)
    return found
