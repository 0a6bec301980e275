"""Coordinates in which a factored covariance is the identity: u - m = S w with K = S S^T, w ~ N(0, 1), in O(N r)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from infield.priors.covariance.base import Covariance

FLOOR = 1e-12
"""What the diagonal holds of a mode is raised to this share of the largest variance of a mode, so that the root has an
inverse that does not blow up rounding."""


@dataclass(frozen=True)
class Whitening:
    """The square root of K = T^T (diag(d) + F^T F) T with as many columns as there are modes.

    With the singular values sigma and the right singular vectors U of F diag(d)^{-1/2},

        S = T^T diag(d)^{1/2} (1 + U^T diag(sqrt(1 + sigma^2) - 1) U).

    Arguments:
        covariance: K.
    """

    covariance: Covariance

    @cached_property
    def _scale(self) -> Tensor:
        d, F = self.covariance.diagonal.flatten(), self.covariance.factors.flatten(1)
        return d.clamp_min(FLOOR * float((d + F.square().sum(0)).max())).sqrt()

    @cached_property
    def _stretch(self) -> tuple[Tensor, Tensor]:
        """sqrt(1 + sigma^2) - 1, shape `(rank,)`, and U, shape `(rank, modes)`."""
        F = self.covariance.factors.flatten(1)
        _, sigma, U = torch.linalg.svd(F / self._scale, full_matrices=False)
        return torch.sqrt(1 + sigma**2) - 1, U

    def white(self, w: Tensor) -> Tensor:
        """White noise in these coordinates, shape `(batch, modes)`, from white noise on the grid, any such shape."""
        on_grid = w.reshape(-1, *self.covariance.event_shape)
        return self.covariance.modes.white(on_grid).flatten(1)

    def colour(self, w: Tensor) -> Tensor:
        """S w: fields of shape `(batch, channel, *space)` from w of shape `(batch, modes)`."""
        stretch, U = self._stretch
        c = self._scale * (w + (w @ U.mT * stretch) @ U)
        return self.covariance.modes.synthesise(c.reshape(-1, *self.covariance.event_shape))

    def whiten(self, x: Tensor) -> Tensor:
        """S^{-1} x, shape `(batch, modes)`."""
        stretch, U = self._stretch
        w = self.covariance.modes.analyse(x).flatten(1) / self._scale
        return w - (w @ U.mT * (stretch / (1 + stretch))) @ U

    def transpose(self, x: Tensor) -> Tensor:
        """S^T x, shape `(batch, modes)`: turns gradients with respect to the field into gradients with respect to w."""
        return self.pull_back(self.covariance.modes.analyse(x).flatten(1))

    def pull_back(self, rows: Tensor) -> Tensor:
        """Linear functionals of the modes' coordinates as functionals of w, both of shape `(functionals, modes)`."""
        stretch, U = self._stretch
        w = self._scale * rows
        return w + (w @ U.mT * stretch) @ U

    def push_forward(self, rows: Tensor) -> Tensor:
        """The inverse of `pull_back`."""
        stretch, U = self._stretch
        return (rows - (rows @ U.mT * (stretch / (1 + stretch))) @ U) / self._scale
