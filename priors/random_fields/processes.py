"""Random functions for regression problems: Gaussian processes, and processes made of them that are not Gaussian.

Values at a few thousand points at most are drawn by a dense Cholesky factor of their covariance, with `JITTER` times
the variance added to its diagonal. Of all but `TruncatedProcess` the law at shared points is the same on every grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core.checks import is_number, is_whole
from infield.core.errors import InfieldError
from infield.core.grid import GridLike
from infield.priors.gaussian.gibbs import gibbs_matrix
from infield.priors.gaussian.kernels import DENSE_LIMIT
from infield.priors.gaussian.matern import matern_matrix
from infield.priors.random_fields.spectral import White, check_positive

JITTER = 1e-9


@dataclass(frozen=True)
class MaternProcess:
    """A centred Gaussian process with a Matern covariance.

    Arguments:
        nu: Order, > 0.
        length: Correlation length in the units of the grid.
        variance: Variance of each value.
    """

    nu: float = 1.5
    length: float = 0.3
    variance: float = 1.0

    def __post_init__(self) -> None:
        for name in ("nu", "length", "variance"):
            check_positive(f"process: {name}", getattr(self, name))

    def covariance(self, points: Tensor) -> Tensor:
        """Covariance of the values at points `(n, ndim)`, shape `(n, n)`, float64."""
        return matern_matrix(points, nu=self.nu, length=self.length, variance=self.variance)

    def draw(self, grid: GridLike, white: White) -> Tensor:
        """Functions at the points of a grid, shape `(batch, *space)`, float64."""
        return _gaussian(self, grid, white)


@dataclass(frozen=True)
class GibbsProcess:
    r"""A centred Gaussian process of one variable with the Gibbs covariance and a length :math:`l(x) = l_0 + s x`.

    Arguments:
        length: l_0, the length at x = 0, > 0.
        slope: s.
        variance: sigma^2, > 0.
    """

    length: float = 0.05
    slope: float = 0.25
    variance: float = 1.0

    def __post_init__(self) -> None:
        for name in ("length", "variance"):
            check_positive(f"process: {name}", getattr(self, name))
        if not is_number(self.slope):
            raise InfieldError(where="process: slope", found=f"{self.slope!r}", expected="a finite number")

    def covariance(self, points: Tensor) -> Tensor:
        """Covariance of the values at points `(n, 1)`, shape `(n, n)`, float64."""
        if points.shape[1] != 1:
            raise InfieldError(
                where="process", found=f"points of {points.shape[1]} coordinates", expected="1 for a Gibbs kernel"
            )
        lengths = self.length + self.slope * points
        if (lengths <= 0).any():
            raise InfieldError(
                where="process",
                found=f"a length of {float(lengths.min())!r} at x = {float(points[lengths.argmin()])!r}",
                expected="one above zero at every point",
                remedy="take a larger length or slope",
            )
        return gibbs_matrix(points, lengths[:, 0], variance=self.variance)

    def draw(self, grid: GridLike, white: White) -> Tensor:
        """Functions at the points of a grid, shape `(batch, *space)`, float64."""
        return _gaussian(self, grid, white)


@dataclass(frozen=True)
class TruncatedProcess(MaternProcess):
    """A Matern process given that it lies in an interval at every point of the grid, by rejection of whole functions.

    So did Shi et al. 2025 ("Stochastic process learning via operator flow matching"). A finer grid requires more of a
    function: the laws on two grids differ by what happens between the points of the coarser one.

    Arguments:
        low: Lower end of the interval.
        high: Upper end.
        attempts: Functions that are tried for each sample.
    """

    low: float = -1.2
    high: float = 1.2
    attempts: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        ends = (self.low, self.high)
        if not all(is_number(end) for end in ends) or self.low >= self.high:
            raise InfieldError(
                where="process", found=f"the interval {self.low!r} to {self.high!r}", expected="rising numbers"
            )
        if not is_whole(self.attempts, 1):
            raise InfieldError(
                where="process: attempts", found=f"{self.attempts!r}", expected="a whole number of at least 1"
            )

    def draw(self, grid: GridLike, white: White) -> Tensor:
        root = _root(self, grid)
        accepted = torch.empty(0)
        waiting = torch.ones(1, dtype=torch.bool)
        for _ in range(self.attempts):
            tried = white((grid.size,)) @ root.mT
            inside = ((tried >= self.low) & (tried <= self.high)).all(1)
            accepted = torch.where((waiting & inside)[:, None], tried, accepted if len(accepted) else tried)
            waiting = waiting & ~inside
            if not waiting.any():
                return accepted.reshape(-1, *grid.shape)
        raise InfieldError(
            where=f"process: sample {int(waiting.nonzero()[0])} of the batch",
            found=f"no function within {self.low} to {self.high} among {self.attempts}",
            expected="one",
            remedy="widen the interval or allow more attempts",
        )


@dataclass(frozen=True)
class LogNormalProcess(MaternProcess):
    """The exponential of a Matern process: positive, skewed.

    Arguments:
        mean: Mean of the logarithm.
    """

    mean: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_number(self.mean):
            raise InfieldError(where="process: mean", found=f"{self.mean!r}", expected="a finite number")

    def draw(self, grid: GridLike, white: White) -> Tensor:
        return (self.mean + super().draw(grid, white)).exp()


@dataclass(frozen=True)
class MixtureProcess:
    """Matern processes of several lengths, each function from one of them with equal chances.

    Arguments:
        lengths: Correlation lengths, in the units of the grid.
        nu: Order of all of them.
        variance: Variance of each value.
    """

    lengths: tuple[float, ...] = (0.03, 0.1, 0.3, 0.8)
    nu: float = 1.5
    variance: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.lengths, tuple | list) or not self.lengths:
            raise InfieldError(
                where="process: lengths", found=f"{self.lengths!r}", expected="some numbers, e.g. (0.1, 0.3)"
            )
        for length in self.lengths:
            MaternProcess(self.nu, length, self.variance)

    def draw(self, grid: GridLike, white: White) -> Tensor:
        share = torch.special.ndtr(white(()))  # uniform
        component = (share * len(self.lengths)).long().clamp_max(len(self.lengths) - 1)
        numbers = white((grid.size,))
        fields = torch.empty_like(numbers)
        for k, length in enumerate(self.lengths):
            law = MaternProcess(self.nu, length, self.variance)
            fields = torch.where((component == k)[:, None], numbers @ _root(law, grid).mT, fields)
        return fields.reshape(-1, *grid.shape)


Process = MaternProcess | GibbsProcess | LogNormalProcess | MixtureProcess
PROCESSES: dict[str, type[Process]] = {
    "matern": MaternProcess,
    "gibbs": GibbsProcess,
    "truncated": TruncatedProcess,
    "log-normal": LogNormalProcess,
    "mixture": MixtureProcess,
}


def _gaussian(law: MaternProcess | GibbsProcess, grid: GridLike, white: White) -> Tensor:
    return (white((grid.size,)) @ _root(law, grid).mT).reshape(-1, *grid.shape)


def _root(law: MaternProcess | GibbsProcess, grid: GridLike) -> Tensor:
    """A Cholesky factor of the covariance of the values at the points of a grid."""
    if grid.size > DENSE_LIMIT:
        raise InfieldError(
            where="process", found=f"{grid.size} points", expected=f"at most {DENSE_LIMIT} for a dense covariance"
        )
    jitter = JITTER * law.variance * torch.eye(grid.size, dtype=torch.float64)
    return torch.linalg.cholesky(law.covariance(grid.points()) + jitter)
