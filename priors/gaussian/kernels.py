"""Source measures and Gaussian kernels by name: a few parameters, which on a grid give a factored covariance."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from infield.core import registry
from infield.core.eigenvectors import eigh_by_reflection
from infield.core.errors import InfieldError
from infield.core.grid import Grid, GridLike
from infield.core.renamed import old_names
from infield.core.transform import Window
from infield.priors.covariance.base import Covariance, from_matrix
from infield.priors.covariance.modes import Eigenbasis, Hartley, Modes, Pixels
from infield.priors.gaussian.circulant_embedding import Embedding, embed
from infield.priors.gaussian.matern import matern_between, matern_matrix, matern_mixture, matern_spectrum
from infield.priors.gaussian.pivoted_cholesky import PartialCholesky, pivoted_cholesky
from infield.priors.gaussian.sphere import on_unit_sphere

if not TYPE_CHECKING:
    __getattr__ = old_names(__name__)

if not TYPE_CHECKING:
    __getattr__ = old_names(__name__)

MAX_SCALE = 1e100
"""Of lengths and variances, in any units: squares of what is larger have no floating-point number."""

DENSE_LIMIT = 4096
"""Largest number of scattered points for which dense eigenvectors (128 MiB at this size) are formed."""

EMBED_ABOVE = 1024
"""Number of points above which, on a uniform non-periodic grid, a torus is cheaper than dense algebra."""

AUTOMATIC_RANK = 512
"""Number of leading directions of a kernel on more than `DENSE_LIMIT` points (80 MiB for 20,000 points)."""

MAX_RESIDUAL_FRACTION = 0.05
"""Largest fraction of the variance that these directions may leave to a constant remainder."""

LARGEST_ORDER = 100
"""Largest order of a Matern kernel: the Bessel functions of higher ones leave the range of floating point numbers."""


@runtime_checkable
class Kernel(Protocol):
    """A centred Gaussian distribution of fields on any grid, each channel an independent copy."""

    def covariance(self, grid: GridLike, channels: int = 1) -> Covariance:
        """Its covariance on a grid, in the modes that diagonalise it."""
        ...

    def covariance_in(self, modes: Modes, grid: GridLike, channels: int = 1) -> Covariance:
        """Its covariance on a grid, in given modes."""
        ...

    def prefers_embedding(self, grid: GridLike) -> bool:
        """Whether on this grid it is best treated as the restriction of one on a torus: diagonal by FFT there."""
        ...

    def embed(self, grid: GridLike, torus: tuple[int, ...] | None = None) -> Embedding:
        """The same kernel on the smallest sufficient torus or on a given one."""
        ...


Domain = Literal["plane", "sphere"]


@dataclass(frozen=True)
class White:
    """Independent values of one variance. On a finer grid it is another measure: fix the resolution or use `Matern`."""

    variance: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.variance < math.inf:
            raise InfieldError(
                where="white kernel", found=f"variance {self.variance}", expected="a positive and finite one"
            )

    def covariance(self, grid: GridLike, channels: int = 1) -> Covariance:
        return self.covariance_in(Pixels(), grid, channels)

    def covariance_in(self, modes: Modes, grid: GridLike, channels: int = 1) -> Covariance:
        return Covariance.diagonal_in(modes, torch.full((channels, *grid.shape), self.variance, dtype=torch.float64))

    def prefers_embedding(self, grid: GridLike) -> bool:
        return False

    def embed(self, grid: GridLike, torus: tuple[int, ...] | None = None) -> Embedding:
        torus = torus or grid.shape
        return Embedding(Window(grid.shape, torus), torch.full(torus, self.variance, dtype=torch.float64), 0.0)


@dataclass(frozen=True)
class Matern:
    """A Matern kernel of any order.

    On a uniform grid whose axes are periodic it is diagonal by FFT, O(N log N). On scattered points, and on grids of at
    most `DENSE_LIMIT` points of which an axis is not periodic, it is dense. More scattered points get the leading
    directions and a constant remainder, O(N r). On a larger uniform grid of which an axis is not periodic, it is
    embedded in a torus (`embed`), which `priors.gaussian.prior.gaussian_prior` does automatically; or `wrap` lets
    correlations wrap around the domain: an error that reaches about one `length` in from the edges.

    On the sphere the distance is the chord's: a Matern function of it is positive definite for every order, since it is
    the law of a field in space, seen on the sphere. Of the great-circle distance it is so for nu <= 1/2 only (Gneiting
    2013, Bernoulli 19, 1327).

    Arguments:
        nu: Order (smoothness), > 0.
        length: Correlation length, in the units of the grid's coordinates; on the sphere, in radii.
        variance: Variance of each value.
        wrap: Treat every axis as periodic.
        rank: Number of leading directions, whatever they leave; None leaves the choice between dense and low-rank
            algebra to the number of points.
        domain: `plane`; or `sphere`, for points and grids of longitude and latitude in degrees.

    Examples:
        >>> import torch
        >>> from infield.core.grid import Grid
        >>> law = Matern(nu=1.5, length=10.0, variance=4.0)
        >>> law.covariance(Grid.regular((64,), 100.0, units="km")).sample(3, torch.Generator().manual_seed(0)).shape
        torch.Size([3, 1, 64])
    """

    nu: float = 1.5
    length: float = 0.3
    variance: float = 1.0
    wrap: bool = False
    rank: int | None = None
    domain: Domain = "plane"

    def __post_init__(self) -> None:
        for name in ("nu", "length", "variance"):
            value = getattr(self, name)
            if isinstance(value, int) and abs(value) > 2**53:  # torch takes no larger ones
                object.__setattr__(self, name, float(value))
        if not all(0 < value < math.inf for value in (self.nu, self.length, self.variance)):
            raise InfieldError(
                where="Matern kernel", found=self, expected="positive and finite nu, length and variance"
            )
        if not all(1 / MAX_SCALE < value < MAX_SCALE for value in (self.length, self.variance)):
            raise InfieldError(
                where="Matern kernel",
                found=self,
                expected=f"length and variance between {1 / MAX_SCALE:g} and {MAX_SCALE:g}",
            )
        if self.nu > LARGEST_ORDER:
            raise InfieldError(
                where="Matern kernel",
                found=f"nu = {self.nu}",
                expected=f"at most {LARGEST_ORDER}, where it hardly differs from its limit, the squared exponential",
            )
        if self.rank is not None and (not isinstance(self.rank, int) or self.rank < 1):
            raise InfieldError(
                where="Matern kernel", found=f"rank {self.rank!r}", expected="a whole number of at least 1"
            )
        if self.domain not in get_args(Domain):
            raise InfieldError(
                where="Matern kernel", found=f"domain {self.domain!r}", expected=f"one of {', '.join(get_args(Domain))}"
            )
        if self.domain == "sphere" and self.wrap:
            raise InfieldError(
                where="Matern kernel", found="`wrap` on the sphere, which is closed as it is", remedy="leave it out"
            )

    def __str__(self) -> str:
        parts = [f"nu={self.nu}, length={self.length}, variance={self.variance}, wrap={self.wrap}"]
        parts += [f"rank={self.rank}"] if self.rank else []
        parts += [f"domain={self.domain}"] if self.domain != "plane" else []
        return f"Matern({', '.join(parts)})"

    def covariance(self, grid: GridLike, channels: int = 1) -> Covariance:
        if self._by_fft(grid):
            return self.covariance_in(Hartley(grid.ndim), grid, channels)
        if self._low_rank(grid):
            return self._partial(grid).to_eigenmodes(grid.shape, channels)
        eigenvalues, vectors = eigh_by_reflection(self._matrix(grid))
        spectrum = eigenvalues.clamp_min(1e-12 * eigenvalues[-1])
        diagonal = spectrum.reshape(grid.shape).expand(channels, *grid.shape).clone()
        return Covariance.diagonal_in(Eigenbasis(vectors, grid.shape), diagonal)

    def covariance_in(self, modes: Modes, grid: GridLike, channels: int = 1) -> Covariance:
        if self._by_fft(grid) and isinstance(modes, Hartley):
            spectrum = matern_spectrum(grid.shape, spacing_of(grid), **self._function)
            floor = 1e-12 * float(spectrum.max())
            return Covariance.diagonal_in(modes, spectrum.clamp_min(floor).expand(channels, *grid.shape).clone())
        if channels != 1:
            raise InfieldError(
                where="dense Matern kernel",
                found=f"{channels} channels",
                expected="1",
                remedy="give each channel its own prior",
            )
        if self._low_rank(grid):
            return self._partial(grid).to_modes(modes, grid.shape)
        return from_matrix(modes, self._matrix(grid), grid.shape)

    def prefers_embedding(self, grid: GridLike) -> bool:
        plain = self.domain == "plane" and self.rank is None and not self._by_fft(grid)
        return plain and isinstance(grid, Grid) and grid.uniform and grid.ndim <= 3 and grid.size > EMBED_ABOVE

    def embed(self, grid: GridLike, torus: tuple[int, ...] | None = None) -> Embedding:
        if self.domain == "sphere" or self.wrap:
            raise InfieldError(
                where=str(self),
                found="another kernel of the same prior that needs a torus around the domain",
                expected="kernels that are the same function on a torus",
                remedy="give all kernels of a prior the same `wrap` and `domain`",
            )
        grid = regular(grid)
        mixture = matern_mixture(**self._function, finest=min(grid.spacing))
        return embed(mixture, grid.shape, grid.spacing, grid.periodic, torus=torus)

    @property
    def _function(self) -> dict[str, float]:
        return {"nu": self.nu, "length": self.length, "variance": self.variance}

    def _by_fft(self, grid: GridLike) -> bool:
        if self.domain != "plane" or self.rank is not None or not isinstance(grid, Grid):
            return False
        return grid.uniform and (self.wrap or all(grid.periodic))

    def _low_rank(self, grid: GridLike) -> bool:
        """Whether the leading directions represent the kernel; a large uniform grid has better ways."""
        return self.rank is not None or (grid.size > DENSE_LIMIT and not self.prefers_embedding(grid))

    def _partial(self, grid: GridLike) -> PartialCholesky:
        points, periods = self._points(grid), self._periods(grid)
        diagonal = points.new_full((grid.size,), self.variance)
        if any(periods):  # images add to the variance
            diagonal[:] = matern_between(points[:1], points[:1], **self._function, periods=periods).squeeze()
        rank = min(self.rank or AUTOMATIC_RANK, grid.size)

        def column(i: int) -> Tensor:
            return matern_between(points[i : i + 1], points, **self._function, periods=periods)[0]

        partial = pivoted_cholesky(column, diagonal, rank)
        if self.rank is None and partial.residual_fraction > MAX_RESIDUAL_FRACTION:
            raise InfieldError(
                where=f"{self} on {grid.size} points that are scattered or not periodic",
                found=f"{partial.residual_fraction:.0%} of its variance outside {rank} directions",
                expected=f"at most {MAX_RESIDUAL_FRACTION:.0%}",
                remedy=f"take a longer length, at most {DENSE_LIMIT} points, or set `rank` to accept the rest",
            )
        return partial

    def _matrix(self, grid: GridLike) -> Tensor:
        if grid.size > DENSE_LIMIT:
            raise InfieldError(
                where="dense Matern kernel",
                found=f"{grid.size} points of a grid that is not periodic",
                expected=f"at most {DENSE_LIMIT}",
                remedy="set `wrap: true` to let correlations wrap around the domain (a Gaussian prior does without: "
                "`gaussian_prior` embeds it in a torus)",
            )
        if self._by_fft(grid):
            unit = torch.eye(grid.size, dtype=torch.float64).reshape(grid.size, 1, *grid.shape)
            return self.covariance_in(Hartley(grid.ndim), grid).apply(unit).reshape(grid.size, grid.size)
        return matern_matrix(self._points(grid), **self._function, periods=self._periods(grid))

    def _points(self, grid: GridLike) -> Tensor:
        return on_unit_sphere(grid) if self.domain == "sphere" else grid.points()

    def _periods(self, grid: GridLike) -> tuple[float | None, ...]:
        if self.domain == "sphere":
            return (None, None, None)
        if not isinstance(grid, Grid):
            return (None,) * grid.ndim
        ends = zip(grid.lengths, grid.periodic, strict=True)
        return tuple(length if periodic or self.wrap else None for length, periodic in ends)


def spacing_of(grid: GridLike) -> tuple[float, ...]:
    """Distances between neighbours of a regular grid; InfieldError where the grid has none."""
    return regular(grid).spacing


def regular(grid: GridLike) -> Grid:
    """The grid itself; InfieldError where it is scattered points, which have no spacing."""
    if not isinstance(grid, Grid):
        raise InfieldError(found="scattered points, which have no spacing", expected="a regular grid")
    return grid


def law_from_spec(spec: dict[str, Any]) -> Kernel:
    """Build a kernel from plain JSON or YAML types, e.g. `{"law": "matern", "nu": 0.5, "length": 0.05}`.

    Raises:
        InfieldError: Its name is unknown, or it takes other parameters.
    """
    name = spec.get("law") if isinstance(spec, dict) else spec
    if not isinstance(spec, dict) or not isinstance(name, str) or not registry.known("kernels", name):
        expected = ", ".join(registry.names("kernels"))
        raise InfieldError(where="law", found=f"{name!r}", expected=f"an entry 'law', one of {expected}")
    kernel = registry.load("kernels", name)
    try:
        law: Kernel = kernel(**{k: v for k, v in spec.items() if k != "law"})
    except TypeError as error:
        raise InfieldError(str(error), where=f"law '{name}'") from error
    return law


def law_to_spec(law: Any) -> dict[str, Any]:
    """The inverse of `law_from_spec`, of a dataclass.

    Raises:
        InfieldError: It is none of the laws with a name.
    """
    name = registry.name_of("kernels", type(law))
    if name is None:
        expected = ", ".join(registry.names("kernels"))
        raise InfieldError(where="law", found=type(law).__name__, expected=f"one of {expected}")
    return {"law": name, **asdict(law)}
