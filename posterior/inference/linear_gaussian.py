r"""Conditioning a Gaussian field on linear data with Gaussian noise, in closed form and without N-by-N matrices.

For u ~ N(m, K) and y = A u + eta, eta ~ N(0, R), a draw of u | y is (Matheron's rule; Wilson et al. 2020, arXiv
2002.09309, eq. 8)

    u + K A^T (A K A^T + R)^{-1} (y + eta - A u),    u ~ N(m, K),  eta ~ N(0, R).

Few data: the matrix A K A^T + R is formed once a covariance and factored. So it is for up to a few thousand point
sensors on a large torus under a stationary covariance (`posterior.inference.point_sensor_solver`). Data of an
interferometer fall apart into one small matrix a mode across the sky: such a way of solving is a `Solver`, found in
the registry (group `solvers`). Many data: with K = S S^T the same correction is

    S (1 + S^T A^T R^{-1} A S)^{-1} S^T A^T R^{-1} (y + eta - A u),

solved by conjugate gradients in the coordinates of S.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast

import torch
from torch import Generator, Tensor

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.randomness import Randomness, normal
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import refuse_unknown_variance
from infield.physics.noise.registry import GaussianNoiseModel
from infield.physics.operators.composition import outermost_has
from infield.posterior.inference.conjugate_gradients import conjugate_gradients
from infield.posterior.inference.point_sensor_solver import PointSensorSolver
from infield.posterior.inference.unseen_regions import UnseenRegions, applies_to
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley, Modes

DENSE_DATA = 1500
"""Up to this many data the data-by-data matrix is formed (18 MiB)."""

DENSE_ENTRIES = 40_000_000
"""And data-by-modes and data-by-y matrices, where they have at most this many entries (320 MiB)."""

SENSORS, SENSOR_ENTRIES = 4096, 1_000_000
"""Up to so many point sensors on a stationary field their matrix is formed by look-ups (128 MiB), however large the
field; from so many entries of a data-by-modes matrix on that is the faster way."""

BATCH_ENTRIES = 1_500_000
"""Entries of the data of so many fields that conjugate gradients treat together (12 MiB an array)."""

UNIT_ENTRIES = 16_000_000
"""Entries of unit data that are taken through the adjoint together (128 MiB an array)."""

PROBES = 8
"""Random sign fields from which the preconditioner of conjugate gradients is estimated."""


class Solver(Protocol):
    """A closed form for data of some structure; its class has `of(measurement, modes)`, None for other data."""

    def applies_to(self, covariance: Covariance, /) -> bool:
        """Whether it holds for fields of a covariance K."""
        ...

    def solve(self, r: Tensor, covariance: Covariance, /) -> Tensor:
        """(A K A^T + R)^{-1} r for r of shape `(batch, *data)`, 0 where nothing was measured; same shape."""
        ...


@dataclass
class LinearGaussianData:
    """Linear data with Gaussian noise, ready to condition fields of one basis.

    Arguments:
        measurement: Linear operator, Gaussian noise; in the standardised units of the prior.
        modes: Basis of the covariances to come.
        tolerance: Where conjugate gradients stop: a bound on their error in posterior standard deviations, root mean
            square.
        max_iterations: And the number of iterations at which they give up.
    """

    measurement: Measurement
    modes: Modes
    tolerance: float = 0.1
    max_iterations: int = 2000

    def __post_init__(self) -> None:
        self._factor: tuple[Covariance, Tensor] | None = None
        if not self.measurement.linear_gaussian:
            description = self.measurement.description
            while "operators" in description:  # the outermost, behind its units
                description = description["operators"][0]
            name = description.get("name") or type(self.measurement.operator).__name__
            raise InfieldError(
                where="closed-form conditioning",
                found=f"operator '{name}' and {type(self.measurement.noise).__name__}",
                expected="a linear operator and Gaussian noise",
                remedy="use {sampler}",
                parameters={"sampler": "faps"},
            )
        refuse_unknown_variance(self.measurement.noise)

    @cached_property
    def observed(self) -> Tensor:
        """Which entries of y are data, shape of the data."""
        observed = self.measurement.observed
        return torch.ones_like(self.measurement.y[0], dtype=torch.bool) if observed is None else observed

    @cached_property
    def dense(self) -> bool:
        """Whether the data are few enough to form matrices."""
        entries = self.measurement.count * max(math.prod(self.measurement.event_shape), self.observed.numel())
        return self.measurement.count <= DENSE_DATA and entries <= DENSE_ENTRIES

    @cached_property
    def sensors(self) -> PointSensorSolver | None:
        """The data as point sensors on a torus, if that is the cheapest form."""
        entries = self.measurement.count * math.prod(self.measurement.event_shape)
        few = self.dense and entries <= SENSOR_ENTRIES
        if few or self.measurement.count > SENSORS or not isinstance(self.modes, Hartley):
            return None
        return PointSensorSolver.of(self.measurement.operator, tuple(self.measurement.event_shape[1:]))

    def by_sensors(self, covariance: Covariance) -> bool:
        """Whether a covariance between the data is read off its covariance function."""
        return self.sensors is not None and self.sensors.applies_to(covariance)

    @cached_property
    def solvers(self) -> list[Solver]:
        """Closed forms of the registry that hold for these data."""
        kinds = (registry.load("solvers", name) for name in registry.names("solvers"))
        return [solver for kind in kinds if (solver := kind.of(self.measurement, self.modes)) is not None]

    @cached_property
    def index(self) -> Tensor:
        """Flat places of the data among the entries of y."""
        return self.observed.flatten().nonzero()[:, 0]

    @cached_property
    def operator_matrix(self) -> Tensor:
        """A T^T, shape `(data, modes)`."""
        return self.operator_rows(self.index)

    @cached_property
    def noise_matrix(self) -> Tensor:
        """R, shape `(data, data)`."""
        return self.noise_block(self.index)

    def operator_rows(self, index: Tensor) -> Tensor:
        """Rows of A T^T for the data at some places: A acting on the modes' coordinates, shape `(places, modes)`."""
        operator: Any = self.measurement.operator
        if outermost_has(operator, "adjoint_of_units"):
            few = max(UNIT_ENTRIES // math.prod(self.measurement.event_shape), 1)
            fields = (operator.adjoint_of_units(part) for part in index.split(few))
            return torch.cat([self.modes.analyse(x).flatten(1) for x in fields])
        return torch.cat([self.modes.analyse(self.adjoint(unit)).flatten(1) for unit in self._units(index)])

    def noise_block(self, index: Tensor) -> Tensor:
        """R between the data at some places, shape `(places, places)`."""
        if hasattr(self.noise, "block"):
            return cast(Tensor, self.noise.block(index, tuple(self.observed.shape)))
        return torch.cat([self.noise.apply(unit).flatten(1)[:, index] for unit in self._units(index)])

    def _units(self, index: Tensor) -> Iterator[Tensor]:
        """Data that are 1 at one place each, in batches of shape `(at most 32, *data)`."""
        for block in index.split(min(max(UNIT_ENTRIES // self.observed.numel(), 1), 32)):
            unit = self.measurement.y.new_zeros((len(block), self.observed.numel()))
            unit[torch.arange(len(block)), block] = 1.0
            yield unit.reshape(-1, *self.observed.shape)

    @property
    def noise(self) -> GaussianNoiseModel:
        """The noise model; that it is Gaussian was checked when this object was made."""
        return cast(GaussianNoiseModel, self.measurement.noise)

    @cached_property
    def masked_by_operator(self) -> bool:
        """Whether A gives zeros, and its adjoint ignores values, wherever there are no data."""
        own = getattr(self.measurement.operator, "observed", None)
        return self.measurement.observed is None or (own is not None and bool((own <= self.observed).all()))

    def mask_unobserved(self, y: Tensor) -> Tensor:
        """y where there are data, 0 elsewhere."""
        return y if self.masked_by_operator else torch.where(self.observed, y, 0.0)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.measurement.operator.A_adjoint(self.mask_unobserved(y))

    def misfit(self, u: Tensor) -> Tensor:
        """y - A u where there are data, 0 elsewhere; shape `(batch, *data)`."""
        return self.measurement.residual(u)

    def factorise(self, covariance: Covariance) -> Tensor:
        """Lower Cholesky factor of A K A^T + R on the observed data, shape `(data, data)`; the last one is kept."""
        if self._factor is None or self._factor[0] is not covariance:
            self._factor = (covariance, torch.linalg.cholesky(self._gram(covariance) + self.noise_matrix))
        return self._factor[1]

    def _gram(self, covariance: Covariance) -> Tensor:
        """A K A^T on the observed data, shape `(data, data)`."""
        if self.by_sensors(covariance):
            assert self.sensors is not None
            return self.sensors.gram(covariance, self.index)
        B = self.operator_matrix
        BF = B @ covariance.factors.flatten(1).mT
        return (B * covariance.diagonal.flatten()) @ B.mT + BF @ BF.mT

    def draw(self, mean: Tensor, covariance: Covariance, generator: Randomness) -> Tensor:
        """One draw of u | y for each mean.

        Arguments:
            mean: m, shape `(batch, channel, *space)`.
            covariance: K, the same for the whole batch.
            generator: Source of the random numbers.

        Returns:
            Fields, shape `(batch, channel, *space)`.
        """
        n, device = len(mean), mean.device
        white = normal(generator, n, covariance.event_shape, device)
        more = normal(generator, n, covariance.event_shape, device) if covariance.rank else None
        return self.draw_from(mean, covariance, white, more, normal(generator, n, tuple(self.observed.shape), device))

    def draw_from(
        self, mean: Tensor, covariance: Covariance, white: Tensor, more: Tensor | None, noise: Tensor
    ) -> Tensor:
        """The draw of u | y that standard normal numbers make, by Matheron's rule.

        Arguments:
            mean, covariance: As in `draw`.
            white, more: For `Covariance.colour` of K.
            noise: Shape `(batch, *data)`.

        Returns:
            Fields, shape `(batch, channel, *space)`.
        """
        eta = self.noise.root(noise)
        u = mean + covariance.colour(white, more)
        return u + self.correction(torch.where(self.observed, self.misfit(u) + eta, 0.0), covariance)

    def mean(self, mean: Tensor, covariance: Covariance) -> Tensor:
        """E[u | y] = m + K A^T (A K A^T + R)^{-1} (y - A m), shape `(batch, channel, *space)`."""
        return mean + self.correction(self.misfit(mean), covariance)

    def correction(self, r: Tensor, covariance: Covariance) -> Tensor:
        """K A^T (A K A^T + R)^{-1} r for r of shape `(batch, *data)`."""
        if self.dense and not self.by_sensors(covariance):
            back = (self._solve_data(r, covariance) @ self.operator_matrix).reshape(len(r), *covariance.event_shape)
            return self.modes.synthesise(covariance.apply_to_modes(back))
        if (z := self._solve_directly(r, covariance)) is not None:
            return covariance.apply(self.adjoint(z))
        few = max(BATCH_ENTRIES // self.observed.numel(), 1)  # large batches only outgrow the caches
        return torch.cat([self._iterative_correction(part, covariance) for part in r.split(few)])

    def solve(self, r: Tensor, covariance: Covariance) -> Tensor:
        """(A K A^T + R)^{-1} r for r of shape `(batch, *data)`, 0 where nothing was measured; same shape."""
        if (z := self._solve_directly(r, covariance)) is not None:
            return z
        left = r - self._data(self.correction(r, covariance))
        return self.mask_unobserved(self.noise.solve(left))

    def _solve_directly(self, r: Tensor, covariance: Covariance) -> Tensor | None:
        """As `solve`, by a matrix or by a closed form of the registry; None where there is neither."""
        if self.by_sensors(covariance) or self.dense:
            z = self._solve_data(r, covariance)
            return r.new_zeros((len(r), self.observed.numel())).index_copy(1, self.index, z).reshape(r.shape)
        for solver in self.solvers:
            if solver.applies_to(covariance):
                return solver.solve(r, covariance)
        return None

    def _solve_data(self, r: Tensor, covariance: Covariance) -> Tensor:
        """(A K A^T + R)^{-1} r by its factor, on the observed data alone, shape `(batch, data)`."""
        return torch.cholesky_solve(r.flatten(1)[:, self.index].mT, self.factorise(covariance)).mT

    @cached_property
    def information(self) -> Tensor:
        """Diagonal of T A^T R^{-1} A T^T, the information of the data on each mode, shape `(modes,)`.

        Estimated with random signs (Bekas, Kokiopoulou & Saad 2007); it only preconditions, so a rough estimate
        suffices.
        """
        shape = (PROBES, *self.measurement.event_shape)
        signs = torch.randint(0, 2, shape, generator=Generator().manual_seed(0), dtype=torch.int8).to(
            self.measurement.y
        )
        signs = 2 * signs - 1
        few = max(BATCH_ENTRIES // self.observed.numel(), 1)
        through = [self.normal(self.modes.synthesise(part)) for part in signs.split(few)]
        estimate = (signs * self.modes.analyse(torch.cat(through))).mean(0).flatten()
        if self.unseen is not None:  # of what is seen
            estimate = estimate / self.unseen.seen
        return estimate.clamp_min(0.1 * float(estimate.mean()))

    def normal(self, x: Tensor) -> Tensor:
        """A^T R^{-1} A x, shape of x."""
        operator: Any = self.measurement.operator
        if self.masked_by_operator and hasattr(self.noise, "precision") and outermost_has(operator, "normal"):
            return cast(Tensor, operator.normal(x, self.noise.precision))
        return self.adjoint(self.noise.solve(self._data(x)))

    def _data(self, x: Tensor) -> Tensor:
        return self.mask_unobserved(self.measurement.operator.A(x))

    def _iterative_correction(self, r: Tensor, covariance: Covariance) -> Tensor:
        root, F = covariance.diagonal.sqrt().flatten(), covariance.factors.flatten(1)

        def S(w: Tensor) -> Tensor:  # (batch, modes + rank) -> fields
            c = root * w[:, : len(root)] + w[:, len(root) :] @ F
            return self.modes.synthesise(c.reshape(-1, *covariance.event_shape))

        def S_T(x: Tensor) -> Tensor:
            c = self.modes.analyse(x).flatten(1)
            return torch.cat([root * c, c @ F.mT], dim=1)

        def normal_operator(w: Tensor) -> Tensor:
            return w + S_T(self.normal(S(w)))

        diagonal = 1 + torch.cat([root**2 * self.information, F**2 @ self.information])
        right = S_T(self.adjoint(self.noise.solve(r)))
        solution = conjugate_gradients(
            normal_operator,
            right,
            self.tolerance,
            self.max_iterations,
            diagonal=diagonal,
            preconditioner=self._of_regions(covariance, diagonal),
        )
        return S(solution)

    def _of_regions(self, covariance: Covariance, diagonal: Tensor) -> Callable[[Tensor], Tensor] | None:
        """The preconditioner of data without information on whole regions, on modes; factors keep their diagonal."""
        if self.unseen is None or not applies_to(covariance):
            return None
        of_modes = self.unseen.preconditioner(covariance, self.information.reshape(covariance.event_shape))
        modes = covariance.diagonal.numel()
        return lambda w: torch.cat([of_modes(w[:, :modes]), w[:, modes:] / diagonal[modes:]], dim=1)

    @cached_property
    def unseen(self) -> UnseenRegions | None:
        """Windows on the regions without data: where the adjoint of random data is 0."""
        y = torch.randn(self.measurement.y[:1].shape, generator=Generator().manual_seed(0), dtype=torch.float64)
        back = self.adjoint(torch.where(self.observed, y.to(self.measurement.y), 0.0))
        return UnseenRegions.of((back[0] != 0).any(0))

    def log_evidence(self, mean: Tensor, covariance: Covariance) -> Tensor:
        """log N(y; A m, A K A^T + R), a scalar.

        Raises:
            InfieldError: If the data are too many to form their matrix.
        """
        if not (self.dense or self.by_sensors(covariance)):
            raise InfieldError(
                where="log evidence",
                found=f"{self.measurement.count} data",
                expected=f"at most {DENSE_DATA}",
                remedy="thin the data",
            )
        L = self.factorise(covariance)
        r = self.misfit(mean[None]).flatten(1)[:, self.index].mT
        z = torch.linalg.solve_triangular(L, r, upper=False)
        return -0.5 * (z.square().sum() + 2 * L.diagonal().log().sum() + len(L) * math.log(2 * math.pi))
