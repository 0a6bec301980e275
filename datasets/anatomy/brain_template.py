"""The MNI152 template of the human brain: its tissue maps, and how far a place is from the brain.

The files are those that the package nilearn carries (ICBM 2009a nonlinear symmetric, 1 mm; Fonov et al. 2011,
doi:10.1016/j.neuroimage.2010.07.033; Copyright McConnell Brain Imaging Centre, McGill University).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.extras import MissingExtra, require

FILE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"

_COARSE = 2
"""mm between points of the distance, which is smooth."""

_MARGIN = 12
"""Such points by which its volume is larger than the brain's, for what is around a brain."""

_CLOSING = 8.0
"""Radius, mm, of the sulci that the hull bridges."""

_Place = tuple[float, float, float]


@dataclass(frozen=True)
class BrainTemplate:
    """Volumes with axes x to the right, y to the front and z up, in mm of MNI152.

    Arguments:
        tissues: Shares of grey matter, of white matter and of the brain, every mm, `(3, x, y, z)`, float32.
        hull: Distance from the hull of the brain, mm, negative inside, every 2 mm, `(1, x, y, z)`, float32.
        origin: Place of the first voxel of the tissues.
        hull_origin: That of the distance.
    """

    tissues: Tensor
    hull: Tensor
    origin: _Place
    hull_origin: _Place

    def at(self, places: Tensor) -> Tensor:
        """Shares of grey matter, white matter and brain, and the distance from the hull, by trilinear interpolation.

        Arguments:
            places: `(batch, *space, 3)`, mm.

        Returns:
            `(4, batch, *space)`, float64.
        """
        tissues = _trilinear(self.tissues, places, self.origin, 1.0, "zeros")
        return torch.cat([tissues, _trilinear(self.hull, places, self.hull_origin, _COARSE, "border")])


def _trilinear(volumes: Tensor, places: Tensor, origin: _Place, spacing: float, outside: str) -> Tensor:
    sizes = torch.tensor(volumes.shape[1:], dtype=torch.float64)
    index = (places - torch.tensor(origin, dtype=torch.float64)) / spacing
    unit = (2 * index / (sizes - 1) - 1).flip(-1).float()  # grid_sample counts the last axis first
    found = torch.nn.functional.grid_sample(
        volumes[None], unit.reshape(1, 1, 1, -1, 3), align_corners=True, padding_mode=outside
    )
    return found.reshape(len(volumes), *places.shape[:-1]).double()


def template_folder(folder: str = "", extra: str = "mri") -> Path:
    """Where the files are: the folder that is named, or that of the installed nilearn, of the extra that is named.

    Raises:
        InfieldError: They are not there.
    """
    if folder:
        path = Path(folder)
    else:
        spec = importlib.util.find_spec("nilearn")
        places = [] if spec is None else list(spec.submodule_search_locations or [])
        path = Path(places[0], "datasets", "data") if places else Path()
    missing = [FILE.format(name) for name in ("t1", "gm", "wm") if not (path / FILE.format(name)).is_file()]
    if missing:
        found = f"no {missing[0]} in {path}" if folder else "no MNI152 template"
        raise (InfieldError if folder else MissingExtra)(
            where="brain template",
            found=found,
            expected="the one that nilearn carries",
            remedy=f"pip install 'infield[{extra}]', or name a folder with its files ({{template}})",
            parameters=["template"],
        )
    return path


@lru_cache(maxsize=1)
def load_template(folder: str) -> BrainTemplate:
    """Read the template; once a process.

    Arguments:
        folder: Folder of the files; empty for that of nilearn.

    Raises:
        InfieldError: They are not there, damaged or do not belong together, or nibabel is missing.
    """
    path = template_folder(folder)
    nibabel = require("nibabel", "mri", where="brain template")
    values, affines = [], []
    for name in ("t1", "gm", "wm"):
        file = path / FILE.format(name)
        try:
            image = nibabel.load(file)
            values.append(np.asarray(image.dataobj))  # type: ignore[attr-defined]
            affines.append(np.asarray(image.affine))  # type: ignore[attr-defined]
        except Exception as error:  # gzip, zlib and nibabel raise many kinds
            reason = " ".join(str(error).split())
            raise InfieldError(
                where=file, found=f"no readable NIfTI file ({reason})", expected="one", remedy="copy it again"
            ) from None
    if len({v.shape for v in values}) > 1 or not all(np.allclose(a[:3, :3], np.eye(3)) for a in affines):
        raise InfieldError(where=path, found="volumes of different grids", expected="the template at every mm")
    t1, grey, white = values
    brain = scipy.ndimage.gaussian_filter((t1 > 0).astype(np.float32), 0.7).clip(0, 1)
    tissues = np.stack([grey.astype(np.float32) / 255, white.astype(np.float32) / 255, brain])
    x, y, z = (float(v) for v in affines[0][:3, 3])
    wider = _COARSE * _MARGIN
    hull = torch.from_numpy(_hull(t1[::_COARSE, ::_COARSE, ::_COARSE] > 0))[None]
    return BrainTemplate(torch.from_numpy(tissues), hull, (x, y, z), (x - wider, y - wider, z - wider))


def _hull(brain: np.ndarray) -> np.ndarray:
    """Distance, mm, from a coarse brain with its sulci closed, on a volume that is wider by the margin."""
    brain = np.pad(brain, _MARGIN)
    distance = scipy.ndimage.distance_transform_edt
    near = distance(~brain, sampling=_COARSE) <= _CLOSING
    closed = distance(near, sampling=_COARSE) > _CLOSING
    signed = distance(~closed, sampling=_COARSE) - distance(closed, sampling=_COARSE)
    return scipy.ndimage.gaussian_filter(signed.astype(np.float32), 1.5)
