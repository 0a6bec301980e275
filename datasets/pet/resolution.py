"""One resolution for images of two scanners: smoothing to the coarser one, and what it costs."""

from __future__ import annotations

import math

import numpy as np
import scipy.ndimage

from infield.core.errors import InfieldError
from infield.datasets.pet.image import PETImage


def at_resolution(image: PETImage, own: float, wanted: float) -> PETImage:
    """Smooth an image to a wider point spread; widths at half maximum of Gaussians add in squares.

    Arguments:
        image: Of any quantity; ratios (SUVR) should be taken afterwards, since the reference region is smoothed too.
        own: Full width at half maximum of its point spread, mm.
        wanted: That of the result, mm.

    Raises:
        InfieldError: The widths are not above 0, or the wanted one is the narrower: smoothing takes nothing back.
    """
    if not 0 < own <= wanted < 100:
        raise InfieldError(
            where="resolution",
            found=f"{wanted:g} mm from an image of {own:g} mm",
            expected="a width of at least the image's own, above 0 and below 100 mm",
            remedy="smoothing only widens: choose the coarser of the two scanners",
        )
    kernel = math.sqrt(wanted**2 - own**2) / math.sqrt(8 * math.log(2))
    sigma = [kernel / size for size in image.voxel]
    values = scipy.ndimage.gaussian_filter(image.values, sigma, mode="nearest")
    return image.with_values(values, image.units, resolution=wanted, smoothed_from=own)


def cost(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Relative changes by smoothing: of the mean inside a mask, which is its bias by spill-over, and of the standard
    deviation inside it.

    Arguments:
        before, after: Images `(z, y, x)`.
        mask: Bool, of the same shape.
    """
    first, second = before[mask], after[mask]
    spread = float(second.std() / first.std() - 1) if first.std() > 0 else 0.0
    return float(second.mean() / first.mean() - 1), spread
