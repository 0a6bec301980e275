"""Regional SUVR of one subject at baseline, from which a bridge predicts: of a cohort, of a pair, or of an image in
MNI152.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from infield.core.errors import InfieldError
from infield.datasets.formats.simulation import open_simulation
from infield.datasets.pet.brain_regions import NAMES, nearest_region
from infield.datasets.pet.image import MNI, PETImage, read_image
from infield.datasets.pet.mri_tissues import REGISTRATION, places_of, template_on, tissues_of_mri
from infield.datasets.pet.pair import FORMAT as PAIR
from infield.datasets.pet.pair import read_pair
from infield.datasets.pet.quantities import SUVR
from infield.datasets.pet.readers.open import open_image

GREY = 1 / 3
"""Least fraction of grey matter of a voxel that counts."""

LIKE_A_BRAIN = 0.4
"""Least correlation of an image in MNI152 with the brain of the template."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """What a prediction starts from.

    Arguments:
        values: SUVR of the regions `NAMES`, `(regions,)`, float64.
        image: Baseline image.
        labels: Region of each of its voxels, -1 for none, `(z, y, x)`.
        source: Where it comes from.
        synthetic: Whether it is of the synthetic cohort.
        follow_up: Measured SUVR of the regions at the follow-up, where it is known.
        years: To that follow-up.
        tracer: Its name, where it is known.
        weights: Of each voxel in the mean of its region, `(z, y, x)`.
        tissues: Fractions of grey and of white matter, `(2, z, y, x)`; None where they are not known.
        original: Affine of the file's own voxel order, where it is NIfTI.
        follow_up_image: Measured image of the follow-up, where it is known, `(z, y, x)`.
    """

    values: Tensor
    image: PETImage
    labels: np.ndarray
    source: str
    synthetic: bool = False
    follow_up: Tensor | None = None
    years: float | None = None
    tracer: str | None = None
    weights: np.ndarray | None = None
    tissues: np.ndarray | None = None
    original: np.ndarray | None = None
    follow_up_image: np.ndarray | None = None


def read_baseline(
    path: Path,
    *,
    index: int | None = None,
    mri: Path | None = None,
    grey_matter: Path | None = None,
    units: str | None = None,
) -> Baseline:
    """Read a baseline.

    Arguments:
        path: A cohort of `infield simulate pet`, a pair or an image of `infield convert pet` (.zarr), or NIfTI.
        index: Subject of a cohort.
        mri: T1-weighted MRI in MNI152, on any grid, of which the tissues are segmented; by default the template's.
        grey_matter: Map of the fractions of grey matter, on the image's grid, in place of an MRI.
        units: Units of a NIfTI image without a sidecar: "SUVR".

    Raises:
        InfieldError: The file is none of these, its values are no SUVR, it is not in MNI152, or a region is outside.
    """
    if not path.exists():
        raise InfieldError(where=path, found="no file there", expected="a baseline", remedy="check the path")
    found = _format(path)
    if found not in (PAIR, "pet-image", "nifti"):
        return _of_cohort(path, index, {"mri": mri, "grey_matter": grey_matter})
    if mri is not None and grey_matter is not None:
        raise InfieldError(where="{mri}", found="a map of grey matter too", expected="one of them",
                           parameters=["mri"])  # fmt: skip
    if index is not None:
        raise InfieldError(
            where="{index}", found=f"{path.name}, one subject", expected="a cohort", parameters=["index"]
        )
    follow_up = years = None
    if found == PAIR:
        image, later, years = read_pair(path)
    else:
        image, later = (read_image(path) if found == "pet-image" else _nifti(path, units)), None
    try:
        _check(image)
        tissues = _tissues(image, mri, grey_matter)
        labels, weights = _regions(image, tissues[0])
        values = _means(image.values, labels, weights)
        if later is not None:
            follow_up = _means(later.values, labels, weights)
    except InfieldError as error:
        raise error.within(path) from error
    tracer = image.facts.get("TracerName")
    return Baseline(
        values,
        image,
        labels,
        path.name,
        False,
        follow_up,
        years,
        None if tracer is None else str(tracer),
        weights=weights,
        tissues=tissues,
        original=_original_affine(path) if found == "nifti" else None,
        follow_up_image=None if later is None else later.values,
    )


def _original_affine(path: Path) -> np.ndarray:
    """The affine of a NIfTI file in its own order of voxels."""
    import nibabel

    return np.asarray(nibabel.load(path).affine, dtype=float)  # type: ignore[attr-defined]


def _format(path: Path) -> str:
    """The format that a path holds: "nifti", that of a zarr group, or "" for none of ours."""
    if path.name.endswith((".nii", ".nii.gz")):
        return "nifti"
    try:
        attributes = xr.open_zarr(path, consolidated=False).attrs
    except (OSError, ValueError, KeyError) as error:
        expected = "a cohort, a pair or an image as zarr, or NIfTI (.nii, .nii.gz)"
        raise InfieldError(where=path, found="another kind of file", expected=expected) from error
    return str(attributes.get("infield_format", ""))


def _nifti(path: Path, units: str | None) -> PETImage:
    """An image in NIfTI: units of the sidecar, of the header as `PETImage.write` leaves them, or as named."""
    sidecar = path.with_name(path.name.split(".nii")[0] + ".json")
    if units is None and not sidecar.is_file():
        import nibabel

        words = bytes(nibabel.load(path).header["descrip"]).decode("latin-1")  # type: ignore[attr-defined,index]
        if not words.startswith(f"{SUVR};"):
            raise InfieldError(
                where=path,
                found="no units",
                expected="SUVR",
                remedy="`infield convert pet` writes them; where it is SUVR, state it: {units}",
                parameters=["units"],
            )
        units = "SUVR"
    file = open_image(path, units=units)
    return file.image()


def _check(image: PETImage) -> None:
    """Refuse what is no SUVR or not in MNI152."""
    if image.units != SUVR:
        raise InfieldError(
            where="units",
            found=f"'{image.units}'",
            expected="SUVR",
            remedy="convert it with `infield convert pet`, to SUVR with a mask and the name of the reference region",
        )
    if image.facts.get("space") != MNI:
        raise InfieldError(
            where="space",
            found="an image that is not marked as MNI152 (sform code 4, or _space-MNI152 in its name)",
            expected="one in MNI152",
            remedy=REGISTRATION,
        )


def _tissues(image: PETImage, mri: Path | None, grey_matter: Path | None) -> np.ndarray:
    """Fractions of grey and white matter on the image's grid, `(2, z, y, x)`; refuse what is no brain in MNI152."""
    template = template_on(image)
    brain = template[2]
    if 0.05 < brain.mean() < 0.95 and image.values.std() > 0:
        alike = float(np.corrcoef(image.values.ravel(), brain.ravel())[0, 1])
        if not alike >= LIKE_A_BRAIN:
            raise InfieldError(
                where="space",
                found=f"a correlation of {alike:.2f} with the brain of MNI152",
                expected=f"at least {LIKE_A_BRAIN:g}",
                remedy=REGISTRATION,
            )
    if mri is not None:
        return tissues_of_mri(mri, image, brain)
    if grey_matter is None:
        return template[:2]
    file = open_image(grey_matter, units="1").image()
    image.check_same_grid(file.affine, file.values.shape, str(grey_matter))
    if not -1e-3 <= file.values.min() <= file.values.max() <= 1.001:
        raise InfieldError(
            where=grey_matter,
            found=f"values from {file.values.min():.3g} to {file.values.max():.3g}",
            expected="fractions of grey matter, 0 to 1",
        )
    return np.stack([file.values, np.minimum(template[1], (1 - file.values).clip(0))])


def _regions(image: PETImage, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Region of each voxel, -1 outside, and its weight in the mean of that region, `(z, y, x)`."""
    shape = image.values.shape
    places = places_of(image)
    labels = np.full(shape, -1)
    seen = grey > GREY
    labels[seen] = nearest_region(places[torch.from_numpy(seen)]).numpy()
    weights = np.where(seen, grey, 0.0)
    total = np.bincount(labels[seen], weights=weights[seen], minlength=len(NAMES))
    outside = [name for name, sum_of in zip(NAMES, total, strict=True) if sum_of == 0]
    if outside:
        raise InfieldError(
            where="field of view",
            found=f"no grey matter of {', '.join(outside)}",
            expected="all regions in the image",
            remedy="is its affine in mm of MNI152?",
        )
    return labels, np.where(seen, weights / total[labels], 0.0)


def _means(values: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Tensor:
    """Weighted mean of each region."""
    seen = labels >= 0
    return torch.from_numpy(
        np.bincount(labels[seen], weights=weights[seen] * values[seen], minlength=len(NAMES)).astype(float)
    )


def _of_cohort(path: Path, index: int | None, maps: Mapping[str, Path | None]) -> Baseline:
    """One subject of a file of `infield simulate pet`; its regional means are those of the file."""
    data = open_simulation(path)
    if "baseline_regions" not in data:
        raise InfieldError(
            where=path, found="no variable baseline_regions", expected="a file of `infield simulate pet`"
        )
    for name, given in maps.items():
        if given is not None:
            raise InfieldError(where=f"{{{name}}}", found="a cohort, which has its own regions", expected="an image",
                               parameters=[name])  # fmt: skip
    count = data.sizes["sample"]
    if index is None or not 0 <= index < count:
        raise InfieldError(
            where=path,
            found="no subject" if index is None else f"subject {index}",
            expected=f"one of 0 to {count - 1}",
            remedy="name it ({index})",
            parameters=["index"],
        )
    one = data.isel(sample=index)
    years = float(one["subject"].values[[str(q) for q in data["quantity"].values].index("years")])
    weights = data["region_weights"].values
    labels = np.where(weights.max(0) > 0, weights.argmax(0), -1)
    axes: list[Any] = [data[name].values for name in ("x", "y", "z")]
    affine = np.diag([*(float(a[1] - a[0]) for a in axes), 1.0])
    affine[:3, 3] = [float(a[0]) for a in axes]
    image = PETImage(one["baseline"].values.astype(float), affine, SUVR, {"space": MNI, "source": path.name})
    values = [torch.from_numpy(one[f"{name}_regions"].values.astype(float)) for name in ("baseline", "follow_up")]
    found = Baseline(values[0], image, labels, f"{path.name}, subject {index}", bool(data.attrs.get("synthetic", 0)))
    known: dict[str, Any] = {"follow_up": values[1], "years": years, "weights": weights.max(0).astype(float)}
    if "grey" in data and "white" in data:
        known["tissues"] = np.stack([one[name].values.astype(float) for name in ("grey", "white")])
    if "follow_up" in data:
        known["follow_up_image"] = one["follow_up"].values.astype(float)
    return replace(found, **known)
