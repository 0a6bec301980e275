"""Fields that are known everywhere, on which the mean of the unknown one depends linearly: heights, distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.physics.context import Quantity
from infield.physics.operators.sensors import PointSensors


@dataclass(frozen=True, eq=False)
class Covariate:
    """A field on the grid as a function of position: multilinear between grid points, scaled to be of order 1.

    Arguments:
        name: Of the field.
        grid: Where it is known.
        values: The field, shape `space`.
        centre, scale: Its mean and standard deviation.
    """

    name: str
    grid: Grid
    values: Tensor
    centre: float
    scale: float

    def __call__(self, x: Tensor) -> Tensor:
        """At positions `(n, ndim)`, shape `(n,)`."""
        sensors = PointSensors.at_coordinates(self.grid, 1, x)
        return (sensors.A(self.values[None, None])[0, 0] - self.centre) / self.scale


def covariates_of(
    names: Sequence[str], context: Mapping[str, Quantity], grid: Grid | PointSet
) -> tuple[Covariate, ...]:
    """Covariates from the context of a measurement.

    Raises:
        InfieldError: A name is none of a field with one channel, the field is constant, or there is no grid.
    """
    found = []
    for name in names:
        value = context[name].value if name in context else None
        if not isinstance(value, Tensor) or value.shape[1] != 1 or not isinstance(grid, Grid):
            known = [key for key, of in context.items() if isinstance(of.value, Tensor)]
            raise InfieldError(
                where="{covariates}", found=f"'{name}'",
                expected=f"a field of the file's context ({', '.join(known) or 'it has none'}), on a grid",
                remedy="`infield convert table` takes them along ({covariate})", parameters=["covariates", "covariate"],
            )  # fmt: skip
        values = value[0, 0].double()
        scale = float(values.std(correction=0))
        if not scale > 1e-12 * max(float(values.abs().max()), 1e-300):
            raise InfieldError(
                where="{covariates}", found=f"'{name}', which is the same everywhere", expected="a field that varies",
                parameters=["covariates"],
            )  # fmt: skip
        found.append(Covariate(name, grid, values, float(values.mean()), scale))
    return tuple(found)
