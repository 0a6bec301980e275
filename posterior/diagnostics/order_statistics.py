"""Central intervals of few draws that hold a new one with exactly the stated probability.

Of n exchangeable draws and one more, the ranks are equally likely: the k-th smallest and the k-th largest hold the new
one between them with probability (n + 1 - 2 k) / (n + 1), whatever the law. Interpolated quantiles do not: between the
5 and 95 % quantiles of 24 draws lie 0.828 of new ones.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from torch import Tensor

from infield.core.errors import InfieldError

ORDER_STATISTICS: Literal["weibull"] = "weibull"
"""Method of `numpy.quantile` whose quantile p of n draws lies at rank p (n + 1), within the draws."""


def largest_probability(n: int) -> float:
    """Probability that a new draw lies between the least and the largest of n."""
    return (n - 1) / (n + 1)


def order_interval(draws: Tensor, level: float = 0.9) -> tuple[Tensor, Tensor, Fraction]:
    """Central interval of at least a level, by order statistics.

    Arguments:
        draws: Shape `(n, ...)`.
        level: Least probability.

    Returns:
        Low and high end, shape `(...)`, and the exact probability; 19 draws give 0.9 by their least and largest.

    Raises:
        InfieldError: The draws are too few: even the least and the largest hold a new one more rarely.
    """
    n = len(draws)
    k = int((1 - Fraction(str(level))) * (n + 1) / 2)
    if not 0 < level < 1 or k < 1:
        needed = -(-2 // (1 - Fraction(str(level)))) - 1 if 0 < level < 1 else 0
        raise InfieldError(
            where=f"interval of {level:g}",
            found=f"{n} draws",
            expected=f"at least {needed}" if needed else "a level between 0 and 1",
            remedy="draw more ({samples})",
            parameters=["samples"],
        )
    ordered = draws.sort(dim=0).values
    return ordered[k - 1], ordered[n - k], Fraction(n + 1 - 2 * k, n + 1)
