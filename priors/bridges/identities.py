r"""Identities of the Poisson channel: Tweedie's formulas for counts (first: Robbins 1956, "An empirical Bayes approach
to statistics"). With :math:`p_\tau` the marginal of :math:`B_\tau` and D of equation (4),

.. math::
    E[x_i \mid B] &= \frac{B_i + 1}{\tau} \frac{p_\tau(B + e_i)}{p_\tau(B)}, \tag{9} \\
    \mathrm{Cov}(x_i, x_j \mid B) &= D_i(B) \bigl( D_j(B + e_i) - D_j(B) \bigr). \tag{10}

They test any D, a trained one too: (10) must be symmetric, with a diagonal that is not negative. It costs a call of D
for each value, so that it is for regions and not for voxels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def mean_from_marginal(log_marginal: Callable[[Tensor], Tensor], counts: Tensor, tau: float) -> Tensor:
    """Equation (9): E[x | B] from the marginal of the counts alone.

    Arguments:
        log_marginal: log p_tau of counts `(batch, values)`, shape `(batch,)`.
        counts: B, `(batch, values)`.
        tau: Above 0.

    Returns:
        Shape of `counts`.
    """
    here = log_marginal(counts)
    one = torch.eye(counts.shape[1], dtype=counts.dtype, device=counts.device)
    more = torch.stack([log_marginal(counts + e) for e in one], dim=1)
    return (counts + 1) / tau * (more - here[:, None]).exp()


def covariance_from_mean(mean: Callable[[Tensor], Tensor], counts: Tensor) -> Tensor:
    """Equation (10): Cov(x | B) from the mean alone.

    Arguments:
        mean: D of counts `(batch, values)`, the same shape.
        counts: B, `(batch, values)`.

    Returns:
        `(batch, values, values)`; symmetric where D is a conditional mean.
    """
    here = mean(counts)
    one = torch.eye(counts.shape[1], dtype=counts.dtype, device=counts.device)
    more = torch.stack([mean(counts + e) for e in one], dim=1)  # [b, i, j] = D_j(B + e_i)
    return here[:, :, None] * (more - here[:, None, :])
