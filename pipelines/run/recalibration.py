"""Fits what mends a posterior to simulations, judges it on others, and applies it to a posterior of the same kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.datasets.formats.calibration import Calibration, open_calibration
from infield.datasets.formats.field import Field
from infield.datasets.formats.measurement import digest_in_memory
from infield.datasets.formats.posterior import PosteriorWriter
from infield.datasets.formats.posterior_layout import event_shape
from infield.physics.measurement import Measurement
from infield.pipelines.run.digests import noise_digest, operator_digest
from infield.pipelines.run.prior_choice import ChosenPrior
from infield.pipelines.run.samplers import parameters_of
from infield.posterior.calibration.exchange import exchange_test, normal_scores
from infield.posterior.calibration.functionals import evaluate, predeclared
from infield.posterior.calibration.recalibration import Pyramid, Recalibration, conformal_factors
from infield.posterior.diagnostics.calibration import coverage, energy_score, ranks, variance_and_error
from infield.posterior.samplers.base import Sampler

FOLDS = 4
"""Parts of the simulations; each is judged by what was fitted to the others."""

LEVEL = 0.9
"""Of the conformal intervals that are stored."""

WORDS = {
    "operator_sha256": "another operator (or grid, units, or choice of data)",
    "noise_sha256": "another noise model",
    "prior_sha256": "another prior",
    "sampler": "another sampler",
    "sampler_parameters": "other parameters of the sampler",
    "measurement_sha256": "other data: its truths were drawn from the posterior of those",
}


def judge_mending(
    grid: Grid | PointSet, read: Callable[[int], tuple[Tensor, Tensor]], simulations: int, *, seed: int
) -> tuple[dict[str, Any], Recalibration, np.ndarray]:
    """Fit the widths to all simulations; judge such a fit on simulations that it did not see.

    Arguments:
        grid: Of the field.
        read: Gives truth and draws of a simulation.
        simulations: How many.
        seed: Of ties and exchanges.

    Returns:
        Scores before and after, over all simulations, each mended by a fit to other folds; the fit to all; and
        conformal factors `(channel, *space)` of the mended standard deviations.
    """
    fold = [s % FOLDS for s in range(simulations)]
    before, after, scores = _Scores(grid, seed), _Scores(grid, seed), []
    for k in range(FOLDS):
        others = [s for s in range(simulations) if fold[s] != k]
        fit = Recalibration.fit(grid, lambda others=others: map(read, others))  # type: ignore[misc]
        for s in range(simulations):
            if fold[s] != k:
                continue
            truth, draws = read(s)
            mended = fit.apply(draws, s)
            before.add(truth, draws)
            after.add(truth, mended)
            scores.append(((truth - mended.mean(0)).abs() / mended.std(0).clamp_min(1e-300)).numpy())
    factors = conformal_factors(np.stack(scores), LEVEL)
    everything = Recalibration.fit(grid, lambda: map(read, range(simulations)))
    return {"folds": FOLDS, "before": before.to_json(), "after": after.to_json()}, everything, factors


class _Scores:
    """Scores of posteriors over simulations; functionals are declared ones, to which nothing is fitted."""

    def __init__(self, grid: Grid | PointSet, seed: int) -> None:
        self._grid, self._generator = grid, Generator().manual_seed(seed)
        self._variance, self._error = 0.0, 0.0
        self._energy: list[float] = []
        self._ranks: list[Tensor] = []
        self._values: list[Tensor] = []
        self._n = 1

    def add(self, truth: Tensor, draws: Tensor) -> None:
        self._n = len(draws)
        variance, error = variance_and_error(draws, truth)
        self._variance, self._error = self._variance + variance, self._error + error
        self._energy.append(energy_score(draws, truth))
        self._ranks.append(ranks(draws, truth, self._generator).reshape(-1))
        functionals = predeclared(self._grid, [f"{c}" for c in range(len(truth))])
        self._values.append(evaluate(functionals, torch.cat([truth[None], draws])))
        self._one_sign = torch.tensor([functional.one_sign for functional in functionals])

    def to_json(self) -> dict[str, float]:
        values = torch.stack(self._values)
        varies = values.std(1).mean(0) > 0
        scores = normal_scores(values[:, :, varies], self._generator)
        test = exchange_test(scores, self._one_sign[varies], self._generator)
        every = torch.stack(self._ranks)
        return {
            "ratio": self._variance / self._error if self._error > 0 else 0.0,
            "cover_90": coverage(every, self._n, 0.9, self._generator),
            "energy_score": float(np.mean(self._energy)),
            "p": test.p,
            "dispersion": test.common_dispersion,
        }


def stored_arrays(
    measurement: Measurement, recalibration: Recalibration, factors: np.ndarray
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """What a calibration file holds of them: arrays with their dimensions."""
    field = Field(measurement.grid, measurement.channels, measurement.units)
    dims, shape = (*(("channel",) if len(field.channels) > 1 else ()), *field.dims), event_shape(field)
    bands = len(recalibration.widths)
    return {
        "width": (("scale", *dims), recalibration.widths.numpy().reshape(bands, *shape)),
        "width_overall": (dims, recalibration.overall.numpy().reshape(shape)),
        "spread_exponent": ((), np.array(recalibration.exponent)),
        "typical_log_spread": ((), np.array(recalibration.typical)),
        "log_scale_sd": ((), np.array(recalibration.tail)),
        "conformal_90": (dims, factors.reshape(shape)),
    }


def recalibration_of(calibration: Calibration, measurement: Measurement) -> tuple[Recalibration, np.ndarray]:
    """What a calibration file holds, for fields of the measurement: the map, and conformal factors."""
    shape = measurement.event_shape

    def read(name: str, *first: int) -> Tensor:
        return torch.from_numpy(np.asarray(calibration.dataset[name].values, dtype=np.float64)).reshape(*first, *shape)

    widths = read("width", calibration.dataset.sizes["scale"])
    pyramid, stored = Pyramid.of(measurement.grid), calibration.dataset
    names = ("spread_exponent", "typical_log_spread", "log_scale_sd")
    numbers = [float(stored[n]) if n in stored else 0.0 for n in names]
    return Recalibration(pyramid, widths, read("width_overall"), *numbers), read("conformal_90").numpy()


def refuse_other(
    calibration: Calibration,
    keys: Mapping[str, Any],
    measurement_sha256: str,
    known: Mapping[str, Callable[[Any], bool]] | None = None,
) -> None:
    """Refuse a calibration of something else.

    Arguments:
        calibration: The file.
        keys: Of `calibrate.keys_of`.
        measurement_sha256: Of the data.
        known: Tells of keys whose values have another form in former files whether a value is the same.

    Raises:
        InfieldError: It is of another operator, noise model, prior or sampler; where its truths are of a posterior, of
            other data; or of a control of the test.
    """
    expected = json.loads(json.dumps(dict(keys)))
    if calibration.run.get("truths") == "posterior":
        expected["measurement_sha256"] = measurement_sha256
    for key, value in expected.items():
        found = calibration.run.get(key)
        if found != value and not (known and key in known and known[key](found)):
            raise InfieldError(
                where=f"{calibration.path}: '{key}'",
                found=f"a calibration of {WORDS[key]}",
                expected="one of this very run",
                remedy="calibrate it (infield calibrate) with this measurement, prior and sampler",
            )
    if calibration.run.get("uses_of_observed_data", 1) != 1:
        raise InfieldError(where=calibration.path, found="a control of the test", expected="a calibration")


ABOUT = {
    "recalibrated": "samples whose deviations from their mean are widened as simulations demand",
    "recalibrated_std": "standard deviation of the recalibrated samples",
    "conformal_low": "lower end of 90 % intervals, valid on average over simulations at each place, not for these data",
    "conformal_high": "upper end of these intervals",
}


@dataclass(frozen=True)
class Mending:
    """What a calibration file does to a posterior of the same measurement, prior and sampler.

    Arguments:
        calibration: The file.
        recalibration: Its map of draws.
        factors: Of its conformal intervals, `(channel, *space)`.
    """

    calibration: Calibration
    recalibration: Recalibration
    factors: np.ndarray

    @classmethod
    def of(
        cls,
        path: Path,
        measurement: Measurement,
        chosen: ChosenPrior,
        sampler: Sampler,
        opened: Measurement,
        *,
        surrogate: Path | None,
        slices: int | None,
    ) -> Mending:
        """Open a calibration for a run.

        Arguments:
            path: Of the file.
            measurement: With the noise level that the run uses.
            chosen: Its prior.
            sampler: Its sampler.
            opened: The measurement as its file has it.
            surrogate: A calibration is of the solver itself.
            slices: And of whole fields.

        Raises:
            InfieldError: The file cannot be read, or is of something else.
        """
        for name, value in (("surrogate", surrogate), ("slices", slices)):
            if value is not None:
                raise InfieldError(where="{calibration}", found=f"{{{name}}}", expected="one of them",
                                   parameters=["calibration", name])  # fmt: skip
        found = open_calibration(path)
        data = opened.digest or digest_in_memory(opened)
        refuse_other(found, keys_of(measurement, chosen, sampler), data, {"prior_sha256": chosen.is_known_as})
        return cls(found, *recalibration_of(found, measurement))

    def apply(self, writer: PosteriorWriter) -> dict[str, Any]:
        """Write what is mended beside the samples, all of which are written; returns attributes of the file."""
        if writer.samples < 2:
            raise InfieldError(where="{calibration}", found=f"{writer.samples} samples", expected="at least 2",
                               parameters=["calibration"])  # fmt: skip
        blocks = [writer.read_block(b) for b in range(writer.blocks)]
        draws = torch.cat(blocks)
        mended = self.recalibration.apply(draws)
        std = mended.std(0)
        half, mean = torch.from_numpy(self.factors) * std, draws.mean(0)
        arrays = {
            "recalibrated": mended,
            "recalibrated_std": std,
            "conformal_low": mean - half,
            "conformal_high": mean + half,
        }
        writer.add_beside({name: values.numpy() for name, values in arrays.items()}, ABOUT)
        verdict = self.calibration.verdict
        return {
            "calibration": str(self.calibration.path),
            "calibration_verdict": str(verdict["verdict"]),
            "calibration_mending": json.dumps(verdict["mending"]),
        }


def keys_of(measurement: Measurement, chosen: ChosenPrior, sampler: Sampler) -> dict[str, Any]:
    """What a calibration is of; it holds for nothing else."""
    return {
        "operator_sha256": operator_digest(measurement),
        "noise_sha256": noise_digest(measurement),
        "prior_sha256": chosen.sha256,
        "sampler": sampler.method,
        "sampler_parameters": parameters_of(sampler),
    }
