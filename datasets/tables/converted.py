"""What a conversion leaves: a measurement, what accompanies it in its file, and a summary of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from infield.core.errors import InfieldError
from infield.datasets.formats.measurement import write_measurement
from infield.datasets.tables.given import Given
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise, UnknownGaussianNoise


@dataclass(frozen=True)
class Converted:
    """A measurement converted from an external file.

    Arguments:
        measurement: It.
        data_units: Units of its data.
        attributes: Further attributes of variables, by name.
        extra: Further variables.
        dims: Names of dimensions of variables, by name.
        notes: What was done to the data, one line each; one that begins with "warning" is one.
        facts: Counts, in plain JSON types.
        about: `title`, `history` and other attributes of the source as a whole.
    """

    measurement: Measurement
    data_units: str
    attributes: Mapping[str, Mapping[str, Any]]
    extra: xr.Dataset | None
    dims: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    facts: Mapping[str, Any]
    about: Mapping[str, str] = field(default_factory=dict)

    def write(self, path: Path, *, source: str, overwrite: bool = False) -> None:
        """Write the measurement file.

        Raises:
            InfieldError: As `write_measurement`.
        """
        done = "; ".join(note for note in self.notes if not note.startswith("warning"))
        line = f"infield convert: {source}" + (f": {done}" if done else "")
        more = {key: text for key, text in self.about.items() if key not in ("title", "history")}
        extra = (xr.Dataset() if self.extra is None else self.extra).assign_attrs(more)
        write_measurement(
            path,
            self.measurement,
            overwrite=overwrite,
            title=self.about.get("title", ""),
            history="\n".join(filter(None, (line, self.about.get("history", "")))),
            data_units=self.data_units,
            dims=self.dims,
            extra=extra,
            attributes=self.attributes,
        )


def refuse_constant(source: Path | Given, name: str, values: np.ndarray) -> None:
    """Refuse data that do not differ.

    Raises:
        InfieldError: All are equal.
    """
    if not np.ptp(values) > 0:
        raise InfieldError(
            where=f"{source}: '{name}'",
            found=f"{len(values)} data that are all {values[0]:g}",
            expected="data that differ",
            remedy="there is no field to be seen in them",
        )


def noise_of(
    source: Path | Given, std: float | None, stds: np.ndarray | None, count: int, slope: float
) -> np.ndarray | None:
    """Variances of the data, from standard deviations in the units before a conversion.

    Arguments:
        source: The file, for messages.
        std: One for all.
        stds: One for each.
        count: Number of data.
        slope: Of the conversion.

    Returns:
        Shape `(1,)` or `(data,)`; None where neither is given: to be estimated.

    Raises:
        InfieldError: One is not finite and above zero.
    """
    if std is None and stds is None:
        return None
    if std is not None and stds is not None:
        raise InfieldError(
            where="{noise_std}",
            found="one standard deviation for all data, and one for each datum",
            expected="one of the two",
            parameters=["noise_std"],
        )
    values = np.array([std]) if stds is None else stds
    wrong = values[~(np.isfinite(values) & (values > 0))]
    if len(wrong):
        raise InfieldError(
            where="{noise_std}" if stds is None else f"{source}: its noise",
            found=f"{wrong[0]:g}" + (f" (and {len(wrong) - 1} more of {count})" if stds is not None else ""),
            expected="a standard deviation above zero",
            remedy="no datum is exact: give the size of its rounding, or leave this out to have the noise estimated",
            parameters=["noise_std"],
        )
    return (values * slope) ** 2


def noise_model(variances: np.ndarray | None, values: np.ndarray) -> GaussianNoise:
    """Gaussian noise of these variances; without any, one whose variance is estimated from the data."""
    if variances is None:
        return UnknownGaussianNoise.of_data(values)
    return GaussianNoise(torch.as_tensor(variances.ravel()[0] if variances.size == 1 else variances))
