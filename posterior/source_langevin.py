r"""Langevin chains in the source space of a flow: a learned prior, any operator, any noise law, no Gaussian surrogate.

A flow turns its source into data by a deterministic map x_1 = Phi(x_0). Conditioning it is conditioning its source,

    p(x_0 | y) ~ N(x_0; 0, C_0) p(y | A Phi(x_0)),

exactly, whatever the law of x_1 (as in `posterior.source_slice`, whose chains need no derivative and many more steps).
The prior of x_0 is Gaussian, so this is one level of FAPS for the operator A Phi: its data are linearised near the most
probable x_0 (`posterior.linearised`), and Metropolis-corrected steps that this linearisation preconditions
(`posterior.langevin`) draw from the posterior itself. Derivatives go back through the flow, step by step.

Langevin steps in source space under flow priors are those of D-Flow SGLD (Parikh, Chen & Wang 2026, arXiv 2602.21469),
without their preconditioner of past gradients and with the Metropolis correction that they lack.

| paper (Parikh et al.) | here |
| --- | --- |
| z, N(z; 0, I) | x_0, N(0, C_0) |
| Phi, midpoint rollout of 6 steps | Phi, Heun's method, `flow_steps` |
| step eta, preconditioner V | h, adapted; Gamma of the linearised data |

All chains start near one most probable field. Where the data leave several fields far apart they find one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from infield import InfieldError, import_torchvision_first
from infield.physics.linear_operator import plain_physics
from infield.physics.measurement import Measurement
from infield.posterior.faps import ByChains
from infield.posterior.linearised import most_probable
from infield.posterior.sampler import Draws, Sampler
from infield.posterior.source_slice import flow
from infield.posterior.streams import Randomness
from infield.posterior.whitening import Whitening
from infield.priors.prior import Prior

import_torchvision_first()
from deepinv.physics import Physics  # noqa: E402

TOGETHER = 2**17
"""Values of so many fields go through the flow together, which bounds the memory of its derivative."""


@dataclass(frozen=True, kw_only=True)
class SourceLangevin(Sampler):
    """Preconditioned, Metropolis-corrected Langevin chains over the source of a flow prior, one chain a sample.

    Exact for the law of Phi(x_0) once its chains have converged. A step costs 2 flow_steps - 1 velocity calls forth and
    as many back, and the operator forth and back.

    Arguments:
        steps: Steps of each chain.
        rank: Most directions in which the data are linearised.
        flow_steps: Heun steps of Phi.
    """

    steps: int = 120
    rank: int = 128
    flow_steps: int = 8

    method: ClassVar[str] = "source-langevin"

    def __post_init__(self) -> None:
        for name in ("steps", "rank", "flow_steps"):
            if getattr(self, name) < 1:
                raise InfieldError(f"sampler {self.method}: found {name}={getattr(self, name)}, expected at least 1")

    def draw(self, prior: Prior, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        C_0 = prior.source
        Phi = _Flow(prior, self.flow_steps)
        of_source = replace(measurement, operator=_After(measurement.operator, Phi), truth=None)
        mean = torch.zeros((1, *C_0.event_shape), dtype=torch.float64)
        chains = ByChains(of_source, most_probable(of_source, mean, Whitening(C_0), self.rank))
        x_0 = chains.draw(mean.expand(n, *mean.shape[1:]), C_0, self.steps, generator)
        return Draws(Phi(x_0), chains.diagnostics)


@dataclass(frozen=True)
class _Flow:
    """Phi; its derivative keeps one field a step and batch, and computes the velocities again on the way back."""

    prior: Prior
    steps: int
    values: int = TOGETHER

    def __call__(self, x_0: Tensor) -> Tensor:
        return torch.cat([self._of(part) for part in x_0.split(max(self.values // x_0[0].numel(), 1))])

    def _of(self, x_0: Tensor) -> Tensor:
        if not (x_0.requires_grad and torch.is_grad_enabled()):
            return flow(self.prior, x_0, self.steps)
        return checkpoint(flow, self.prior, x_0, self.steps, use_reentrant=False)  # type: ignore[no-any-return]


class _After(Physics):
    """A Phi: the data of the field that a source leads to."""

    name = "after-flow"

    def __init__(self, operator: Physics, flow: _Flow) -> None:
        super().__init__(**plain_physics())
        self.operator, self.flow = operator, flow
        for attribute in ("grid", "channels", "data_shape", "data_grid", "observed"):
            setattr(self, attribute, getattr(operator, attribute, None))

    def A(self, x: Tensor) -> Tensor:
        return self.operator.A(self.flow(x))
