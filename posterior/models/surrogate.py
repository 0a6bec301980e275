r"""A learned map in the place of a solver: faster, wrong by a known amount, and that amount part of the noise.

With S the map, e = G(x) - S(x) its error and b the mean of it, data of the solver G are

    y = P G(x) + n = P (S(x) + b) + P (e - b) + n,    P what follows the solver, n the noise,

and S + b takes the place of G. The law of P (e - b) + n comes from errors of held-out fields
(`posterior.models.model_error`). It is that of fields such as were trained on, in the mean: how the error depends on
the field is lost.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from infield.core._deepinv import LinearPhysics, Physics
from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.base import plain_physics
from infield.physics.operators.composition import compose
from infield.physics.units import same_units
from infield.posterior.models.model_error import ModelError, with_model_error
from infield.priors.base import Standardisation
from infield.priors.surrogates.learned_map import LearnedMap, StoredSurrogate, load_learned_map

SAME_SOLVER = 0.2
"""A solver is the one that was learned if it is off the held-out solution by at most this share of the map's error."""

FLOAT32_RTOL = 2e-5
"""And by at most this in any case, relative: files hold single precision."""


class Surrogate(Physics):
    """What a solver does, by a learned map to which its mean error was added.

    Arguments:
        stored: The map with its errors.
    """

    name: ClassVar[str] = "surrogate"
    observed: Tensor | None
    source_shift: Tensor
    source_scale: Tensor
    target_shift: Tensor
    target_scale: Tensor
    mean_error: Tensor

    def __init__(self, stored: StoredSurrogate) -> None:
        super().__init__(**plain_physics())
        self.grid = self.data_grid = Grid.from_json(stored.grid)
        self.data_shape = tuple(stored.residuals.shape[1:])
        self.channels = self.data_shape[0]
        if self.data_shape[1:] != self.grid.shape:
            raise InfieldError(
                where="surrogate", found=f"errors of shape {self.data_shape} on a grid {self.grid.shape}"
            )
        self.stored = dataclasses.replace(stored, map=dataclasses.replace(stored.map, network=torch.nn.Identity()))
        self.network = stored.map.network
        for name, units in (("source", stored.map.source), ("target", stored.map.target)):
            self.register_buffer(f"{name}_shift", units.shift)
            self.register_buffer(f"{name}_scale", units.scale)
        self.register_buffer("mean_error", stored.residuals.double().mean(0))
        self.register_buffer("observed", None)

    @property
    def learned(self) -> LearnedMap:
        source = Standardisation(self.source_shift, self.source_scale)
        return LearnedMap(self.network, source, Standardisation(self.target_shift, self.target_scale))

    @property
    def relative_error(self) -> float:
        """Measured relative L2 error for held-out fields, in the mean."""
        return float(self.stored.provenance["error"]["relative_l2"])

    def A(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.data_shape:
            raise InfieldError(
                where="operator 'surrogate'", found=f"a field of shape {tuple(x.shape[1:])}", expected=self.data_shape
            )
        return self.learned(x) + self.mean_error.to(x)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """The transposed Jacobian at `x` applied to `v`, by one backward pass."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.A(x), x, v)[0]


def load_surrogate(path: str | Path, device: torch.device | str = "cpu") -> Surrogate:
    """Load a surrogate from the checkpoint of `infield fit`; nothing in it is executed.

    Raises:
        InfieldError: The file is missing or corrupt, or holds no surrogate; one line names it.
    """
    stored = load_learned_map(path, device)
    try:
        return Surrogate(stored)
    except (InfieldError, KeyError, TypeError, ValueError) as error:
        raise InfieldError(where=path, found=f"parts of a surrogate that do not fit together ({error})") from error


@dataclasses.dataclass(frozen=True)
class SurrogateMeasurement:
    """A measurement whose solver was replaced.

    Arguments:
        measurement: The measurement, its noise inflated.
        error: What was added to the noise.
        original: The measurement with its solver.
    """

    measurement: Measurement
    error: ModelError
    original: Measurement

    def error_at(self, fields: Tensor) -> float:
        """How large the error at the data is for some fields, over what was added to the noise: about 1 if they are as
        those of the training.

        Arguments:
            fields: Draws of the posterior, for instance, shape `(batch, channel, *space)`; the solver runs for each.
        """
        with torch.no_grad():
            off = self.original.residual(fields) - self.measurement.residual(fields)
        noise = self.original.noise.variance.to(off)  # type: ignore[attr-defined]
        added = self.measurement.noise.variance.to(off) - noise  # type: ignore[attr-defined]
        seen = 1.0 if self.original.observed is None else self.original.observed.to(off)
        return float(off.square().sum() / len(off) / (added * seen).sum()) ** 0.5


def with_surrogate(measurement: Measurement, surrogate: Surrogate) -> Measurement:
    """The same measurement with a surrogate in the place of its solver, and the surrogate's error in its noise.

    Arguments:
        measurement: Under independent Gaussian noise; all that follows its solver is linear, such as sensors.
        surrogate: Trained on that solver, on its grid.

    Raises:
        InfieldError: The surrogate is for another solver, other parameters of it, another grid or other units; or the
            noise is of another law.
    """
    return replace_solver(measurement, surrogate).measurement


def replace_solver(measurement: Measurement, surrogate: Surrogate) -> SurrogateMeasurement:
    """As `with_surrogate`, with what was added to the noise."""
    operators = _flat(measurement.operator)
    place = max((i for i, operator in enumerate(operators) if _name(operator) != "affine"), default=0)
    before, solver, after = operators[:place], operators[place], operators[place + 1 :]
    _check(measurement, surrogate, solver, units=not after)
    if not isinstance(measurement.noise, GaussianNoise):
        raise _refusal(found=f"noise {type(measurement.noise).__name__}", expected="independent Gaussian noise")
    nonlinear = [_name(operator) for operator in before if not isinstance(operator, LinearPhysics)]
    if nonlinear:
        raise _refusal(found=f"'{nonlinear[0]}' after the solver", expected="linear operators such as points or a mask")
    errors = surrogate.stored.residuals.to(measurement.y)
    with torch.no_grad():
        errors = torch.cat([compose(*before).A(part) for part in errors.split(32)]) if before else errors
    error = with_model_error(measurement.noise, errors, measurement.observed)
    replaced = dataclasses.replace(
        measurement,
        operator=compose(*before, surrogate, *after) if before or after else surrogate,
        noise=error.noise,
        description=_described(measurement.description, surrogate),
    )
    return SurrogateMeasurement(replaced, error, measurement)


def _check(measurement: Measurement, surrogate: Surrogate, solver: Physics, *, units: bool) -> None:
    stored, name = surrogate.stored, _name(solver)
    learned = (stored.operator or {}).get("name", name)
    if learned != name:
        raise _refusal(found=f"a measurement of the solver '{name}'", expected=f"'{learned}' as in training")
    if solver.grid != surrogate.grid:  # type: ignore[attr-defined]
        raise _refusal(**_other_grid(solver.grid, surrogate.grid))  # type: ignore[attr-defined]
    if units and not same_units(stored.units[0], measurement.units):
        raise _refusal(
            found=f"a field in '{measurement.units}'",
            expected=f"'{stored.units[0]}' as in training",
            remedy="convert it",
        )
    x, u = (field[None].to(measurement.y) for field in stored.witness)
    with torch.no_grad():
        off = float((solver.A(x) - u).norm() / u.norm())
    if not off <= max(SAME_SOLVER * surrogate.relative_error, FLOAT32_RTOL):
        raise _refusal(
            found=f"an operator '{name}' whose solution for a held-out field is {off:.1%} off that of training",
            expected=f"at most the surrogate's own error, {surrogate.relative_error:.1%}",
            remedy=f"train on the measurement's parameters and units; this one was trained on {stored.operator}",
        )


def _other_grid(found: Any, expected: Grid) -> dict[str, str]:
    if not isinstance(found, Grid) or found.shape != expected.shape:
        is_found, was = str(tuple(found.shape)), str(expected.shape)
    else:
        is_found, was = (" by ".join(map(_axis, grid.axes)) for grid in (found, expected))
    return {
        "found": f"a grid of {is_found}",
        "expected": f"{was} as in training",
        "remedy": "train a surrogate on this grid",
    }


def _axis(axis: Axis) -> str:
    first, last = axis.coordinates[0], axis.coordinates[-1]
    return f"{axis.name} {first:g} to {last:g} {axis.units}{' periodic' if axis.periodic else ''}"


def _refusal(**fields: str) -> InfieldError:
    return InfieldError(where="surrogate", **fields)


def _flat(operator: Any) -> list[Physics]:
    """The operators of a composition, outermost first."""
    if _name(operator) != "compose":
        return [operator]
    return [part for member in operator.operators for part in _flat(member)]


def _name(operator: Any) -> str:
    return str(getattr(operator, "name", type(operator).__name__))


def _described(description: dict[str, Any], surrogate: Surrogate) -> dict[str, Any]:
    """The description, to be read only: no file can hold a surrogate, and `build_operator` refuses its name."""
    parts = _flat_description(description)
    place = max((i for i, part in enumerate(parts) if part.get("name") != "affine"), default=0)
    description = {"name": Surrogate.name, "parameters": {"of": parts[place], "sha256": surrogate.stored.sha256}}
    parts[place] = description
    return {"name": "compose", "operators": parts} if len(parts) > 1 else description


def _flat_description(description: dict[str, Any]) -> list[dict[str, Any]]:
    if description.get("name") != "compose":
        return [description]
    return [part for member in description["operators"] for part in _flat_description(member)]
