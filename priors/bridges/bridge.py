r"""A bridge from a baseline to a law of follow-ups, by counts that arrive; Brownian bridges are another channel of it.

Of "Delta-Diffusion: Modeling Longitudinal Brain Amyloid-PET Trajectories via Conditional Poisson Diffusion Bridge"
(arXiv:2606.22216) only the abstract could be read: a bridge anchored at the baseline, Poisson perturbation. The
construction here is Infield's own. :math:`x_b` is the baseline, :math:`x_f \ge 0` the follow-up, c the conditions
(baseline, MRI, years). The follow-up is revealed by a channel (`priors.bridges.channels`), in counts

.. math:: B_0 = 0, \qquad B_{\tau+h} - B_\tau \sim \mathrm{Poisson}(h\, x_f), \qquad 0 \le \tau \le T. \tag{1}

Given the past, the next count has the intensity

.. math:: D(B, \tau, c) = E[x_f \mid B_\tau = B, c], \tag{4}

which one network learns, by the mean square or by the Poisson deviance, both of which have (4) as their only minimum.
Draws take steps of a grid :math:`0 < \tau_1 < \dots < \tau_n = T` (the clock), from :math:`B = 0`:

.. math::
    \text{plain:} \quad & B \mathrel{+}= \mathrm{Poisson}(h D), & \text{returned: } D(B_T, T), \tag{5} \\
    \text{compound:} \quad & x \sim \mathrm{Gamma}(D, V),\ B \mathrel{+}= \mathrm{Poisson}(h x),
      & \text{returned: } x \sim \mathrm{Gamma}(D, V) \text{ at } T, \tag{6}

with V the variance of :math:`x_f` given B. Plain steps miss :math:`h^2 V` of the variance of each increment and
converge at first order; compound steps are exact for a Gamma law at any number of steps. A V of low rank beside its
diagonal (`Moments.factors`) is drawn once for each subject and step: few steps need it for regional means.

The baseline enters through D alone: it is the preconditioner (`precondition`) and the picture

.. math:: N_t = \mathrm{Binomial}(n_b, 1 - t) + \mathrm{Binomial}(n_f, t), \tag{7}

counts that leave while others arrive (`bridge_counts`). The counts that left are an input of the sampler, so the only
new information in (7) is the part that arrived, which is B. Not built, on purpose: drawing :math:`x_f` and its counts
anew at each step makes it independent of the last one (standard deviations of .5 to .7 of the right ones), and a
deterministic flow from one baseline has one end (`tests/priors/bridges`, rows in brackets of `infield bench
pet-bridge`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.priors.bridges.channels import Channel, Moments

Steps = Literal["plain", "compound"]


class Denoiser(Protocol):
    """Moments of the target given the state; the mean is equation (4)."""

    def __call__(self, state: Tensor, tau: float, context: Any) -> Moments: ...


@dataclass(frozen=True)
class BridgePrior:
    """A law of follow-ups given a context, from which fields are drawn; it has no Gaussian source and no velocity.

    Arguments:
        channel: Poisson or Brownian.
        denoiser: Moments of the target given B and tau.
        clock: tau_1 < ... < tau_n = T, see `priors.bridges.clocks`.
        steps: Plain or compound, equations (5) and (6).

    Raises:
        InfieldError: The clock does not rise from above 0, or there are no such steps.
    """

    channel: Channel
    denoiser: Denoiser
    clock: Sequence[float]
    steps: Steps = "plain"

    def __post_init__(self) -> None:
        times = [0.0, *self.clock]
        if len(times) < 2 or not all(a < b for a, b in pairwise(times)):
            raise InfieldError(
                where="bridge: clock", found=f"{list(self.clock)!r:.80}", expected="times that rise from 0"
            )
        if self.steps not in ("plain", "compound"):
            raise InfieldError(where="bridge: steps", found=f"{self.steps!r}", expected="plain or compound")

    def corrupt(self, x_f: Tensor, tau: Tensor | float, generator: Generator) -> Tensor:
        """B_tau given the follow-up, equation (1), for training.

        Arguments:
            x_f: Follow-up, `(batch, *event)`.
            tau: A number, or a tensor that broadcasts to it.
            generator: Random numbers.
        """
        return self.channel.draw_increments(x_f, tau, generator)

    def denoise(self, state: Tensor, tau: float, context: Any = None) -> Moments:
        """Mean of the follow-up given B_tau, equation (4), with a covariance where the denoiser has one."""
        return self.denoiser(state, tau, context)

    def states(
        self, state: Tensor, context: Any, generator: Generator, subjects: Tensor | None = None
    ) -> Iterator[tuple[float, Tensor]]:
        """(tau_i, B_i) of all steps after B = `state` at tau = 0; see `sample`."""
        for tau, later in pairwise([0.0, *self.clock]):
            moments = self.denoise(state, tau, context)
            x = moments.mean  # (5)
            if self.steps == "compound":
                x = self.channel.draw_target(moments, generator, subjects)  # (6)
            state = state + self.channel.draw_increments(x, later - tau, generator)
            yield later, state

    def sample(self, like: Tensor, context: Any, generator: Generator, *, subjects: Tensor | None = None) -> Tensor:
        """Draw follow-ups, one for each row; as many calls of the denoiser as steps, and one more.

        Arguments:
            like: Of the shape, precision and device of the draws, `(batch, *event)`; its values are not used.
            context: What the denoiser is conditioned on.
            generator: Random numbers, on the device of `like`.
            subjects: Integers `(batch,)`; rows of one subject share the draw of the factors.

        Returns:
            Shape of `like`.
        """
        with torch.no_grad():
            every = self.states(torch.zeros_like(like), context, generator, subjects)
            ((last, state),) = deque(every, maxlen=1)
            moments = self.denoise(state, last, context)
            if self.steps == "plain":
                return moments.mean
            return self.channel.draw_target(moments, generator, subjects)


def precondition(state: Tensor, tau: Tensor | float, x_b: Tensor, v0: Tensor | float) -> tuple[Tensor, Tensor]:
    r"""The baseline and the counts weighted by their precisions, and the remaining standard deviation:

    .. math:: D = x_b + g (B / \tau - x_b) + \sqrt{v_0 (1 - g)}\, F, \qquad g = v_0 / (v_0 + x_b / \tau). \tag{8}

    At tau = 0 it is the baseline, at large tau the counts. F is what a network adds.

    Arguments:
        state: B, `(batch, *event)`.
        tau: At least 0; a number, or a tensor that broadcasts to it.
        x_b: Baseline, above 0.
        v0: Variance of the change.

    Returns:
        x_b + g (B / tau - x_b) and sqrt(v0 (1 - g)), shapes of `state`.
    """
    g = v0 * tau / (v0 * tau + x_b)
    towards = (v0 * state + x_b * x_b) / (v0 * tau + x_b)  # (1 - g) x_b + g B / tau, without 0 / 0 at tau = 0
    return towards, (v0 * (1 - g)).sqrt()


def bridge_counts(n_b: Tensor, n_f: Tensor, t: float, generator: Generator) -> Tensor:
    """N_t of equation (7): counts of the baseline that have not left, and of the follow-up that have arrived.

    Arguments:
        n_b, n_f: Counts of baseline and follow-up, of one shape.
        t: From 0, the baseline's counts, to 1, the follow-up's.
        generator: Random numbers.
    """
    stay, come = (torch.full_like(n_b, p) for p in (1 - t, t))
    return torch.binomial(n_b, stay, generator=generator) + torch.binomial(n_f, come, generator=generator)
