"""Source measures and Gaussian laws by name: a law is a few numbers; on a grid it becomes a factored covariance."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from infield import InfieldError
from infield.priors.covariance import Covariance, from_matrix
from infield.priors.matern import matern_matrix, matern_spectrum
from infield.priors.modes import Eigenbasis, Hartley, Modes, Pixels

DENSE_LIMIT = 4096
"""Largest number of scattered points for which dense eigenvectors (128 MiB at this size) are formed."""

LARGEST_ORDER = 100
"""Largest order of a Matern law: the Bessel functions of higher ones leave the range of floating point numbers."""


@runtime_checkable
class Lattice(Protocol):
    """What a law needs to know of a grid: `physics.grid.Grid` and `PointSet` are of this shape."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def size(self) -> int: ...
    def points(self) -> Tensor: ...


@runtime_checkable
class Law(Protocol):
    """A centred Gaussian law of fields on any grid, each channel an independent copy."""

    def on(self, grid: Lattice, channels: int = 1) -> Covariance:
        """Its covariance on a grid, in the modes that diagonalise it."""
        ...

    def within(self, modes: Modes, grid: Lattice, channels: int = 1) -> Covariance:
        """Its covariance on a grid, in given modes."""
        ...


@dataclass(frozen=True)
class White:
    """Independent values of one variance. On a finer grid it is another measure: fix the resolution or use `Matern`."""

    variance: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.variance < math.inf:
            raise InfieldError(f"white law: the variance must be positive and finite, found {self.variance}")

    def on(self, grid: Lattice, channels: int = 1) -> Covariance:
        return self.within(Pixels(), grid, channels)

    def within(self, modes: Modes, grid: Lattice, channels: int = 1) -> Covariance:
        return Covariance.diagonal_in(modes, torch.full((channels, *grid.shape), self.variance, dtype=torch.float64))


@dataclass(frozen=True)
class Matern:
    """A Matern law of any order.

    On a uniform grid whose axes are periodic it is diagonal by FFT, O(N log N). On scattered points, and on grids of at
    most `DENSE_LIMIT` points of which an axis is not periodic, it is dense. A larger grid of this kind needs `wrap`,
    which lets correlations close around the domain: an error that reaches about one `length` in from the edges.

    Arguments:
        nu: Order (smoothness), > 0.
        length: Correlation length, in the units of the grid's coordinates.
        variance: Variance of each value.
        wrap: Treat every axis as periodic.
    """

    nu: float = 1.5
    length: float = 0.3
    variance: float = 1.0
    wrap: bool = False

    def __post_init__(self) -> None:
        if not all(0 < value < math.inf for value in (self.nu, self.length, self.variance)):
            raise InfieldError(f"Matern law: nu, length and variance must be positive and finite, found {self}")
        if self.nu > LARGEST_ORDER:
            raise InfieldError(
                f"Matern law: found nu = {self.nu}, expected at most {LARGEST_ORDER}, where it hardly differs from its "
                "limit, the squared exponential"
            )

    def on(self, grid: Lattice, channels: int = 1) -> Covariance:
        if self._by_fft(grid):
            return self.within(Hartley(grid.ndim), grid, channels)
        eigenvalues, vectors = torch.linalg.eigh(self._matrix(grid))
        spectrum = eigenvalues.clamp_min(1e-12 * eigenvalues[-1])
        diagonal = spectrum.reshape(grid.shape).expand(channels, *grid.shape).clone()
        return Covariance.diagonal_in(Eigenbasis(vectors, grid.shape), diagonal)

    def within(self, modes: Modes, grid: Lattice, channels: int = 1) -> Covariance:
        if self._by_fft(grid) and isinstance(modes, Hartley):
            spectrum = matern_spectrum(
                grid.shape, spacing_of(grid), nu=self.nu, length=self.length, variance=self.variance
            )
            floor = 1e-12 * float(spectrum.max())
            return Covariance.diagonal_in(modes, spectrum.clamp_min(floor).expand(channels, *grid.shape).clone())
        if channels != 1:
            raise InfieldError("a dense Matern law has one channel; give each channel its own prior")
        return from_matrix(modes, self._matrix(grid), grid.shape)

    def _by_fft(self, grid: Lattice) -> bool:
        axes = getattr(grid, "axes", None)
        return axes is not None and all((a.periodic or self.wrap) and a.uniform for a in axes)

    def _matrix(self, grid: Lattice) -> Tensor:
        if grid.size > DENSE_LIMIT:
            raise InfieldError(
                f"Matern law on {grid.size} points that are scattered or not periodic: expected at most {DENSE_LIMIT}; "
                "on a uniform grid set `wrap: true` to let correlations close around the domain"
            )
        if self._by_fft(grid):
            unit = torch.eye(grid.size, dtype=torch.float64).reshape(grid.size, 1, *grid.shape)
            return self.within(Hartley(grid.ndim), grid).apply(unit).reshape(grid.size, grid.size)
        periods = [a.spacing * a.size if a.periodic or self.wrap else None for a in getattr(grid, "axes", ())]
        law = {"nu": self.nu, "length": self.length, "variance": self.variance}
        return matern_matrix(grid.points(), **law, periods=tuple(periods) or None)


def spacing_of(grid: Lattice) -> tuple[float, ...]:
    """Distances between neighbours of a regular grid; InfieldError where the grid has none."""
    axes = getattr(grid, "axes", None)
    if axes is None:
        raise InfieldError("scattered points have no spacing: expected a regular grid")
    return tuple(float(axis.spacing) for axis in axes)


_LAWS: dict[str, type[White] | type[Matern]] = {"white": White, "matern": Matern}


def law_from_spec(spec: dict[str, Any]) -> White | Matern:
    """Build a law from plain JSON or YAML types, e.g. `{"law": "matern", "nu": 0.5, "length": 0.05}`."""
    name = spec.get("law") if isinstance(spec, dict) else spec
    if not isinstance(spec, dict) or not isinstance(name, str) or name not in _LAWS:
        raise InfieldError(f"law: found {name!r}, expected an entry 'law', one of {', '.join(_LAWS)}")
    parameters = {k: v for k, v in spec.items() if k != "law"}
    try:
        return _LAWS[name](**parameters)
    except TypeError as error:
        raise InfieldError(f"law '{name}': {error}") from error


def law_to_spec(law: White | Matern) -> dict[str, Any]:
    """The inverse of `law_from_spec`."""
    return {"law": type(law).__name__.lower(), **asdict(law)}
