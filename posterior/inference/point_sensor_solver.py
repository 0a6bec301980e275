r"""Point sensors on a stationary field: covariances between sensors read off the covariance function.

On a torus a covariance that is diagonal in Fourier modes, K = H diag(d) H with d even in the wavenumber, has entries
:math:`K_{ij} = c(x_i - x_j)` with c the inverse Fourier transform of d. For data that weigh a few grid points each,
:math:`A = \sum_a \mathrm{diag}(w_a)\, E_a` with E_a picking one grid point a sensor, hence

.. math:: (A K A^T)_{mn} = \sum_{a,b} w_{a,m} w_{b,n}\, c(x_{a,m} - x_{b,n}):

one FFT and look-ups, exact to rounding, where columns of K would cost one FFT a sensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infield.physics.operators.composition import Composition, Scale
from infield.physics.operators.crop import Crop
from infield.physics.operators.sensors import PointSensors
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley

ROWS = 256
"""Sensors whose look-ups are held at a time."""

SYMMETRY_RTOL = 1e-9
"""Largest difference of the variances of k and -k that is rounding, relative to these and to the mean of all."""


@dataclass(frozen=True)
class PointSensorSolver:
    """Data that weigh a few points each of a field of one channel on a torus.

    Arguments:
        corners: Flat indices of these points, shape `(points a datum, data)`.
        weights: Their weights, likewise.
        torus: Shape of the torus.
    """

    corners: Tensor
    weights: Tensor
    torus: tuple[int, ...]

    @classmethod
    def of(cls, operator: object, torus: tuple[int, ...]) -> PointSensorSolver | None:
        """An operator as such data, one a flat entry of its data; None where it is none.

        Arguments:
            operator: Point sensors, perhaps of a scaled field (one scale for all places), perhaps through the window of
                a torus.
            torus: Space shape of its fields.
        """
        parts = _parts(operator)
        outer = parts[0]
        if not isinstance(outer, PointSensors):
            return None
        corners, weights = outer.corners, outer.weights
        shape = tuple(outer.grid.shape)
        for inner in parts[1:]:
            if isinstance(inner, Scale) and (inner.scale == inner.scale.flatten()[0]).all():
                weights = weights * inner.scale.flatten()[0]
            elif isinstance(inner, Crop):
                corners = _flat(_unflat(corners, shape), tuple(inner.grid.shape))
                shape = tuple(inner.grid.shape)
            else:
                return None
        return cls(corners, weights, shape) if outer.channels == 1 and shape == torus else None

    def applies_to(self, covariance: Covariance) -> bool:
        """Whether a covariance is stationary on the torus."""
        d = covariance.diagonal
        if covariance.rank or not isinstance(covariance.modes, Hartley) or d.shape != (1, *self.torus):
            return False
        space = tuple(range(1, d.ndim))
        opposite = d.flip(space).roll([1] * len(space), space)
        return bool(((d - opposite).abs() <= SYMMETRY_RTOL * (d + d.mean())).all())

    def gram(self, covariance: Covariance, index: Tensor) -> Tensor:
        """A K A^T between some data, shape `(len(index), len(index))`.

        Arguments:
            covariance: K, for which `applies_to` is true.
            index: Flat places of these data among the entries of y.
        """
        function = torch.fft.ifftn(covariance.diagonal[0]).real.flatten()
        places = _unflat(self.corners[:, index], self.torus)
        weights = self.weights[:, index].to(function)
        gram = function.new_zeros((len(index), len(index)))
        for rows in torch.arange(len(index)).split(ROWS):
            for a in range(len(weights)):
                for b in range(len(weights)):
                    lags = [(p[a, rows, None] - p[b]) % n for p, n in zip(places, self.torus, strict=True)]
                    found = function[_flat(lags, self.torus)]
                    gram[rows] += weights[a, rows, None] * weights[b] * found
        return gram


def _parts(operator: object) -> list[object]:
    if not isinstance(operator, Composition):
        return [operator]
    return [part for inner in operator.operators for part in _parts(inner)]


def _unflat(index: Tensor, shape: tuple[int, ...]) -> list[Tensor]:
    """Indices along each axis of flat ones, last axis fastest."""
    return list(torch.unravel_index(index, shape))


def _flat(index: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    flat = torch.zeros_like(index[0])
    for i, n in zip(index, shape, strict=True):
        flat = flat * n + i
    return flat
