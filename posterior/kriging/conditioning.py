r"""Joint posterior draws of a field by conditioning draws of its law on few data.

A draw f of the law at the targets and, with it, at the data's places, and errors eps of the data, are corrected by
kriging what the data differ from it (Hoffman & Ribak 1991, Astrophys. J. 380, L5; Chiles & Delfiner 2012,
"Geostatistics", section 7.3):

    f + k(targets, data) K^{-1} (y - f(data) - eps),    K = k(data, data) + noise.

This is a draw of the posterior. One factor of K serves all targets. The law is drawn on the grid by Fourier modes
(`embedding`), and at the data's places given the grid points next to them (`between`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from infield.posterior.kriging.between import Between, Neighbours
from infield.posterior.kriging.embedding import Embedding
from infield.posterior.kriging.law import JITTER, StationaryLaw
from infield.posterior.kriging.neighbours import settled
from infield.posterior.kriging.observations import Observations

MOST_DATA = 1000
"""Up to so many data are conditioned on at once."""

COVARIANCES = 200_000
"""Between targets and data that are held at once: as many as a core's cache holds."""

BESIDE = {0.5: 24, 1.5: 40, 2.5: 50}
"""Grid points that a datum's place is given, and places before it at most, by the order of the law; twice as many in
three dimensions."""


class Conditioned:
    """Posterior draws under one law.

    Arguments:
        law: Of the field.
        data: At most `MOST_DATA`; their values are not used, those given to `draw` are.
        targets: Positions of the grid, shape `(m, ndim)`.
        embedding: Of the law on that grid.
        neighbours: Of `planned`, in place of own ones.
    """

    def __init__(
        self,
        law: StationaryLaw,
        data: Observations,
        targets: Tensor,
        embedding: Embedding,
        neighbours: Neighbours | None = None,
    ) -> None:
        self.law, self.embedding = law, embedding
        self.at, self.data = settled(law, data)
        self._targets = law.embed(targets.double())
        self.numbers = embedding.numbers + 2 * len(self.data)
        """White numbers of a draw."""
        if neighbours is None or not np.array_equal(neighbours.order, self.at.order):
            neighbours = Neighbours.of(law, self.at, targets.double(), _beside(law))
        self._between = Between(law, self.at, self._targets, neighbours)
        self.bytes = 4.0 * embedding.root.numel() + 8.0 * self._targets.numel() + self._between.bytes
        """That are kept."""

    @staticmethod
    def planned(law: StationaryLaw, data: Observations, targets: Tensor) -> Neighbours:
        """Grid points next to each datum, chosen once for several laws."""
        return Neighbours.of(law, settled(law, data)[0], targets.double(), _beside(law))

    def draw(self, residuals: Tensor, white: Tensor) -> Tensor:
        """Return draws of the field at the targets; draw i depends on rows i alone, to rounding.

        Arguments:
            residuals: Data around their trend, y - F beta_i, shape `(n, N)`.
            white: Independent standard normal numbers, shape `(n, numbers)`.

        Returns:
            Shape `(n, m)`, ordered as the targets, float64.
        """
        N = len(self.data)
        of_field, at_data, of_noise = white.split([self.embedding.numbers, N, N], 1)
        fields = self.embedding.draw(of_field)
        seen = self._between.draw(fields, at_data) + self.data.noise.sqrt() * of_noise
        differing = residuals.double()[:, torch.from_numpy(self.at.order)] - seen
        places = self.at.embedded
        K = self.law.between(places, places)
        K.diagonal().add_(self.data.noise + JITTER * self.law.variance)
        weights = torch.cholesky_solve(differing.mT, torch.linalg.cholesky(K))
        for rows in torch.arange(fields.shape[1]).split(max(1, COVARIANCES // N)):
            fields[:, rows] += (self.law.between(self._targets[rows], places) @ weights).mT
        return fields


def _beside(law: StationaryLaw) -> int:
    return BESIDE[law.nu] * (2 if law.geometry.ndim > 2 else 1)
