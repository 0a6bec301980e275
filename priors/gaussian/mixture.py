"""A mixture of Gaussian fields with its velocity in closed form: not Gaussian, and its posterior is known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from infield.core.brief import Brief
from infield.core.errors import InfieldError
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.gaussian.prior import GaussianPrior


@dataclass(frozen=True, repr=False)
class MixturePrior(Brief):
    """sum_k w_k N(mu_k, C_k) on standardised fields, all components bridged from one source.

    Arguments:
        components: Gaussian priors that share source, modes and standardisation.
        weights: w_k > 0, shape `(components,)`, summing to one.
    """

    components: tuple[GaussianPrior, ...]
    weights: Tensor

    def __post_init__(self) -> None:
        found, expected = self.weights.tolist(), len(self.components)
        if len(found) != expected or not all(w > 0 for w in found) or abs(sum(found) - 1) > 1e-6:
            raise InfieldError(
                where="mixture prior",
                found=f"weights {found}",
                expected=f"{expected} positive weights that sum to 1, one for each component",
            )
        object.__setattr__(self, "weights", self.weights.to(torch.float64))
        first = self.components[0]
        probe = torch.sin(torch.arange(float(first.mean.numel()), dtype=torch.float64) ** 1.5).reshape(first.mean.shape)

        def shared(component: GaussianPrior) -> tuple[Tensor, ...]:
            units, modes = component.standardisation, component.source.modes.analyse(probe)
            return component.source.diagonal, modes, component.covariance.modes.analyse(probe), units.shift, units.scale

        for component in self.components[1:]:
            if component.mean.shape != first.mean.shape or not all(map(torch.equal, shared(component), shared(first))):
                raise InfieldError(
                    where="mixture prior",
                    found=f"components '{first.name}' and '{component.name}' of other grids, sources, modes or units",
                    expected="the same of all components",
                    remedy="give all of them the same source",
                )

    def about(self) -> dict[str, object]:
        """What a short description shows."""
        return {**self.components[0].about(), "name": repr(self.name), "components": len(self.components)}

    @property
    def name(self) -> str:
        return "mixture of " + ", ".join(component.name for component in self.components)

    @property
    def provenance(self) -> dict[str, Any]:
        parts = [component.provenance for component in self.components]
        return {"kind": "mixture", "weights": self.weights.tolist(), "components": parts}

    @property
    def source(self) -> Covariance:
        return self.components[0].source

    @property
    def standardisation(self) -> Standardisation:
        return self.components[0].standardisation

    @property
    def units(self) -> str | None:
        return self.components[0].units

    @property
    def gaussian(self) -> Literal[False]:
        return False

    @property
    def mean(self) -> Tensor:
        return sum((w * c.mean for w, c in zip(self.weights, self.components, strict=True)), torch.zeros(()).double())

    @property
    def covariance(self) -> Covariance:
        """Covariance of the whole mixture: that within the components plus that of their means."""
        modes, mean = self.source.modes, self.mean
        diagonal = sum(w * c.covariance.diagonal for w, c in zip(self.weights, self.components, strict=True))
        factors = []
        for w, component in zip(self.weights, self.components, strict=True):
            factors.append(w.sqrt() * component.covariance.factors)
            between = modes.analyse(component.mean - mean)
            if between.abs().max() > 0:
                factors.append(w.sqrt() * between[None])
        return Covariance(modes, torch.as_tensor(diagonal), torch.cat(factors))

    def responsibilities(self, x: Tensor, t: float) -> Tensor:
        """Probability of each component given x_t = x, shape `(batch, components)`."""
        logs = [c.bridge(t).log_density(x, c.mean) for c in self.components]
        return torch.softmax(torch.stack(logs, dim=1) + self.weights.log(), dim=1)

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """v(x, t) = sum_k P(k | x_t = x) v_k(x, t), shape `(batch, channel, *space)`."""
        gamma = self.responsibilities(x, t)
        v = torch.zeros_like(x)
        for k, component in enumerate(self.components):
            v += gamma[:, k].reshape(-1, *[1] * (x.ndim - 1)) * component.velocity(x, t)
        return v
