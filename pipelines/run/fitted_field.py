"""The default where no prior is named and the data are values at points: a law is fitted to them, then kriging.

What fits is imported by the functions that need it: half a second of a processor for a run under a prior that has a
name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.base import GaussianNoiseModel
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.noise.stack import StackedNoise, stacked
from infield.pipelines.run.fit_options import FitOptions as FitOptions
from infield.pipelines.run.fit_options import fit_options as fit_options
from infield.pipelines.run.fit_options import refuse_unused_fit as refuse_unused_fit
from infield.posterior.kriging.law import ORDERS, Geometry
from infield.posterior.kriging.measured import is_point_data
from infield.posterior.kriging.verdict import Verdict
from infield.posterior.samplers.base import Sampler

if TYPE_CHECKING:
    from infield.posterior.kriging.family import Shape
    from infield.posterior.kriging.fitted import FittedField


def fits_points(measurement: Measurement) -> bool:
    """Whether the default for a measurement is a law fitted to values at points.

    On a grid that is periodic along every axis and has noise of known level the spectrum is fitted instead
    (`posterior.inference.empirical_bayes`).
    """
    grid = measurement.grid
    closed = isinstance(grid, Grid) and all(axis.periodic for axis in grid.axes)
    return is_point_data(measurement) and (not closed or getattr(measurement.noise, "estimated", False))


def takes_fitted_field(sampler: Sampler | None) -> bool:
    """Whether a sampler, or the default in place of None, draws from the fitted field itself and not from a prior."""
    return sampler is None or sampler.method == "kriging"


def fit_to_points(
    measurement: Measurement, nu: float | None, options: FitOptions, seed: int, sampler: Sampler | None
) -> FittedField:
    """Fit a law to a measurement for which `fits_points` holds.

    Arguments:
        measurement: Values at points.
        nu: Order of the law; None chooses.
        options: What is fixed.
        seed: Of the run.
        sampler: That will draw; None for the default. A prior for another one has the most probable hyperparameters, so
            that none are drawn for it.

    Raises:
        InfieldError: If the data cannot be fitted.
    """
    from infield.posterior.kriging.fit import Settings
    from infield.posterior.kriging.fitted import FittedField

    shapes: tuple[Shape, ...] = ("isotropic",) if options.isotropic else ("isotropic", "axes", "turned")
    hyper = options.hyper if takes_fitted_field(sampler) else "plug-in"
    azimuth = None if options.azimuth is None else math.radians(options.azimuth)
    if azimuth is not None:
        shapes = ("isotropic", "turned")
        _check_plane(measurement)
    settings = Settings(orders=ORDERS if nu is None else (nu,), shapes=shapes, azimuth=azimuth)
    return FittedField.of(
        measurement, trend=options.trend, covariates=options.covariates, settings=settings, hyper=hyper, seed=seed
    )


def _check_plane(measurement: Measurement) -> None:
    """InfieldError where axes cannot be turned: the first two that are open must have one unit."""
    geometry = Geometry.of(measurement.grid)
    plane = set(geometry.planar[:2])
    if len(plane) < 2 or not any(plane <= set(group) for group in geometry.groups):
        raise InfieldError(
            where="{azimuth}", found=f"axes {', '.join(geometry.names)} ({', '.join(geometry.units)})",
            expected="two open axes of one unit off the sphere", remedy="leave it out", parameters=["azimuth"],
        )  # fmt: skip


def with_fitted_noise(measurement: Measurement, fitted: FittedField) -> Measurement:
    """The measurement with the level of its noise as it was fitted."""
    if fitted.data.noise_known:
        return measurement
    noise, factor = measurement.noise, fitted.fit.noise_factor
    if isinstance(noise, StackedNoise):
        factors = iter(torch.as_tensor(factor).tolist())
        models = [
            _at_level(model, next(factors)) if getattr(model, "estimated", False) else model for model in noise.models
        ]
        return replace(measurement, noise=stacked(models, noise.sizes))
    return replace(measurement, noise=_at_level(noise, float(factor)))


def _at_level(noise: object, factor: float) -> GaussianNoise:
    assert isinstance(noise, GaussianNoise)
    return GaussianNoise(noise.variance * factor)


def moments_on_grid(fitted: FittedField) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
    """Mean and standard deviation on the grid in closed form, with their attributes in the file."""
    targets, shape = fitted.grid.points(), (len(fitted.data.channels), *fitted.grid.shape)
    found = [fitted.moments_at(targets, c) for c in range(len(fitted.data.channels))]
    parts = [moments for moments, _ in found]
    near = max(part.neighbours for part in parts)
    everything = near >= max(len(data) for data in fitted.data.channels)
    how = "from all data" if everything else f"from the {near} data nearest to each block of targets"
    about = {
        "change_on_doubling_neighbours": 0.0 if everything else max(part.change for part in parts),
        "relative_change_of_std": 0.0 if everything else max(part.change_std for part in parts),
    }
    arrays = {
        "mean": np.stack([part.mean.numpy() for part in parts]).reshape(shape),
        "std": np.sqrt(np.stack([part.variance.numpy() for part in parts])).reshape(shape),
    }
    methods = {"mean": "sample: mean", "std": "sample: standard_deviation"}
    return {
        name: (values, {"cell_methods": f"{methods[name]} (comment: in closed form, {how})", **about})
        for name, values in arrays.items()
    }


UNCHECKED = "the prior was fitted to the data, held-out data are predicted at points alone"
"""Why a posterior under a prior fitted to other data than those at points is not checked."""


@dataclass(frozen=True)
class Judged:
    """What is known of how far a posterior holds.

    Arguments:
        verdict: Whether it can be trusted.
        diagnostics: Numbers of cross-validation and fit, in JSON types.
    """

    verdict: Verdict
    diagnostics: dict[str, Any]

    @classmethod
    def without_validation(cls, law: FittedField | None, doubt: str | None = None) -> Judged:
        """Of a posterior under a prior that was named (None), or a fitted law that another sampler was given.

        Arguments:
            law: Fitted to point data.
            doubt: Of another fitted prior, why it was not checked, or may be wrong.
        """
        if law is None and doubt is not None:
            return cls(Verdict("unchecked", doubt), {})
        if law is None:
            return cls(Verdict("unchecked", "the prior was named, no held-out data were predicted"), {})
        from infield.posterior.kriging.validation import verdict

        return cls(verdict(law, None), {})

    @classmethod
    def of(cls, fitted: FittedField, options: FitOptions) -> Judged:
        """By the warnings of the fit and by cross-validation."""
        from infield.posterior.kriging.validation import validate, verdict

        validation = validate(fitted) if options.validation else None
        numbers: dict[str, Any] = {"fit": fitted.provenance}
        if validation is not None:
            numbers["validation"] = validation.to_json()
        return cls(verdict(fitted, validation), numbers)

    def given(self, chi_square: float, measurement: Measurement) -> Judged:
        """The same, unless samples miss the data by far more than the noise: then not to be trusted.

        Over samples of a posterior and data drawn from the model, the reduced chi-square of n data is 1 +- sqrt(2 / n);
        for other than Gaussian noise it is Pearson's, whose tails are longer.

        Arguments:
            chi_square: Reduced, mean over samples.
            measurement: Of the data.
        """
        gaussian = isinstance(measurement.noise, GaussianNoiseModel)
        limit = max(2.0, 1 + 10 * math.sqrt(2 / measurement.count)) if gaussian else 30.0
        if chi_square <= limit or self.verdict.trusted == 0:
            return self
        because = (
            f"data chi-square {chi_square:.3g} per datum where 1 is expected: the data contradict each other, their "
            "noise or the prior"
        )
        return replace(self, verdict=Verdict(0, because))

    def weighed(self, means: Mapping[str, float]) -> Judged:
        """The same, unless weights of particles collapsed in some block: then not to be trusted.

        Arguments:
            means: Of the sampler's diagnostics over blocks.
        """
        if not means.get("weights_collapsed", 0.0) > 0:
            return self
        because = (
            f"the weights of smc collapsed (effective share {means['effective_share']:.2g}): its samples descend from "
            "few particles; take more steps or particles"
        )
        return replace(self, verdict=Verdict(0, because))

    @property
    def attributes(self) -> dict[str, Any]:
        """For the file."""
        return {"trusted": self.verdict.trusted, "trusted_because": self.verdict.because}
