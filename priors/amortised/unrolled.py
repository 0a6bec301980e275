r"""An unrolled network, as a file holds it: a few steps of a learned denoiser, each followed by the data's own step.

"MoDL: Model-Based Deep Learning Architecture for Inverse Problems" (Aggarwal, Mani & Jacob 2019, arXiv:1712.02862):

.. math:: z_k = D(x_k),   x_{k+1} = \mathrm{argmin}_x |A x - y|^2 + \lambda |x - z_k|^2,

k = 0 ... K - 1, with one network D for all k. Trained on the square error it estimates the posterior mean, and nothing
else: it is one field, without a spread.

| paper | here |
| --- | --- |
| x_0 = A^H y | the data's step from zero, the prior mean |
| lambda, one number | s^2 / v_k: s the noise of the data, v_k learned, the variance of what D leaves open |
| D(x_k), of x_k alone | x_k + network(x_k; x_0, A^T A 1; k / K, s): conditioned on the data, the step and the noise |

deepinv's `MoDL` is this loop with weights that do not depend on the noise, and an unconditioned network; a test
holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from infield.core.registry import StoredKind, entry_key
from infield.priors.amortised.average_velocity import HALF_NOISE, conditions
from infield.priors.amortised.base import AmortisedModel, arguments_from_entry, entry_of, network_of
from infield.priors.storage.checkpoint import load_checkpoint

KIND = "unrolled"
ENTRY = entry_key(KIND)
VERSION = 1

LEAST_NOISE = 1e-3
"""Noise of exact data, in standard deviations of the field: what the data's step divides by is never zero."""


class _DataStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, gamma: Tensor, operator: Any, y: Tensor) -> Tensor:
        x = operator.prox_l2(z, y, gamma)
        ctx.operator, ctx.y = operator, y
        ctx.save_for_backward(x, gamma)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, gamma), (operator, y), (g,) = ctx.saved_tensors, (ctx.operator, ctx.y), gradients
        v = operator.prox_l2(g, torch.zeros_like(y), gamma)  # (1 + gamma A^T A)^-1 g
        return v, (v * operator.A_adjoint(y - operator.A(x))).sum(), None, None


def data_step(operator: Any, z: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
    """The proximal step of the data, x = (1 + gamma A^T A)^-1 (z + gamma A^T y), by the operator's own `prox_l2`.

    Its derivatives in z and gamma are one more such step, whatever conjugate gradients that takes: nothing of them is
    kept for the way back.

    Arguments:
        operator: A.
        z: Shape `(batch, channel, *space)`.
        y: Data, shape `(batch, *data)`.
        gamma: Weight of the data, positive, without axes.
    """
    return _DataStep.apply(z, gamma, operator, y)


@dataclass(frozen=True, kw_only=True, repr=False)
class Unrolled(AmortisedModel):
    """The posterior mean, approximately, of fields of a family of measurements. Arguments as `AmortisedModel`, and:

    Arguments:
        variances: v_0 ... v_K, in standardised units; as many steps as there are numbers but one.
    """

    variances: Tensor

    papers: ClassVar[tuple[str, ...]] = ("aggarwal2019modl",)
    what: ClassVar[str] = "an unrolled network"
    sampler: ClassVar[str] = "unrolled"
    evaluation: ClassVar[str] = "correction"

    def estimate(
        self,
        operator: Any,
        y: Tensor,
        noise: float,
        *,
        bare: Any = None,
        unit: float = 1.0,
        variances: Tensor | None = None,
    ) -> Tensor:
        """x_K, shape `(batch, channel, *space)`, standardised.

        Arguments:
            operator: Operator from standardised fields to data.
            y: Data, shape `(batch, *data)`, 0 where nothing is observed.
            noise: Standard deviation of the data's noise, in their units.
            bare: The operator from standardised fields to standardised data; `operator` where data have no units.
            unit: Ratio of the data of `operator` to those of `bare`.
            variances: In place of its own, in training.
        """
        v = (self.variances if variances is None else variances).to(y)
        K, s = len(v) - 1, max(noise / unit, LEAST_NOISE)
        start = y.new_zeros((len(y), *self.event_shape))  # the prior mean
        x = data_step(operator, start, y, v[0] / (s * unit) ** 2)
        seen = conditions(bare or operator, x)
        for k in range(K):
            z = x + self.correction(x, seen, k / K, s)  # D(x_k)
            x = data_step(operator, z, y, v[k + 1] / (s * unit) ** 2)  # lambda = s^2 / v
        return x

    def correction(self, x: Tensor, seen: Tensor, step: float, noise: float) -> Tensor:
        """D(x) - x, shape of x.

        Arguments:
            x: Fields, shape `(batch, channel, *space)`.
            seen: Conditioning channels, shape `(batch, 2 channel, *space)`, see `average_velocity.conditions`.
            step: k / K.
            noise: Standard deviation of the noise in standardised units.
        """
        weight = next(self.network.parameters())
        numbers = weight.new_tensor([step, noise / (noise + HALF_NOISE)]).expand(len(x), 2)
        return self.network(torch.cat([x, seen], dim=1).to(weight), numbers).to(x)


def to_entry(model: Unrolled, weights: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """Return the checkpoint entry. Arguments as `entry_of`."""
    return {"version": VERSION, **entry_of(model, weights), "variances": model.variances.detach().cpu()}


def from_entry(entry: Mapping[str, Any], network: nn.Module | None = None, *, sha256: str = "") -> Unrolled:
    """The inverse of `to_entry`.

    Arguments:
        entry: Result of `to_entry`.
        network: A network to use as it is; without one it is built and gets the stored weights.
        sha256: Digest of the file.
    """
    network = network_of(entry) if network is None else network
    return Unrolled(**arguments_from_entry(entry), network=network, variances=entry["variances"], sha256=sha256)


def load_unrolled(path: str | Path, device: torch.device | str = "cpu") -> Unrolled:
    """Load an unrolled network from its checkpoint; no other file is needed, and nothing in it is executed.

    Arguments:
        path: A checkpoint of `infield fit`, or the slim file that it leaves beside it (`unrolled.ckpt`).
        device: Device of the network.

    Raises:
        InfieldError: As `read_entry`; or a part is missing or of another shape.
    """
    model: Unrolled = load_checkpoint(path, KIND, device)
    return model


STORED = StoredKind(KIND, VERSION, to_entry, from_entry, placement="training grid")
