"""Have Markov chains converged? Rank-normalised split R-hat and effective sample size, from arviz-stats.

Definitions: Vehtari, Gelman, Simpson, Carpenter & Buerkner 2021, "Rank-normalization, folding, and localization: an
improved R-hat" (Bayesian Analysis 16, 667). Chains are trusted where R-hat < 1.01 and the bulk effective sample size of
all chains together exceeds 100 a chain.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from infield.core.errors import InfieldError


def r_hat(chains: Tensor) -> Tensor:
    """Split R-hat of every value: the larger of that of its normalised ranks and that of its folded values.

    The ranks detect chains of different location, the folded values chains of different scale.

    Arguments:
        chains: Shape `(chain, draw, *event)`, at least 4 draws.

    Returns:
        Shape `(*event)`, about 1 where all chains sample one law, and larger where they do not; NaN for a value that
        never changes.
    """
    return _of_each_value("rhat", chains, method="rank")


def effective_sample_size(chains: Tensor) -> Tensor:
    """Bulk effective sample size of every value: how many independent draws all chains together are worth for its mean.

    Arguments:
        chains: Shape `(chain, draw, *event)`, at least 4 draws.

    Returns:
        Shape `(*event)`; at most m log10(m) for m draws of all chains together.
    """
    return _of_each_value("ess", chains, method="bulk")


def _of_each_value(statistic: str, chains: Tensor, **options: Any) -> Tensor:
    from arviz_stats.base import array_stats  # half a second, of which samplers that run no chain need nothing

    if chains.ndim < 2 or chains.shape[1] < 4:
        raise InfieldError(
            where="convergence of chains",
            found=f"draws of shape {tuple(chains.shape)}",
            expected="(chain, draw, *event) with at least 4 draws a chain",
        )
    values = chains.reshape(*chains.shape[:2], -1).numpy(force=True)
    found = getattr(array_stats, statistic)(values, chain_axis=0, draw_axis=1, **options)
    return torch.as_tensor(found, dtype=torch.float64).reshape(chains.shape[2:])
