r"""Grids of tau in which a bridge is walked, :math:`0 < \tau_1 < \dots < \tau_n = T`.

A Brownian bridge is usually written in t from 0 (baseline) to 1 (follow-up); :math:`\tau = t / (1 - t)`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from infield.core.errors import InfieldError


def geometric_clock(first: float, last: float, steps: int) -> tuple[float, ...]:
    """From `first`, about 0.05 over the variance of a region's mean change, to `last`, where the counts alone resolve a
    voxel, in equal ratios.

    Raises:
        InfieldError: They do not rise from above 0, or there are fewer than 2 steps.
    """
    if not 0 < first < last or steps < 2:
        raise InfieldError(
            where="clock of a bridge",
            found=f"from {first!r} to {last!r} in {steps} steps",
            expected="numbers that rise from above 0, and 2 steps at least",
        )
    grid = torch.logspace(0, 1, steps, base=last / first, dtype=torch.float64) * first
    return (*grid[:-1].tolist(), last)


def uniform_clock(last: float, steps: int) -> tuple[float, ...]:
    """Equal steps to `last`: far from enough early ones where the variance of the change is above a few over `last`."""
    return tuple(last * (i + 1) / steps for i in range(steps))


def brownian_clock(steps: int) -> tuple[float, ...]:
    """Equal steps in t = tau / (1 + tau), the last one left out: at t = 1 the state is the denoiser's mean."""
    return tuple(t / (1 - t) for t in ((i + 1) / steps for i in range(steps - 1)))


def schedule_clock(variances: Sequence[float]) -> tuple[tuple[float, ...], float]:
    r"""A noise schedule of I2SB (Liu et al. 2023, arXiv:2302.05872) as a clock of the Brownian channel.

    With :math:`\sigma_t^2 = \int_0^t \beta` from the clean end and :math:`\bar\sigma_t^2 = \int_t^1 \beta`, their
    q(x_t | x_0, x_1) has the mean :math:`(\bar\sigma^2 x_0 + \sigma^2 x_1) / s^2` and the variance
    :math:`\sigma^2 \bar\sigma^2 / s^2`, :math:`s^2 = \sigma^2 + \bar\sigma^2`: the Brownian bridge of equation (3) at
    the time :math:`\bar\sigma^2 / s^2`. Hence any schedule is a clock.

    Arguments:
        variances: beta times the step, of each step, from the clean end to the corrupted one, in squared units of the
            field; at least 2, above 0.

    Returns:
        The clock, without its last time (tau is infinite there), and s.
    """
    beta = torch.as_tensor(variances, dtype=torch.float64)
    if beta.ndim != 1 or len(beta) < 2 or not (beta > 0).all():
        raise InfieldError(
            where="schedule of a bridge", found=f"{list(variances)!r:.80}", expected="2 variances above 0"
        )
    walked = beta.flip(0).cumsum(0)
    t = walked[:-1] / walked[-1]
    return tuple((t / (1 - t)).tolist()), float(walked[-1].sqrt())
