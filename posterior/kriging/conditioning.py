r"""Joint posterior draws of a field by conditioning draws of its law on few data.

A draw f of the law at the targets and, with it, at the data's places, and errors eps of the data, are corrected by
kriging what the data differ from it (Hoffman & Ribak 1991, Astrophys. J. 380, L5; Chiles & Delfiner 2012,
"Geostatistics", section 7.3):

    f + k(targets, data) K^{-1} (y - f(data) - eps),    K = k(data, data) + noise.

This is a draw of the posterior. One factor of K serves all targets. The law is drawn on the grid by Fourier modes
(`embedding`), and at the data's places given the grid points next to them (`simulation`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from infield.posterior.kriging.embedding import Embedding
from infield.posterior.kriging.law import JITTER, StationaryLaw
from infield.posterior.kriging.neighbours import settled
from infield.posterior.kriging.observations import Observations
from infield.posterior.kriging.simulation import Neighbourhood, Plan, Simulator

MOST_DATA = 1000
"""Up to so many data are conditioned on at once."""

COVARIANCES = 4_000_000
"""Between targets and data that are held at once."""

BESIDE = {0.5: 24, 1.5: 40, 2.5: 50}
"""Grid points, and data drawn before, that a datum's place is given, by the order of the law; twice as many in three
dimensions."""


class Conditioned:
    """Posterior draws under one law.

    Arguments:
        law: Of the field.
        data: At most `MOST_DATA`; their values are not used, those given to `draw` are.
        targets: Positions of the grid, shape `(m, ndim)`.
        embedding: Of the law on that grid.
        plan: Of `planned`, in place of an own one.
    """

    def __init__(
        self, law: StationaryLaw, data: Observations, targets: Tensor, embedding: Embedding, plan: Plan | None = None
    ) -> None:
        self.law, self.embedding = law, embedding
        self.at, self.data = settled(law, data)
        self._targets = law.embed(targets.double())
        self.numbers = embedding.numbers + 2 * len(self.data)
        """White numbers of a draw."""
        self.bytes = 4.0 * embedding.root.numel() + 8.0 * self._targets.numel()
        """That are kept."""
        self._beside = Simulator(law, _exact(targets), self.data.x, _neighbourhood(law), plan=plan)

    @staticmethod
    def planned(law: StationaryLaw, data: Observations, targets: Tensor) -> Plan:
        """Grid points next to each datum, chosen once for several laws."""
        return Simulator.planned(law, _exact(targets), settled(law, data)[1].x, _neighbourhood(law))

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
        seen = self._beside.draw(fields, at_data) + self.data.noise.sqrt() * of_noise
        differing = residuals.double()[:, torch.from_numpy(self.at.order)] - seen
        places = self.at.embedded
        K = self.law.between(places, places)
        K.diagonal().add_(self.data.noise + JITTER * self.law.variance)
        weights = torch.cholesky_solve(differing.mT, torch.linalg.cholesky(K))
        for rows in torch.arange(fields.shape[1]).split(max(1, COVARIANCES // N)):
            fields[:, rows] += (self.law.between(self._targets[rows], places) @ weights).mT
        return fields


def _exact(targets: Tensor) -> Observations:
    """Grid points as data without noise."""
    zeros = targets.new_zeros(len(targets), dtype=torch.float64)
    return Observations(targets.double(), zeros, zeros, zeros.new_zeros((len(targets), 0)))


def _neighbourhood(law: StationaryLaw) -> Neighbourhood:
    beside = BESIDE[law.nu] * (2 if law.geometry.ndim > 2 else 1)
    return Neighbourhood(most=beside, drawn=beside, fewest=beside, drawn_most=beside, few=MOST_DATA)
