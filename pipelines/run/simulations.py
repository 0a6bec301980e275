"""What can be simulated: the law of the coefficient, the operator that solves for it, the grid, and their names."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.core.randomness import SampleStreams
from infield.datasets.formats.simulation import Variable
from infield.physics.operators.level_set import signed_distance
from infield.physics.operators.registry import build_operator
from infield.priors.random_fields.processes import (
    PROCESSES,
    GibbsProcess,
    LogNormalProcess,
    MaternProcess,
    MixtureProcess,
    TruncatedProcess,
)
from infield.priors.random_fields.spectral import LI_VORTICITY, SpectralField, TwoPhaseField, White


class FieldLaw(Protocol):
    """A law of which fields can be drawn on a grid; a dataclass whose fields are its parameters."""

    def draw(self, grid: Any, white: White) -> Tensor: ...


STORED_NAMES: dict[type, str] = {
    SpectralField: "SpectralField",
    TwoPhaseField: "TwoPhaseField",
    MaternProcess: "MaternProcess",
    GibbsProcess: "GibbsProcess",
    TruncatedProcess: "TruncatedProcess",
    LogNormalProcess: "LogNormalProcess",
    MixtureProcess: "MixtureProcess",
}
"""Names of the laws in files, whatever the classes are called."""


def stored_name(law: FieldLaw) -> str:
    """The name of a law in a file: a domain's law brings its `stored_name`, one that is not ours goes by its class."""
    return STORED_NAMES.get(type(law), getattr(law, "stored_name", type(law).__name__))


@dataclass(frozen=True)
class Kind:
    """One kind of simulation with its defaults.

    Arguments:
        law: Law of the field.
        variables: What the file holds: the field, and what the operator makes of it if there is one.
        parameters: Of the operator of the same name.
        periodic: Whether the grid is.
    """

    law: FieldLaw
    variables: tuple[Variable, ...]
    parameters: dict[str, Any] = field(default_factory=dict)
    periodic: bool = False


def _pair(coefficient: str, solution: str) -> tuple[Variable, Variable]:
    return Variable("coefficient", coefficient), Variable("solution", solution)


KINDS = {
    "darcy": Kind(
        TwoPhaseField(),
        _pair("logarithm of the permeability a", "pressure u: -div(a grad u) = forcing, u = 0 on the rim"),
    ),
    "poisson": Kind(SpectralField(), _pair("source f", "solution u of -Laplacian u = f, u = 0 on the rim")),
    "helmholtz": Kind(
        SpectralField(),
        _pair("source f", "solution u of -Laplacian u + k^2 u = f, u = 0 on the rim"),
        {"wavenumber_squared": 1.0},
    ),
    "navier-stokes": Kind(
        LI_VORTICITY,
        _pair("vorticity at the beginning", "vorticity at the end"),
        {"viscosity": 1e-3, "time": 1.0, "forcing": "li"},
        periodic=True,
    ),
}
LEVEL_SET = Variable("level_set", "distance to the interface of the phases, positive where the value is high")
PROCESS = "process"


@dataclass(frozen=True)
class Simulation:
    """A simulation that can be run.

    Arguments:
        kind: Its name.
        law: Law of the field.
        variables: What the file holds.
        grid: Domain of the fields.
        operator: The operator as `build_operator` reads it; None where the field is all there is.
        channels: Names of the channels of a variable with an axis `channel`.
    """

    kind: str
    law: FieldLaw
    variables: tuple[Variable, ...]
    grid: Grid
    operator: dict[str, Any] | None = None
    channels: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything that the samples depend on beside the grid and the seed, in JSON types."""
        law = {"name": stored_name(self.law), **dataclasses.asdict(self.law)}  # type: ignore[call-overload]
        described: dict[str, Any] = json.loads(json.dumps({"law": law, "operator": self.operator}))
        return described

    def samples(self, seed: int, numbers: range) -> dict[str, Tensor]:
        """Samples by their numbers: every variable, `(samples, *space)`, float64 or complex128.

        Raises:
            InfieldError: The solver refuses one of them.
        """
        with torch.no_grad():
            fields = self.law.draw(self.grid, SampleStreams(seed, numbers).normal)
            found = [fields]
            if self.operator is not None:
                found.append(build_operator(self.operator, {}, self.grid, 1).A(fields[:, None])[:, 0])
            if isinstance(self.law, TwoPhaseField):
                found.append(signed_distance(fields > sum(self.law.values) / 2, self.grid))
        return {variable.name: values for variable, values in zip(self.variables, found, strict=True)}


def make_simulation(
    kind: str, *, law: str | None = None, shape: Sequence[int] = (), settings: Sequence[str] = ()
) -> Simulation:
    """Build a simulation.

    Arguments:
        kind: One of `KINDS`, or "process".
        law: Name of the process.
        shape: Points along each axis.
        settings: `NAME=VALUE` for the parameters of the law and of the operator.

    Raises:
        InfieldError: Something of it is not known or does not fit.
    """
    given = settings_of(settings)
    if kind == PROCESS:
        return _process(law, shape, given)
    if law is not None:
        raise InfieldError(
            where=f"--law {law}",
            found="a simulation whose distribution is fixed",
            expected="a process",
            remedy="leave it out, and set its parameters by --with",
        )
    chosen = KINDS[kind]
    names = parameters_of_law(chosen.law)
    drawn = dataclasses.replace(chosen.law, **{k: v for k, v in given.items() if k in names})  # type: ignore[type-var]
    parameters = chosen.parameters | {k: v for k, v in given.items() if k not in names}
    variables = chosen.variables
    if isinstance(drawn, TwoPhaseField):
        parameters["coefficient"] = drawn.coefficient
        if drawn.coefficient == "value":
            variables = _pair("permeability a", variables[1].long_name)
        variables = (*variables, LEVEL_SET)
    grid = Grid.regular(checked_shape(shape or (64, 64)), periodic=chosen.periodic)
    operator = {"name": kind, "parameters": parameters}
    try:
        build_operator(operator, {}, grid, 1)
    except InfieldError as error:
        raise error.with_remedy(f"the law of the field takes {', '.join(names)}") from error
    return Simulation(kind, drawn, variables, grid, operator)


def _process(law: str | None, shape: Sequence[int], given: dict[str, Any]) -> Simulation:
    if law not in PROCESSES:
        raise InfieldError(where="--law", found=f"{law!r}", expected=f"one of {', '.join(PROCESSES)}")
    names = parameters_of_law(PROCESSES[law])
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise InfieldError(
            where="--with", found=f"no parameter {', '.join(unknown)} of the process '{law}'", expected=", ".join(names)
        )
    shape = checked_shape(shape or (128,))
    if len(shape) != 1:
        raise InfieldError(where="--shape", found=f"{len(shape)} axes", expected="1 for a process")
    axis = Axis("x", tuple(i / shape[0] for i in range(shape[0])))
    variables = (Variable("field", f"value of a random function ({law})"),)
    return Simulation(f"{PROCESS} {law}", PROCESSES[law](**given), variables, Grid((axis,)))


def parameters_of_law(law: Any) -> list[str]:
    return [parameter.name for parameter in dataclasses.fields(law)]


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    if any(n < 3 for n in shape) or len(shape) > 3 or math.prod(shape) > 2**31:
        raise InfieldError(
            where="--shape", found=" ".join(map(str, shape)), expected="1 to 3 numbers of at least 3 points"
        )
    return tuple(shape)


def settings_of(texts: Sequence[str]) -> dict[str, Any]:
    """Values by name, from several `NAME=VALUE`.

    Raises:
        InfieldError: One is no such pair, or a name is given twice.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, value = setting(text)
        if name in values:
            raise InfieldError(where="--with", found=f"{name} twice", expected="once")
        values[name] = value
    return values


def setting(text: str) -> tuple[str, Any]:
    """Name and value of `NAME=VALUE`; a value that is no Python literal is text."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InfieldError(where=f"--with {text}", expected="NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
