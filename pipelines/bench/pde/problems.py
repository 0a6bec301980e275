"""The inverse problems of `infield bench pde`: laws of fields, equations, measurements, and the priors of the fields.

Point values of the solution at random places of the grid, in the normalisation of the FAPS paper: the solution is
scaled to standard deviation 0.5 over the law of the field, and the noise has variance 1e-3 then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Generator, Tensor, nn

from infield.core._deepinv import Physics
from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.composition import Affine, Scale, compose
from infield.physics.operators.level_set import TwoPhaseLevelSet
from infield.physics.operators.registry import build_operator
from infield.physics.operators.sensors import PointSensors
from infield.physics.pde.dirichlet import interior, pad_boundary
from infield.physics.pde.sine_transform import sine_transform
from infield.pipelines.package_data import checkpoint_named
from infield.pipelines.run.simulations import KINDS, FieldLaw, Simulation, make_simulation
from infield.posterior.models.model_error import with_model_error
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import FixedBasis
from infield.priors.flows.flow import LearnedFlow
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import GaussianPrior
from infield.priors.random_fields.spectral import TwoPhaseField
from infield.priors.storage.checkpoint import load_flow_prior
from infield.priors.training.flow_matching import covariance_of

PROBLEMS = ("poisson", "helmholtz", "darcy", "navier-stokes")
POINTS = 64
PILOTS = 256
"""Fields of the law from which the scale of its solutions is known; none of them is a case."""

PILOT_SEED = 77_000_000
MAX_ITERATIONS = 150
"""Of a Darcy solve: fields of the law need 20; one that needs more is no such field, and must not take minutes."""

STEP = 0.35
"""Width of the smooth step between two phases, in spacings of the grid."""

PRIORS = {
    "poisson": "pde_dirichlet",
    "helmholtz": "pde_dirichlet",
    "darcy": "pde_darcy",
    "navier-stokes": "pde_vorticity",
}
"""Poisson and Helmholtz have one law of fields, and so one prior."""


@dataclass(frozen=True)
class Setting:
    """How much of the solution is seen.

    Arguments:
        name: What the bench calls it.
        data: Number of points.
        noise_variance: In the paper's normalisation.
    """

    name: str
    data: int
    noise_variance: float


SETTINGS = (Setting("128 noisy", 128, 1e-3), Setting("500 noise-free", 500, 1e-6))
"""Noise-free data get a variance of 1e-6, 0.2 % of the standard deviation of the solution: no likelihood is a point."""


@dataclass(frozen=True)
class Case:
    """One measurement, twice.

    Arguments:
        of_field: Data, solver, noise and true field as they are.
        sampled: The same of what priors are priors of: the field itself, or the level set of a field of two phases,
            with a smooth step before the solver, and what that step gets wrong added to the noise.
    """

    of_field: Measurement
    sampled: Measurement

    @property
    def truth(self) -> Tensor:
        """The true field, shape `(1, *space)`."""
        assert self.of_field.truth is not None
        return self.of_field.truth[0]


@dataclass(frozen=True)
class Problem:
    """One equation with its law of fields.

    Arguments:
        name: One of `PROBLEMS`.
        points: Along each axis.
    """

    name: str
    points: int = POINTS

    @cached_property
    def simulation(self) -> Simulation:
        """What `infield simulate` makes of the name, with its defaults."""
        return make_simulation(self.name, shape=(self.points, self.points))

    @property
    def grid(self) -> Grid:
        return self.simulation.grid

    @property
    def law(self) -> FieldLaw:
        return KINDS[self.name].law

    @property
    def linear(self) -> bool:
        return self.name in ("poisson", "helmholtz")

    @property
    def threshold(self) -> float | None:
        """Between the two values of a field that has only two; None for the others."""
        if not isinstance(self.law, TwoPhaseField):
            return None
        return sum(self.law.values) / 2

    @cached_property
    def pilots(self) -> dict[str, Tensor]:
        return self.simulation.samples(PILOT_SEED, range(PILOTS))

    @property
    def sampled(self) -> Tensor:
        """What priors are priors of, for the pilots, shape `(pilots, 1, *space)`."""
        return self.pilots["coefficient" if self.step is None else "level_set"][:, None]

    @cached_property
    def step(self) -> TwoPhaseLevelSet | None:
        """From the level set to the field, where it has two phases."""
        if not isinstance(self.law, TwoPhaseField):
            return None
        return TwoPhaseLevelSet(self.grid, *self.law.values, width=STEP * min(self.grid.spacing))

    def field(self, sampled: Tensor) -> Tensor:
        """The field of what was sampled, shape of it."""
        return sampled if self.step is None else self.step.sharp(sampled)

    @cached_property
    def step_errors(self) -> Tensor:
        """What the solutions of pilots have beyond those of their smooth steps, normalised, `(pilots, 1, *space)`."""
        assert self.step is not None
        with torch.no_grad():
            smooth = self.equation.A(self.step.A(self.sampled))
        return self.normalisation[1] * (self.pilots["solution"][:, None] - smooth)

    @cached_property
    def field_deviation(self) -> float:
        """Standard deviation of the field over its law."""
        return float(self.pilots["coefficient"].std())

    @cached_property
    def normalisation(self) -> tuple[float, float]:
        """Shift and scale that bring solutions to mean 0 and standard deviation 0.5; linear ones have mean 0."""
        solutions = self.pilots["solution"]
        scale = 0.5 / float(solutions.std())
        return (0.0 if self.linear else -scale * float(solutions.mean())), scale

    def truth(self, seed: int, case: int) -> Tensor:
        """The field of one case, shape `(1, 1, *space)`."""
        return self.law.draw(self.grid, SampleStreams(seed, [case]).normal)[:, None]

    @cached_property
    def equation(self) -> Physics:
        operator = self.simulation.operator or {}
        parameters = dict(operator["parameters"])
        if self.name == "darcy":
            parameters["max_iterations"] = MAX_ITERATIONS
        return build_operator({"name": self.name, "parameters": parameters}, {}, self.grid, 1)

    def measure(self, truth: Tensor, setting: Setting, generator: Generator) -> Case:
        """Data of a field `(1, 1, *space)` at places that the generator chooses."""
        shift, scale = self.normalisation
        indices = torch.randperm(self.grid.size, generator=generator)[: setting.data].sort().values
        points = PointSensors.at_indices(self.grid, 1, indices)
        one = torch.ones((1, 1, 1), dtype=torch.float64)
        normalise = Scale(self.grid, 1, scale * one) if self.linear else Affine(self.grid, 1, scale * one, shift * one)
        solver = compose(points, normalise, self.equation)
        noise = GaussianNoise(torch.tensor(setting.noise_variance, dtype=torch.float64))
        with torch.no_grad():
            z = solver.A(truth)
        eta = noise.root(torch.randn(z.shape, generator=generator, dtype=torch.float64))
        of_field = Measurement(y=z + eta, operator=solver, noise=noise, grid=self.grid, truth=truth)
        if self.step is None:
            return Case(of_field, of_field)
        errors = points.A(self.step_errors)
        sampled = replace(
            of_field,
            y=of_field.y - errors.mean(0),
            operator=compose(solver, self.step),
            noise=with_model_error(noise, errors, None).noise,
            truth=None,
        )
        return Case(of_field, sampled)


def learned_prior(problem: Problem) -> LearnedFlow:
    """The trained prior of a problem's field, by its name.

    Raises:
        InfieldError: It is not there, or of another grid.
    """
    path = checkpoint_named(PRIORS[problem.name])
    prior = load_flow_prior(path)
    if prior.grid_description != problem.grid.to_json():
        raise InfieldError(
            where=path, found="a prior on another grid", expected=f"{problem.points} x {problem.points} points"
        )
    return prior


def untrained_prior(problem: Problem, rank: int = 32) -> LearnedFlow:
    """The closed-form flow of a Gaussian with the spectrum of the pilots, under a network that has learned nothing."""
    grid = problem.grid
    fields = problem.sampled
    standardisation = Standardisation(fields.mean().reshape(1, 1, 1), fields.std().reshape(1, 1, 1))
    x = standardisation.from_units(fields)
    source = Matern(nu=0.5, length=0.1, wrap=True).covariance(grid)
    return LearnedFlow(
        name="untrained",
        network=_Nothing(),
        source=source,
        covariance=covariance_of(x, source, rank),
        mean=x.mean(0),
        standardisation=standardisation,
        skip="gaussian",
        grid_description=grid.to_json(),
        units="1",
        channels=("field",),
        provenance={"kind": "flow", "network": "none"},
    )


class _Nothing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return 0 * x


@dataclass(frozen=True)
class Sines(FixedBasis):
    """Sines that vanish on the boundary, orthonormal at the points inside; boundary values as they are.

    Arguments:
        ndim: Number of space axes.
    """

    ndim: int

    def analyse(self, x: Tensor) -> Tensor:
        boundary = x - pad_boundary(interior(x, self.ndim), self.ndim)
        return boundary + pad_boundary(sine_transform(interior(x, self.ndim), self.ndim), self.ndim)

    def synthesise(self, c: Tensor) -> Tensor:
        return self.analyse(c)

    def to(self, device: torch.device | str) -> Sines:
        return self


def exact_prior(problem: Problem) -> GaussianPrior:
    """The law of the fields of Poisson and Helmholtz in closed form: independent sines."""
    modes = Sines(problem.grid.ndim)
    fields = problem.law.draw(problem.grid, lambda shape: torch.ones((1, *shape), dtype=torch.float64))
    covariance = Covariance.diagonal_in(modes, modes.analyse(fields[:, None])[0].square())
    return GaussianPrior(
        name=f"law of {problem.name}'s field",
        source=replace(covariance, diagonal=torch.ones_like(covariance.diagonal)),
        covariance=covariance,
        mean=torch.zeros_like(covariance.diagonal),
        standardisation=Standardisation.identity(covariance.event_shape),
        provenance={"kind": "gaussian", "law": str(problem.law)},
    )
