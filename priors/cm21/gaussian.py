r"""Gaussian 21 cm lightcones with the right mean and spectra at given parameters: the baseline without a network.

Across, a lightcone is statistically homogeneous and periodic; along the line of sight it evolves. So a
Gaussian one is a mean m(z) and, for every wavenumber across, a covariance between slices:

.. math:: T_k(z) = \sum_{z'} L_{|k|}(z, z') \, \xi_k(z'), \qquad L L^T = C_{|k|}(z, z') = E[T_k(z) T_k(z')^*],

with T_k the Fourier transform of a slice, :math:`(n_x n_y)^{-1/2} \sum_x T e^{-ikx}`, C real (by mirror symmetry) and
one for each ring of wavenumbers: a spectrum in k_perp and, as it evolves, along the line of sight, without any chunk.
Its mean and its C at parameters theta are those of the cones of training, by *local linear regression* (Cleveland 1979,
"Robust locally weighted regression", without the robust part): the value at theta of the plane that fits the K nearest
cones best, the farther ones with less weight (tricube). That is a weighted sum over these cones,

.. math:: m = \sum_i w_i s_i, \qquad C_{|k|} = \sum_i w_i \, \langle T_{i,k} T_{i,k}^* \rangle_{|k|},

with s_i the sky mean of cone i, w summing to 1, and parameters in units of their range. K is chosen by leave-one-out
prediction of the sky means. Where far cones get negative weights, C may lose a little of its positivity: its negative
eigenvalues are set to 0, and each slice is brought back to its variance. The covariance of the sky mean itself (k = 0)
is that of the residuals of left-out cones, s_i - m_(i), each over 1 + |w_(i)|^2, the variance that its prediction adds.

*Limitations*: a Gaussian field is nowhere exactly 0, so that no voxel is fully ionised as in a simulation; and its
temperatures exceed the physical range.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.spectra import Bins, wavenumbers
from infield.priors.random_fields.spectral import White

NEAREST = (8, 12, 16, 24, 32, 48, 64, 96)
"""Candidates for K."""


@dataclass(frozen=True)
class GaussianLightcones:
    """The distribution at one point of parameter space.

    Arguments:
        mean: mK, shape `(los,)`.
        factors: L of each ring of wavenumbers, the first that of k = 0, mK, shape `(rings, los, los)`.
        rings: Index of the ring of each mode of a slice, shape `(x, y)`.
    """

    mean: Tensor
    factors: Tensor
    rings: Tensor

    def draw(self, white: White) -> Tensor:
        """Temperatures in mK, shape `(n, x, y, los)`, float32; of n what `white` gives."""
        noise = torch.fft.fft2(white((*self.rings.shape, len(self.mean))).float(), dim=(1, 2), norm="ortho")
        modes = torch.empty_like(noise)
        for ring, factor in enumerate(self.factors.float()):
            own = self.rings == ring
            modes[:, own] = torch.complex(noise[:, own].real @ factor.T, noise[:, own].imag @ factor.T)
        return self.mean.float() + torch.fft.ifft2(modes, dim=(1, 2), norm="ortho").real


@dataclass(frozen=True)
class LocalRegression:
    """Weights of cones at any point of the parameters.

    Arguments:
        parameters: Parameters of the training lightcones, shape `(cones, parameters)`.
        nearest: K.
    """

    parameters: Tensor
    nearest: int

    def weights(self, point: Tensor, without: int | None = None) -> Tensor:
        """w at `point`, shape `(cones,)`: of sum 1, and exact for whatever is linear in the parameters.

        Arguments:
            point: Shape `(parameters,)`.
            without: A cone that is left out.
        """
        span = self.parameters.amax(0) - self.parameters.amin(0)
        away = (self.parameters - point) / torch.where(span > 0, span, torch.ones_like(span))
        distance = away.norm(dim=1)
        if without is not None:
            distance[without] = torch.inf
        among = min(self.nearest, int(torch.isfinite(distance).sum()))
        reach = 1.001 * distance.kthvalue(among).values + 1e-9  # so that the K-th itself counts a little
        root = (1 - (distance / reach).clamp(max=1) ** 3).clamp(min=0) ** 1.5  # of the tricube
        plane = torch.cat([torch.ones_like(distance)[:, None], away], dim=1)
        return torch.linalg.pinv(root[:, None] * plane, rtol=1e-6)[0] * root

    def left_out(self, values: Tensor, i: int) -> tuple[Tensor, float]:
        """Return the prediction of cone i's `values` from the others, and |w|^2."""
        weights = self.weights(self.parameters[i], without=i)
        return weights @ values, float(weights.square().sum())


def fit_local_regression(parameters: Tensor, means: Tensor) -> LocalRegression:
    """The regression with the number of cones that predicts left-out sky means best.

    Arguments:
        parameters: Shape `(cones, parameters)`.
        means: Sky means in mK, shape `(cones, los)`.

    Raises:
        InfieldError: There are too few cones.
    """
    cones, dimensions = parameters.shape
    if cones < dimensions + 3:
        raise InfieldError(
            where="Gaussian lightcones",
            found=f"{cones} cones of training",
            expected=f"at least {dimensions + 3} for {dimensions} parameters",
        )
    found = {}
    for nearest in [k for k in NEAREST if dimensions + 2 < k < cones] or [cones - 1]:
        regression = LocalRegression(parameters, nearest)
        predicted = torch.stack([regression.left_out(means, i)[0] for i in range(cones)])
        found[nearest] = float((predicted - means).square().mean())
    return LocalRegression(parameters, min(found, key=lambda nearest: found[nearest]))


def gaussian_lightcones(
    regression: LocalRegression, means: Tensor, cone: Callable[[int], Tensor], point: Tensor
) -> GaussianLightcones:
    """The law at a point.

    Arguments:
        regression: Over the cones of training.
        means: Their sky means in mK, shape `(cones, los)`.
        cone: Temperatures of one of them by its number, mK, shape `(x, y, los)`; only near ones are requested.
        point: Parameters, shape `(parameters,)`.
    """
    weights = regression.weights(point)
    near = [int(i) for i in torch.nonzero(weights)[:, 0]]
    shape, depth = cone(near[0]).shape[:2], means.shape[1]
    bins = _rings(shape[0], shape[1])
    rings, covariance = bins.index, torch.zeros(bins.count, depth, depth, dtype=torch.float64)
    total = 0.0
    for i in near:
        modes = torch.fft.fft2(cone(i).to(torch.float32), dim=(0, 1), norm="ortho")
        for ring in range(1, len(covariance)):
            own = torch.view_as_real(modes[rings == ring]).movedim(2, 1)  # modes, real and imaginary part, los
            covariance[ring] += weights[i] / len(own) * (own.flatten(0, 1).T @ own.flatten(0, 1))
        predicted, spread = regression.left_out(means, i)
        residual = means[i] - predicted
        covariance[0] += weights[i].abs() * math.prod(shape) / (1 + spread) * torch.outer(residual, residual)
        total += float(weights[i].abs())
    covariance[0] /= total
    return GaussianLightcones(weights @ means, torch.stack([_factor(c) for c in covariance]), rings)


def _rings(nx: int, ny: int) -> Bins:
    """Rings of wavenumbers of the modes of a slice `(x, y)`, one first wavenumber wide; ring 0 is k = 0 alone."""
    return Bins.nearest(max(nx, ny) * wavenumbers((nx, ny)), 1.0).without_empty()


def _factor(covariance: Tensor) -> Tensor:
    """L with L L^T the nearest positive matrix, each row then brought to the variance of its slice."""
    values, vectors = torch.linalg.eigh(covariance)
    factor = (vectors * values.clamp(min=0).sqrt()) @ vectors.mT  # symmetric: it has no basis
    found, expected = factor.square().sum(1), covariance.diagonal().clamp(min=0)
    gain = torch.where(found > 0, (expected / found.clamp(min=torch.finfo(found.dtype).tiny)).sqrt(), 0.0)
    return gain[:, None] * factor
