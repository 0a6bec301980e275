"""The Gibbs covariance: a squared exponential whose length varies over the domain (Gibbs 1997; Rasmussen & Williams
2006, eq. 4.32)."""

from __future__ import annotations

import torch
from torch import Tensor


def gibbs_matrix(points: Tensor, lengths: Tensor, *, variance: float = 1.0) -> Tensor:
    r"""Dense covariance of the values at points, shape `(n, n)`, float64.

    .. math:: k(x, x') = \sigma^2 \left(\frac{2 l l'}{l^2 + l'^2}\right)^{d/2}
              \exp\left(-\frac{|x - x'|^2}{l^2 + l'^2}\right)

    Arguments:
        points: Coordinates, shape `(n, d)`.
        lengths: Length l > 0 at each point, shape `(n,)`, in the units of the coordinates.
        variance: Variance of each value.
    """
    points, l = points.to(torch.float64), lengths.to(torch.float64)
    sum_of_squares = l.square()[:, None] + l.square()
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    ratio = 2 * l[:, None] * l / sum_of_squares
    return variance * ratio ** (points.shape[1] / 2) * torch.exp(-distance.square() / sum_of_squares)
