"""What scanners do with counts: MLEM and OSEM by deepinv, and MAP-EM with a quadratic penalty.

A Gaussian filter follows where a width is given, in mm of its full width at half maximum. deepinv's MLEM evaluates the
gradient of a penalty at x A^T(y / ybar) in place of x, and diverges with one; so it is used without, and the penalty
has De Pierro's step.
"""

from __future__ import annotations

import math

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from infield.core._deepinv import LinearPhysics, deepinv
from infield.physics.operators.base import plain_physics
from infield.physics.pet.geometry import ParallelBeam
from infield.physics.pet.projection import Projection
from infield.pipelines.pet.bench.cases import Case

ITERATIONS, SUBSETS, PASSES, FILTER = 30, 10, 2, 6.0
"""Of MLEM; of OSEM; and the filter of OSEM, mm."""

WEIGHT = 0.1
"""Weight of the quadratic penalty of MAP-EM, over the mean sensitivity of a pixel."""

BEST_ITERATIONS = (2, 4, 8, 12, 16, 24, 32, 48)
BEST_FILTERS = (0.0, 8.0, 12.0, 16.0)
BEST_PASSES = (1, 2, 3, 4)
BEST_WEIGHTS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Settings of which the best for the truth is taken."""


class _Emission(LinearPhysics):
    """A projector with background, as deepinv's iterations call it: `A(x, add_background=True)`."""

    def __init__(self, projection: Projection, background: Tensor) -> None:
        super().__init__(**plain_physics())
        self.projection, self.background = projection, background

    def A(self, x: Tensor, add_background: bool = False, **settings: object) -> Tensor:
        y = self.projection.A(x)
        return y + self.background if add_background else y

    def A_adjoint(self, y: Tensor, **settings: object) -> Tensor:
        return self.projection.A_adjoint(y)


def mlem(case: Case, iterations: int = ITERATIONS) -> Tensor:
    """Maximum likelihood by expectation maximisation (Shepp & Vardi 1982), from ones; shape `(y, x)`."""
    model = deepinv.optim.MLEM(max_iter=iterations, eps=1e-12)
    with torch.no_grad():
        return model(case.counts, _Emission(case.emission, case.background))[0, 0]


def osem(case: Case, passes: int = PASSES, subsets: int = SUBSETS) -> Tensor:
    """Ordered subsets (Hudson & Larkin 1994): every subset has angles far apart; shape `(y, x)`."""
    parts, data = [], []
    geometry, grid = case.emission.geometry, case.emission.grid
    assert case.emission.weight is not None
    for k in range(subsets):
        some = ParallelBeam(geometry.angles[k::subsets], geometry.positions)
        parts.append(
            _Emission(Projection(grid, 1, some, case.emission.weight[k::subsets]), case.background[k::subsets])
        )
        data.append(case.counts[:, :, k::subsets])
    model = deepinv.optim.OSEM(num_subsets=subsets, max_iter=passes, eps=1e-12)
    with torch.no_grad():
        return model(deepinv.utils.TensorList(data), deepinv.physics.StackedLinearPhysics(parts))[0, 0]


def map_em(case: Case, weight: float = WEIGHT, iterations: int = 60) -> Tensor:
    """Maximum a posteriori with the penalty beta / 2 sum over neighbours of (x_j - x_k)^2.

    De Pierro, "A modified expectation maximization algorithm for penalized likelihood estimation in emission
    tomography", IEEE TMI 1995: with n_j neighbours, of sum N_j, each pixel solves
    2 n_j beta x^2 + (s_j - beta (n_j x_j + N_j)) x - e_j = 0, e = x A^T(y / ybar), s = A^T 1.
    """
    A, b = case.emission, case.background
    s = A.A_adjoint(torch.ones_like(case.counts))
    beta = weight * s.mean()
    x = torch.ones_like(s)
    n = _neighbours(x)
    for _ in range(iterations):
        e = x * A.A_adjoint(case.counts / (A.A(x) + b))
        half = (s - beta * (n * x + _neighbours(x))) / 2
        root = (half.square() + 2 * n * beta * e).sqrt()
        x = torch.where(half > 0, e / (root + half), (root - half) / (2 * n * beta))
    return x[0, 0]


def filtered(image: Tensor, fwhm: float, pixel: float) -> Tensor:
    """A Gaussian filter of this full width at half maximum, mm."""
    if fwhm == 0:
        return image
    sigma = fwhm / math.sqrt(8 * math.log(2)) / pixel
    return torch.from_numpy(gaussian_filter(image.numpy(), sigma, mode="nearest"))


def best(case: Case) -> dict[str, Tensor]:
    """Each baseline with the stop, filter or weight whose error is least for the truth: out of reach in practice."""
    pixel = case.emission.grid.spacing[0]

    def least(images: list[Tensor]) -> Tensor:
        return min(images, key=lambda image: float((image - case.rate).square().mean()))

    def all_filters(image: Tensor) -> list[Tensor]:
        return [filtered(image, fwhm, pixel) for fwhm in BEST_FILTERS]

    return {
        "mlem best": least([image for n in BEST_ITERATIONS for image in all_filters(mlem(case, n))]),
        "osem best": least([image for n in BEST_PASSES for image in all_filters(osem(case, n))]),
        "map-em best": least([map_em(case, weight) for weight in BEST_WEIGHTS]),
    }


def usual(case: Case) -> dict[str, Tensor]:
    """Each baseline with its usual settings."""
    pixel = case.emission.grid.spacing[0]
    return {
        f"mlem {ITERATIONS}": mlem(case),
        f"osem {PASSES} x {SUBSETS}, {FILTER:g} mm": filtered(osem(case), FILTER, pixel),
        f"map-em {WEIGHT:g}": map_em(case),
    }


def _neighbours(x: Tensor) -> Tensor:
    """Sum over the up to four neighbours of each pixel of x; of ones, their number, if x is 1."""
    total = torch.zeros_like(x)
    total[..., 1:, :] += x[..., :-1, :]
    total[..., :-1, :] += x[..., 1:, :]
    total[..., 1:] += x[..., :-1]
    total[..., :-1] += x[..., 1:]
    return total
