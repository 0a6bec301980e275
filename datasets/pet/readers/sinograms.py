"""Sinograms: Interfile as STIR writes it, and plain arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io

from infield.core.checks import is_positive
from infield.core.errors import InfieldError
from infield.datasets.pet.counts import Sinograms, check_counts
from infield.datasets.pet.readers.common import readable
from infield.datasets.pet.readers.interfile import data_of, read_header
from infield.datasets.pet.readers.list_mode import open_list_mode

AXES = ("plane", "angle", "radial")


def open_sinograms(
    path: Path,
    *,
    bin_width: float | None = None,
    order: tuple[str, ...] | None = None,
    blank: Path | None = None,
    ring_difference: int = 5,
) -> Sinograms:
    """Counts of a file: .hs, .l.hdr (list mode), .npy or .mat.

    Arguments:
        path: The file.
        bin_width: Of a plain array, mm.
        order: Axes of a plain array, of `AXES`, slowest first; (angle, radial) if it has two and no names.
        blank: A plain array of the same order: the counts without an absorber.
        ring_difference: Of list mode.

    Raises:
        InfieldError: The file is not as its format has it, or holds no counts.
    """
    name = path.name.lower()
    if name.endswith((".l.hdr", ".l.hdr.stir", ".lhdr")):
        return open_list_mode(path, ring_difference=ring_difference)
    try:
        if name.endswith(".hs"):
            return open_interfile_sinograms(path)
        return _array(path, bin_width, order, blank)
    except InfieldError as error:
        raise error.within(path) from error


def open_interfile_sinograms(path: Path) -> Sinograms:
    """The direct planes (segment 0) of STIR's projection data, in the order that the header's labels give.

    Raises:
        InfieldError: It is no projection data, or its values are no counts.
    """
    header = read_header(path)
    dimensions = int(str(header.get("number of dimensions", 0)) or 0)
    labels = [str(header.get(f"matrix axis label[{k}]", "")).lower() for k in range(dimensions, 0, -1)]
    wanted = ("segment", "view", "axial coordinate", "tangential coordinate")
    if sorted(labels) != sorted(wanted) or labels[0] != "segment" or labels[-1] != "tangential coordinate":
        raise InfieldError(where=path, found=f"axes {labels}", expected=f"{list(wanted)}, view and axial in any order")
    with readable(path, "Interfile"):
        sizes = {label: header[f"matrix size[{dimensions - k}]"] for k, label in enumerate(labels)}
        planes = [int(n) for n in np.atleast_1d(sizes["axial coordinate"])]
        views, bins = int(sizes["view"]), int(sizes["tangential coordinate"])
        width = 10 * float(header["effective central bin size (cm)"])
        rings = 10 * float(header.get("distance between rings (cm)", 0.1))
    counts = data_of(path, header, sum(planes) * views * bins)
    middle = len(planes) // 2  # segments run from the most negative ring difference to the most positive
    before = sum(planes[:middle]) * views * bins
    segment = counts[before : before + planes[middle] * views * bins]
    if labels[1] == "view":
        values = segment.reshape(views, planes[middle], bins).transpose(1, 0, 2)
    else:
        values = segment.reshape(planes[middle], views, bins)
    check_counts(values)
    history = (f"segment 0 of {len(planes)}", "no randoms, normalisation, attenuation or scatter: relative activity")
    return Sinograms(np.asarray(values), np.pi / views * np.arange(views), width * (np.arange(bins) - bins // 2),
                     rings, history=history)  # fmt: skip


def _array(path: Path, bin_width: float | None, order: tuple[str, ...] | None, blank: Path | None) -> Sinograms:
    if not is_positive(bin_width):
        raise InfieldError(where=path, found="no width of a bin", expected="one in mm", remedy="give it ({bin_width})",
                           parameters=["bin_width"])  # fmt: skip
    counts = _ordered(path, order)
    check_counts(counts)
    without = None if blank is None else _ordered(blank, order)
    if without is not None and (without.shape != counts.shape or not (without > 0).all()):
        raise InfieldError(where=blank, found=f"shape {without.shape}, least {without.min():g}",
                           expected=f"counts above 0 of shape {counts.shape}")  # fmt: skip
    views, bins = counts.shape[1:]
    return Sinograms(counts, np.pi / views * np.arange(views), bin_width * (np.arange(bins) - (bins - 1) / 2),
                     blank=without, history=(f"bins of {bin_width:g} mm, as given",))  # fmt: skip


def _ordered(path: Path, order: tuple[str, ...] | None) -> np.ndarray:
    """An array along (plane, angle, radial)."""
    with readable(path, "an array"):
        if path.suffix == ".mat":
            values = [v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")]
            if len(values) != 1:
                raise InfieldError(where=path, found=f"{len(values)} variables", expected="one")
            array = values[0]
        else:
            array = np.load(path)
    order = order or AXES[3 - array.ndim :]
    if sorted(order) not in (sorted(AXES), sorted(AXES[1:])) or len(order) != array.ndim:
        raise InfieldError(where=path, found=f"axes {','.join(order)} for shape {array.shape}",
                           expected="angle and radial, and plane where there are several", remedy="({order})",
                           parameters=["order"])  # fmt: skip
    if "plane" not in order:
        array, order = array[None], ("plane", *order)
    return array.transpose([order.index(axis) for axis in AXES]).astype(np.float64)
