r"""Total variation across the slices of a volume, and its ADMM with variables that outlive a sweep.

Chung, Ryu, McCann, Klasky & Ye 2023, "Solving 3D Inverse Problems using Pre-trained 2D Diffusion Models" (arXiv
2211.10655, DiffusionMBIR): slices come from a prior of slices, and neighbours are tied to each other in the step that
fits the data,

    min_x -log p(y | x) + |x - c|^2 / (2 v) + lambda |D_z x|_1,

with D_z the differences along z, and an anchor c where v is finite. One sweep of ADMM is

    x <- steps of conjugate gradients on
         (A^T R^{-1} A + rho D_z^T D_z + 1/v) x = A^T R^{-1} y + rho D_z^T (d - w) + c / v,
    d <- shrink(D_z x + w, lambda / rho),    w <- w + D_z x - d.

d and w are kept from one sweep to the next, through all levels of a sampler, which is what makes a single sweep a level
enough (section 3.3, "variable sharing").

The volume ends where its slices end: D_z has one row less than there are slices (Neumann boundary), where the authors'
code joins the last slice to the first. Their quadratic has R = 1: their lambda and rho are sigma^2 times ours.

Total variation stands for an unknown distribution of neighbours, and the anchor for a law of the estimate: what
comes out is a good estimate, and its spread is too small.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.measurement import Measurement
from infield.posterior.inference.conjugate_gradients import conjugate_gradient_steps
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.priors.base import FlowPrior

CAVEAT = (
    "slices are tied by a penalty, not by a law that was learned: a good estimate of the volume, but the spread of its "
    "samples is too small for a posterior"
)
"""Caveat of samplers of this kind."""


def difference(x: Tensor) -> Tensor:
    """D_z x, shape `(batch, channel, z - 1, *space)`, of volumes `(batch, channel, z, *space)`."""
    return x[:, :, 1:] - x[:, :, :-1]


def difference_adjoint(d: Tensor) -> Tensor:
    """D_z^T d, shape `(batch, channel, z, *space)`, of differences `(batch, channel, z - 1, *space)`."""
    end = d.new_zeros((*d.shape[:2], 1, *d.shape[3:]))
    return torch.cat([end, d], dim=2) - torch.cat([d, end], dim=2)


def shrink(x: Tensor, threshold: float) -> Tensor:
    """argmin_d threshold |d|_1 + |d - x|^2 / 2, value by value: x drawn towards 0 by the threshold."""
    return x.sign() * (x.abs() - threshold).clamp_min(0.0)


@dataclass
class SliceTotalVariation:
    """The data and the total variation of a batch of volumes, and what ADMM keeps.

    Arguments:
        data: Linear data with Gaussian noise, of volumes `(channel, z, *space)`.
        tv: lambda, per standardised unit of a difference; 0 leaves the slices to themselves.
        penalty: rho > 0.
    """

    data: LinearGaussianData
    tv: float = 0.0
    penalty: float = 1.0
    d: Tensor = field(init=False)
    w: Tensor = field(init=False)

    def __post_init__(self) -> None:
        y = self.data.measurement.y
        zero = y.new_zeros((1, *self.data.measurement.event_shape))
        self.d = self.w = difference(zero)
        self._right = self.data.adjoint(self.data.noise.solve(self.data.misfit(zero)))

    @property
    def curvature(self) -> float:
        """Information of a datum on the field: the Rayleigh quotient of A^T R^{-1} A at A^T R^{-1} y."""
        square = float(self._right.square().sum())
        return float((self._right * self.precision(self._right)).sum()) / square if square > 0 else 1.0

    def precision(self, x: Tensor) -> Tensor:
        """A^T R^{-1} A x, shape of x."""
        A = self.data.measurement.operator.A
        return self.data.adjoint(self.data.noise.solve(self.data.mask_unobserved(A(x))))

    def sweep(self, x: Tensor, steps: int, *, anchor: Tensor | None = None, variance: float = 1.0) -> Tensor:
        """One sweep from x.

        Arguments:
            x: Volumes, shape `(batch, channel, z, *space)`: where conjugate gradients start.
            steps: Of conjugate gradients.
            anchor: c, shape of x; None for none.
            variance: v.
        """
        rho, tv = self.penalty, self.tv > 0
        right = self._right
        if tv:
            right = right + rho * difference_adjoint(self.d - self.w)
        if anchor is not None:
            right = right + anchor / variance

        def hessian(p: Tensor) -> Tensor:
            h = self.precision(p)
            h = h + rho * difference_adjoint(difference(p)) if tv else h
            return h if anchor is None else h + p / variance

        x = conjugate_gradient_steps(hessian, right.expand_as(x), x, steps)
        if tv:
            Dx = difference(x)
            self.d = shrink(Dx + self.w, self.tv / rho)
            self.w = self.w + Dx - self.d
        return x


def across_slices(
    method: str, prior: FlowPrior, measurement: Measurement, tv: float, penalty: float
) -> SliceTotalVariation:
    """The data of a measurement of a volume; refused where it is of something else, or not linear and Gaussian."""
    if len(measurement.event_shape) != 4:
        raise InfieldError(
            where=f"sampler {method}",
            found=f"a field of {len(measurement.event_shape) - 1} axes",
            expected="a volume (z, y, x) and a prior of its slices",
        )
    if not measurement.linear_gaussian:
        raise InfieldError(
            expected="a linear operator and Gaussian noise",
            where=f"sampler {method}",
            remedy="use {sampler}",
            parameters={"sampler": "faps"},
        )
    return SliceTotalVariation(LinearGaussianData(measurement, prior.source.modes), tv, penalty)
