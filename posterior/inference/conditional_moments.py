r"""Mean and covariance of x_1 given x_t under any prior, by the flow's own Jacobian.

With m(x) = E[x_1 | x_t = x] = x + (1 - t) v(x, t), the second moment of Tweedie's formula is

    V(x) = Cov(x_1 | x_t = x) = ((1 - t)^2 / t) (dm/dx) C_0 = ((1 - t)^2 / t) C_0 (dm/dx)^T,    0 < t < 1,

so that V b for a field b costs one vector-Jacobian product. Gaussian and mixture priors have V in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from infield.priors.base import FlowPrior, denoise


@dataclass
class ConditionalMoments:
    """m(x) and V(x) b_j for some fields b_j.

    Arguments:
        prior: The prior.
        fields: b_j, shape `(fields, channel, *space)`.
    """

    prior: FlowPrior
    fields: Tensor
    jacobian_products: int = field(default=0, init=False)
    """Vector-Jacobian products so far, one a field x and b_j."""

    def at(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """The law at 0 < t < 1.

        Returns:
            m, shape `(batch, channel, *space)`, and V b_j, shape `(batch, fields, channel, *space)`.
        """
        if getattr(self.prior, "components", None) is not None:  # None: of slices whose closed form is not known
            return denoise(self.prior, x, t), self._closed_form(x, t)
        return self._by_jacobian(x, t)

    def _by_jacobian(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        n, factor = len(self.fields), (1 - t) ** 2 / t
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            m = denoise(self.prior, x, t)
            inner = m.flatten(1) @ self.fields.flatten(1).mT
            products = [torch.autograd.grad(inner[:, j].sum(), x, retain_graph=j + 1 < n)[0] for j in range(n)]
        self.jacobian_products += n * len(x)
        V = torch.stack([factor * self.prior.source.apply(product) for product in products], dim=1)
        return m.detach(), V

    def _closed_form(self, x: Tensor, t: float) -> Tensor:
        r"""sum_k gamma_k (V_k + (m_k - m)(m_k - m)^T) b for responsibilities gamma of the components."""
        components = self.prior.components  # type: ignore[attr-defined]
        flat = self.fields.flatten(1)
        if len(components) == 1:
            V = components[0].bridge(t).conditional().apply(self.fields)
            return V.expand(len(x), *V.shape)
        gamma = self.prior.responsibilities(x, t)  # type: ignore[attr-defined]
        means = torch.stack([denoise(component, x, t).flatten(1) for component in components], dim=1)
        m = torch.einsum("nk,nkx->nx", gamma, means)
        V = x.new_zeros((len(x), *flat.shape))
        for k, component in enumerate(components):
            within = component.bridge(t).conditional().apply(self.fields).flatten(1)
            between = means[:, k] - m
            V += gamma[:, k, None, None] * (within + (between @ flat.mT)[:, :, None] * between[:, None, :])
        return V.reshape(len(x), *self.fields.shape)
