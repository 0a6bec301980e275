"""A posterior that is known exactly and cheap to draw from: what the statistics of calibration are tested on.

The field is a Gaussian process on 12 x 12 points, measured at a quarter of them with noise. A truth is drawn from the
posterior itself; draws may be wrong by a known factor of the standard deviation and by a shift of one sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Generator, Tensor

from infield.core.grid import Grid
from infield.posterior.calibration.exchange import EXCHANGES, Exchange, correlations, exchange_test, normal_scores
from infield.posterior.calibration.functionals import Functional, choose, evaluate, predeclared


@dataclass(frozen=True)
class SyntheticPosterior:
    """N(0, P) on a grid.

    Arguments:
        grid: Of the field.
        root: Square root of P, shape `(points, points)`.
        functionals: By which draws are judged.
    """

    grid: Grid
    root: Tensor
    functionals: tuple[Functional, ...]

    @classmethod
    def of_points(cls, points: int = 12, length: float = 0.15, noise: float = 0.05, every: int = 4) -> Self:
        """The posterior of a field of a length (in sides of the domain) given every so many of its values."""
        grid = Grid.regular((points, points))
        x = torch.as_tensor(grid.points(), dtype=torch.float64)
        d = torch.cdist(x, x) / length
        C = (1 + 3**0.5 * d) * torch.exp(-(3**0.5) * d)
        at = torch.arange(0, len(x), every)
        gain = torch.linalg.solve(C[at][:, at] + noise * torch.eye(len(at), dtype=torch.float64), C[at]).mT
        P = C - gain @ C[at]
        root = torch.linalg.cholesky((P + P.mT) / 2 + 1e-9 * torch.eye(len(x), dtype=torch.float64))
        candidates = predeclared(grid, ("field",))
        first = cls(grid, root, tuple(candidates))
        values = first.values(first.draw(20, 32, Generator().manual_seed(0)))
        scores = normal_scores(values, Generator().manual_seed(0))
        chosen, _ = choose(candidates, correlations(scores), values.std(1).mean(0))
        return cls(grid, root, tuple(candidates[j] for j in chosen))

    @cached_property
    def std(self) -> Tensor:
        """Pointwise standard deviation, shape `(points,)`."""
        return self.root.square().sum(1).sqrt()

    def draw(
        self, simulations: int, draws: int, generator: Generator, *, width: float = 1.0, shift: float = 0.0
    ) -> Tensor:
        """Truths and draws, shape `(simulations, 1 + draws, 1, *space)`, the truth first.

        Arguments:
            simulations, draws: How many.
            generator: Of the random numbers.
            width: Factor of the standard deviation of the draws.
            shift: Of the draws, in pointwise standard deviations.
        """
        white = torch.randn((simulations, 1 + draws, len(self.root)), generator=generator, dtype=torch.float64)
        fields = white @ self.root.mT
        fields[:, 1:] = width * fields[:, 1:] + shift * self.std
        return fields.reshape(simulations, 1 + draws, 1, *self.grid.shape)

    def values(self, fields: Tensor) -> Tensor:
        """Of the functionals, `(simulations, 1 + draws, 1, *space)` to `(simulations, 1 + draws, J)`."""
        found = evaluate(self.functionals, fields.flatten(0, 1))
        return found.reshape(*fields.shape[:2], len(self.functionals))

    def judge(self, fields: Tensor, generator: Generator, *, exchanges: int = EXCHANGES) -> Exchange:
        """The exchange test of draws."""
        one_sign = torch.tensor([functional.one_sign for functional in self.functionals])
        return exchange_test(normal_scores(self.values(fields), generator), one_sign, generator, exchanges=exchanges)
