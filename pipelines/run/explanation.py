"""A posterior explained by its data: `infield explain`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.datasets.formats.field import CHANNEL, Field, read_field
from infield.datasets.formats.measurement import open_measurement
from infield.datasets.formats.posterior import open_posterior
from infield.datasets.formats.zarr_group import json_attribute
from infield.datasets.tables.maps import write_netcdf
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.noise.poisson import PoissonNoise
from infield.pipelines.run.features import Feature, parse_feature
from infield.pipelines.run.prior_choice import choose_prior
from infield.posterior.diagnostics.leave_one_out import LeaveOneOut, leave_one_out
from infield.posterior.diagnostics.sensitivity import (
    Sensitivity,
    check_draws,
    exact_gain,
    exact_leave_one_out,
    noiseless_data,
    scores,
    sensitivity,
    value_of_data,
)
from infield.priors.base import FlowPrior

SHOWN = 5
"""Data that are named in the table."""


@dataclass(frozen=True)
class Explanation:
    """What was found.

    Arguments:
        feature: The feature.
        values: Of each draw, shape `(n,)`.
        measurement: Of the posterior.
        field: Of the posterior.
        of_data: Sensitivity to each datum.
        exact: Whether it is the exact gain.
        left_out: Each datum beside the others; None where its errors are not independent.
        planned: Value of one further datum of each value of the field, and its error; None if not requested.
    """

    feature: Feature
    values: Tensor
    measurement: Measurement
    field: Field
    of_data: Sensitivity
    exact: bool
    left_out: LeaveOneOut | None
    planned: tuple[Tensor, Tensor] | None

    @property
    def observed(self) -> Tensor:
        """Flat numbers of the data among the entries of y."""
        observed = self.measurement.observed
        return torch.arange(self.measurement.y.numel()) if observed is None else observed.flatten().nonzero()[:, 0]

    def place(self, datum: int) -> str:
        """Description of a datum's position."""
        grid = getattr(self.measurement.operator, "data_grid", None)
        points = grid.points() if isinstance(grid, Grid | PointSet) else None
        if points is None or self.measurement.y.numel() % len(points):
            return f"datum {datum}"
        where = points[datum % len(points)].tolist()
        return f"datum {datum} at " + ", ".join(f"{n} {v:.4g}" for n, v in zip(grid.names, where, strict=True))  # type: ignore[union-attr]

    def strongest(self) -> list[int]:
        """Flat numbers of the data to which the feature is most sensitive, times the noise of each."""
        value = self.of_data.value.flatten()[self.observed]
        sd = torch.as_tensor(getattr(self.measurement.noise, "variance", torch.ones(()))).double().sqrt()
        sd = sd.expand(self.measurement.y[0].shape).flatten()[self.observed] if sd.ndim or sd.numel() == 1 else sd
        return [int(self.observed[i]) for i in (value * sd).abs().argsort(descending=True, stable=True)[:SHOWN]]

    def disagreeing(self) -> list[int]:
        """Flat numbers of the data that disagree with all others."""
        return [] if self.left_out is None else [int(self.observed[i]) for i in self.left_out.disagreeing()]

    def summary(self) -> dict[str, Any]:
        """The figures in JSON types."""
        flat, error = self.of_data.value.flatten(), self.of_data.error.flatten()
        at = {int(number): i for i, number in enumerate(self.observed)}
        found: dict[str, Any] = {
            "feature": self.feature.name,
            "units": self.feature.units,
            "draws": len(self.values),
            "mean": float(self.values.mean()),
            "sd": float(self.values.std()),
            "exact": self.exact,
            "degrees_of_freedom": self.of_data.degrees_of_freedom,
            "data": self.measurement.count,
            "strongest": [
                {"datum": i, "place": self.place(i), "sensitivity": float(flat[i]), "standard_error": float(error[i])}
                for i in self.strongest()
            ],
        }
        if self.left_out is not None:
            found["disagreeing"] = [
                {"datum": i, "place": self.place(i), "z": float(self.left_out.z[at[i]])} for i in self.disagreeing()
            ]
            found["left_out_unreliable"] = int((~self.left_out.reliable).sum())
        if self.planned is not None:
            best = int(self.planned[0].argmax())
            found["best_further_datum"] = {
                "place": self._point(best),
                "variance_removed": float(self.planned[0].flatten()[best]),
                "standard_error": float(self.planned[1].flatten()[best]),
            }
        return found

    def _point(self, value: int) -> str:
        grid = self.field.grid
        where = grid.points()[value % int(np.prod(grid.shape))].tolist()
        return ", ".join(f"{n} {v:.4g}" for n, v in zip(grid.names, where, strict=True))


def explain(
    posterior: Path,
    measurement: Path | Measurement,
    feature: str = "mean",
    *,
    channel: str | None = None,
    prior: Any = None,
    planned_noise: float | None = None,
) -> Explanation:
    """What each datum contributes to a feature of a posterior.

    Arguments:
        posterior: The finished posterior.
        measurement: What it is of, or its file.
        feature: As `pipelines.run.features.parse_feature` takes it.
        channel: Channel of the field; the first where none is named.
        prior: The prior of the posterior, as `reconstruct` takes it: for exact gains where it is Gaussian.
        planned_noise: Noise standard deviation of one further datum of the field, in its units.

    Raises:
        InfieldError: The posterior is an estimate, its draws are too few or no draws of the posterior, the measurement
            is another one, or the feature is none of the field.
    """
    with open_posterior(posterior) as dataset:
        field = read_field(posterior, dataset)
        _check_posterior(posterior, dataset)
        given = measurement if isinstance(measurement, Measurement) else open_measurement(measurement)
        if given.digest != dataset.attrs.get("measurement_sha256"):
            raise InfieldError(
                where=posterior, found=f"a posterior of another measurement than {given.source}",
                expected="the measurement that it was drawn from",
            )  # fmt: skip
        chosen = parse_feature(feature, field, channel)
        draws = torch.from_numpy(dataset["samples"].values.astype(np.float64))
    draws = draws.reshape(len(draws), len(field.channels), *field.grid.shape)
    values = chosen.of(draws)
    known = None if prior is None else choose_prior(prior, given).prior
    gaussian = known if isinstance(known, FlowPrior) and known.gaussian and given.linear_gaussian else None
    z = noiseless_data(given, draws)
    left_out = _leave_one_out(given, z, gaussian)
    if gaussian is not None and chosen.weights is not None:
        of_data, exact = exact_gain(gaussian, given, chosen.weights), True
    else:
        of_data, exact = sensitivity(values, scores(given, z)), False
    planned = None if planned_noise is None else value_of_data(values, draws, planned_noise**2)
    return Explanation(chosen, values, given, field, of_data, exact, left_out, planned)


def _check_posterior(path: Path, dataset: xr.Dataset) -> None:
    diagnostics = json_attribute(path, dataset, "diagnostics")
    caveat = diagnostics.get("caveat")
    if dataset.attrs.get("result") == "estimate" or caveat:
        raise InfieldError(
            where=path,
            found=f"an estimate by {dataset.attrs.get('sampler', 'a sampler')}" if not caveat else caveat,
            expected="draws of a posterior, whose covariances measure what the data contribute",
            remedy="reconstruct it by another sampler ({sampler})",
            parameters={"sampler": "faps"},
        )
    if "fit" in diagnostics:
        raise InfieldError(
            where=path,
            found="a process fitted to the data at their own positions, between the points of the field",
            expected="a posterior of a field that the operator is applied to",
            remedy="reconstruct it under a prior by name ({prior})",
            parameters={"prior": "matern-3/2"},
        )
    check_draws(int(dataset.sizes.get("sample", 0)))


def _leave_one_out(measurement: Measurement, z: Tensor, prior: FlowPrior | None) -> LeaveOneOut | None:
    """Exact under a Gaussian prior and for few data; else by weights, where errors are independent."""
    exact = None if prior is None else exact_leave_one_out(prior, measurement)
    if exact is not None:
        return exact
    noise = measurement.noise
    if not isinstance(noise, GaussianNoise | PoissonNoise):
        return None
    observed = measurement.observed
    mask = torch.ones_like(measurement.y[0], dtype=torch.bool) if observed is None else observed
    y, found = measurement.y[0][mask], z[:, mask]
    if isinstance(noise, PoissonNoise):
        variance = noise.gain * found
        density = torch.xlogy(y / noise.gain, found / noise.gain) - found / noise.gain
    else:
        variance = noise.variance.expand(mask.shape)[mask].expand(found.shape)
        density = -0.5 * (y - found).square() / variance
    return leave_one_out(y, found, density, variance)


def rows_of(found: Explanation) -> dict[str, str]:
    """The table that the command prints."""
    summary = found.summary()
    how = "exact gain" if found.exact else "from the draws, with standard errors"
    rows = {
        "posterior": f"{summary['mean']:.5g} +- {summary['sd']:.3g} {summary['units']} ({summary['draws']} draws)",
        "sensitivity": how,
    }
    for one in summary["strongest"]:
        error = "" if found.exact else f" +- {one['standard_error']:.2g}"
        rows[one["place"]] = f"{one['sensitivity']:+.4g}{error}"
    if summary["degrees_of_freedom"] is not None:
        rows["degrees of freedom"] = f"{summary['degrees_of_freedom']:.4g} of {summary['data']} data"
    if found.left_out is None:
        rows["left out one by one"] = "not computed: the errors of the data are not independent"
    else:
        worst = summary["disagreeing"][:SHOWN]
        named = "; ".join(f"{one['place']} (z {one['z']:+.1f})" for one in worst)
        rows["disagree with all others"] = (f"{len(summary['disagreeing'])}: {named}") if worst else "none"
        if summary["left_out_unreliable"]:
            rows["undecided"] = f"{summary['left_out_unreliable']} data: too few draws to leave them out"
    if "best_further_datum" in summary:
        best = summary["best_further_datum"]
        removed = f"{100 * best['variance_removed']:.0f} +- {100 * best['standard_error']:.0f} %"
        rows["best further datum"] = f"{best['place']}: would remove {removed} of the variance"
    return rows


def write_explanation(found: Explanation, path: Path, *, overwrite: bool = False) -> None:
    """Write all figures as netCDF: along `datum` those of the data, and on the field's grid the map.

    Raises:
        InfieldError: The path exists, is no netCDF file, or the disk is full.
    """
    if path.suffix != ".nc":
        raise InfieldError(where=path, found=f"the suffix '{path.suffix}'", expected=".nc")
    if path.is_dir() or (os.path.lexists(path) and not overwrite):
        raise InfieldError(
            where=path, found="an existing output", expected="a new path",
            remedy="choose another, or replace it ({overwrite})", parameters={"overwrite": True},
        )  # fmt: skip
    number = found.observed
    per = f"{found.feature.units} / ({found.measurement.data_units})"
    variables: dict[str, tuple[Any, ...]] = {
        "sensitivity": (("datum",), found.of_data.value.flatten()[number].numpy(), {"units": per}),
        "sensitivity_error": (("datum",), found.of_data.error.flatten()[number].numpy(), {"units": per}),
    }
    grid = getattr(found.measurement.operator, "data_grid", None)
    coordinates: dict[str, Any] = {"datum": number.numpy()}
    if isinstance(grid, Grid | PointSet) and found.measurement.y.numel() % len(grid.points()) == 0:
        points = grid.points()[number % len(grid.points())].numpy()
        coordinates |= {f"datum_{name}": ("datum", points[:, i]) for i, name in enumerate(grid.names)}
    if found.left_out is not None:
        one = found.left_out
        for name, values in (("left_out_mean", one.mean), ("left_out_sd", one.sd), ("left_out_z", one.z)):
            units = "1" if name.endswith("z") else found.measurement.data_units
            variables[name] = (("datum",), values.numpy(), {"units": units})
        variables["pareto_k"] = (("datum",), one.shape.numpy(), {"units": "1"})
    if found.planned is not None:
        dims = (*((CHANNEL,) if len(found.field.channels) > 1 else ()), *found.field.dims)
        coordinates |= {k: v for k, v in found.field.coordinates().items() if k != "sample"}
        for name, values in zip(("variance_removed", "variance_removed_error"), found.planned, strict=True):
            array = values.numpy() if len(found.field.channels) > 1 else values[0].numpy()
            variables[name] = (dims, array, {"units": "1"})
    attributes = {
        "title": f"What each datum contributes to {found.feature.name}",
        "summary": json.dumps(found.summary()),
    }
    write_netcdf(xr.Dataset(variables, coordinates, attributes), path)
