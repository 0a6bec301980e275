"""Regional SUVR of one subject at baseline, from which a bridge predicts: of a cohort, of a pair, or of an image in
MNI152.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from infield.core.errors import InfieldError
from infield.datasets.anatomy.brain_template import load_template
from infield.datasets.formats.simulation import open_simulation
from infield.datasets.pet.brain_regions import NAMES, nearest_region
from infield.datasets.pet.image import MNI, PETImage, read_image
from infield.datasets.pet.pair import FORMAT as PAIR
from infield.datasets.pet.pair import read_pair
from infield.datasets.pet.quantities import SUVR
from infield.datasets.pet.readers.open import open_image

GREY = 1 / 3
"""Least fraction of grey matter of a voxel that counts."""

LIKE_A_BRAIN = 0.4
"""Least correlation of an image in MNI152 with the brain of the template."""

REGISTRATION = (
    "register it: antsRegistrationSyN.sh -d 3 -f mni152_t1.nii.gz -m t1.nii.gz -o to_mni_, then antsApplyTransforms"
)


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
    """

    values: Tensor
    image: PETImage
    labels: np.ndarray
    source: str
    synthetic: bool = False
    follow_up: Tensor | None = None
    years: float | None = None
    tracer: str | None = None


def read_baseline(
    path: Path, *, index: int | None = None, grey_matter: Path | None = None, units: str | None = None
) -> Baseline:
    """Read a baseline.

    Arguments:
        path: A cohort of `infield simulate pet`, a pair or an image of `infield convert pet` (.zarr), or NIfTI.
        index: Subject of a cohort.
        grey_matter: Map of the fractions of grey matter, on the image's grid; by default that of the template.
        units: Units of a NIfTI image without a sidecar: "SUVR".

    Raises:
        InfieldError: The file is none of these, its values are no SUVR, it is not in MNI152, or a region is outside.
    """
    if not path.exists():
        raise InfieldError(where=path, found="no file there", expected="a baseline", remedy="check the path")
    found = _format(path)
    if found not in (PAIR, "pet-image", "nifti"):
        return _of_cohort(path, index, grey_matter)
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
        labels, weights = _regions(image, grey_matter)
        values = _means(image.values, labels, weights)
        if later is not None:
            follow_up = _means(later.values, labels, weights)
    except InfieldError as error:
        raise error.within(path) from error
    tracer = image.facts.get("TracerName")
    return Baseline(values, image, labels, path.name, False, follow_up, years, None if tracer is None else str(tracer))


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


def _regions(image: PETImage, grey_matter: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Region and weight of each voxel, -1 and 0 outside, `(z, y, x)`."""
    shape = image.values.shape
    z, y, x = np.indices(shape)
    places = torch.from_numpy(np.stack([x, y, z, np.ones(shape)], -1) @ image.affine.T[:, :3])
    tissues = load_template("").at(places[None])[:, 0].numpy()
    brain = tissues[2]
    if 0.05 < brain.mean() < 0.95 and image.values.std() > 0:
        alike = float(np.corrcoef(image.values.ravel(), brain.ravel())[0, 1])
        if not alike >= LIKE_A_BRAIN:
            raise InfieldError(
                where="space",
                found=f"a correlation of {alike:.2f} with the brain of MNI152",
                expected=f"at least {LIKE_A_BRAIN:g}",
                remedy=REGISTRATION,
            )
    grey = tissues[0]
    if grey_matter is not None:
        file = open_image(grey_matter, units="1").image()
        image.check_same_grid(file.affine, file.values.shape, str(grey_matter))
        grey = file.values
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
    return labels, weights


def _means(values: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Tensor:
    """Weighted mean of each region."""
    seen = labels >= 0
    place, w = labels[seen], weights[seen]
    sums = [np.bincount(place, weights=w * v, minlength=len(NAMES)) for v in (values[seen], np.ones(len(w)))]
    return torch.from_numpy(sums[0] / sums[1])


def _of_cohort(path: Path, index: int | None, grey_matter: Path | None) -> Baseline:
    """One subject of a file of `infield simulate pet`; its regional means are those of the file."""
    data = open_simulation(path)
    if "baseline_regions" not in data:
        raise InfieldError(
            where=path, found="no variable baseline_regions", expected="a file of `infield simulate pet`"
        )
    if grey_matter is not None:
        raise InfieldError(where="{grey_matter}", found="a cohort, which has its own regions", expected="an image",
                           parameters=["grey_matter"])  # fmt: skip
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
    return replace(found, follow_up=values[1], years=years)
