"""Checked description of one operator: its parameters, its arrays and the field on which it acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core.checks import is_positive
from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet


@dataclass(frozen=True)
class OperatorDescription:
    """One operator as a file describes it.

    Arguments:
        name: Name of the operator.
        parameters: Numbers and words by name.
        arrays: Arrays by their role in the operator ("mask"), already looked up.
        grid: Grid of the operator's input.
        channels: Number of channels of the operator's input.
        checked: Whether it was verified to be the same operator each time it is built, see `operators.rebuilt`.
    """

    name: str
    parameters: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    grid: Grid | PointSet
    channels: int
    checked: bool = False

    @classmethod
    def parse(
        cls,
        description: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        grid: Grid | PointSet,
        channels: int,
        checked: bool = False,
    ) -> OperatorDescription:
        """Look up the arrays that a description names.

        Raises:
            InfieldError: If the description has unknown entries, or an array is missing or not finite.
        """
        name = description["name"]
        unknown = sorted(set(description) - {"name", "parameters", "arrays"})
        if unknown:
            raise InfieldError(
                where=f"operator '{name}'", found=f"the entries {unknown}", expected="name, parameters, arrays"
            )
        parts = {}
        for entry in ("parameters", "arrays"):
            parts[entry] = description.get(entry) or {}
            if not isinstance(parts[entry], Mapping):
                raise InfieldError(
                    where=f"operator '{name}'", found=f"{entry} {parts[entry]!r}", expected="names with values"
                )
        resolved = {}
        for role, variable in parts["arrays"].items():
            if not isinstance(variable, str):
                raise InfieldError(
                    where=f"operator '{name}'", found=f"{role} {variable!r}", expected="the name of a variable"
                )
            if variable not in arrays:
                raise InfieldError(
                    where=f"operator '{name}': {role}",
                    found=f"no variable '{variable}'",
                    expected=f"one of {sorted(arrays)}",
                    remedy=f"add '{variable}', or name another one",
                )
            array = np.asarray(arrays[variable])
            if array.dtype.kind not in "biufc":
                raise InfieldError(
                    where=f"operator '{name}': {role} '{variable}'", found=f"type {array.dtype}", expected="numbers"
                )
            wrong = int((~np.isfinite(array)).sum())
            if wrong:
                raise InfieldError(
                    where=f"operator '{name}': {role} '{variable}'",
                    found=f"{wrong} NaN or Inf of {array.size} values",
                    expected="finite numbers",
                )
            resolved[role] = array
        return cls(name, parts["parameters"], resolved, grid, channels, checked)

    def error(self, message: str = "", **fields: str) -> InfieldError:
        """An error about this operator, with fields of `InfieldError`: found, expected and remedy."""
        return InfieldError(message, where=f"operator '{self.name}'", **fields)

    def expect(self, parameters: tuple[str, ...] = (), arrays: tuple[str, ...] = ()) -> None:
        """Refuse unknown parameters and arrays.

        Raises:
            InfieldError: A parameter or an array has a name that is not listed.
        """
        for kind, found, known in (("parameter", self.parameters, parameters), ("array", self.arrays, arrays)):
            unknown = sorted(set(found) - set(known))
            if unknown:
                expected = ", ".join(known) or "none"
                raise self.error(found=f"{kind} {', '.join(unknown)}", expected=expected, remedy="remove or rename it")

    def array(self, role: str, *shapes: tuple[int, ...]) -> np.ndarray:
        """An array, of one of the shapes if any are given.

        Raises:
            InfieldError: If it is missing or of another shape.
        """
        if role not in self.arrays:
            raise self.error(found=f"no array '{role}'", remedy="name its variable in the description's arrays")
        array = self.arrays[role]
        if shapes and array.shape not in shapes:
            expected = " or ".join(str(shape) for shape in dict.fromkeys(shapes))
            raise self.error(found=f"{role} of shape {array.shape}", expected=expected)
        return array

    def mask(self, *shapes: tuple[int, ...]) -> Tensor:
        """The array "mask" as a bool tensor.

        Raises:
            InfieldError: If it is missing, of another shape, or holds anything but zeros and ones.
        """
        mask = self.array("mask", *shapes)
        wrong = ~np.isin(mask, (0, 1))
        if wrong.any():
            raise self.error(found=f"{mask[wrong][0]} in the mask", expected="zeros and ones")
        return torch.from_numpy(mask.astype(bool))

    def regular_grid(self) -> Grid:
        """The field's grid.

        Raises:
            InfieldError: If the field is given on scattered points.
        """
        if not isinstance(self.grid, Grid):
            raise self.error(found="a field on scattered points", expected="one on a regular grid")
        return self.grid

    def positive(self, parameter: str, value: Any) -> float:
        """The value of a parameter as a float.

        Raises:
            InfieldError: Unless it is one finite number above zero.
        """
        if not is_positive(value):
            raise self.error(found=f"{parameter} {value!r}", expected="a finite number above zero")
        return float(value)
