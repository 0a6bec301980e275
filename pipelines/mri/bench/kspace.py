"""Real k-space: are samples that were measured and then set aside predicted, and is their spread right?

A tenth of the measured positions of a real 8-channel slice is held out. Methods: the posterior under a prior fitted
to the kept data, by the suite's sampler; zero-filling; sigpy's CG-SENSE with its number of iterations chosen for it, on
the held-out samples themselves; and sigpy's L1-wavelet and total variation, of the largest weight that explains the
kept data.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.datasets.mri.convert import convert_mri
from infield.physics.operators.registry import build_operator
from infield.pipelines.bench.records import Bench
from infield.pipelines.mri.bench.baselines import by_discrepancy, cg_sense, l1_wavelet, total_variation
from infield.pipelines.run.console import progress
from infield.posterior.diagnostics.calibration import predictive_chi_square, relative_l2
from infield.posterior.inference.empirical_bayes import fit_prior
from infield.posterior.samplers.exact import posterior_mean
from infield.posterior.samplers.faps import FAPS

FILE = Path("mri") / "sigpy_cartesian_ksp.npy"
METRICS = {
    "relative_l2": ".4f",
    "chi_square": ".3f",
    "velocity_calls": ".0f",
    "operator_calls": ".0f",
    "seconds": ".1f",
}
METHOD_NOTE = (
    "relative l2 and chi-square (posterior predictive, per datum) of the held-out samples; exact: the mean of the "
    "posterior itself, without the Monte Carlo error of 16 draws; sigpy-cg-sense: lambda 0, best of 2 to 30 iterations "
    "for these very samples; sigpy-l1-wavelet, sigpy-tv: the largest weight that explains the kept data, all of its "
    "trials; coils whitened; one thread."
)


def run(*, quick: bool = False, seed: int = 0) -> Bench:
    """One split of the samples when quick, three otherwise; 16 draws each.

    Raises:
        InfieldError: If the file is not under the folder that INFIELD_DATA names.
    """
    path = Path(os.environ.get("INFIELD_DATA", "")) / FILE
    if not path.is_file():
        raise InfieldError(where=path, found="no such file", remedy=f"set INFIELD_DATA to the folder that holds {FILE}")
    torch.set_num_threads(1)
    bench = Bench("kspace", seed)
    splits = range(1 if quick else 3)
    with progress() as bar:
        for split in bar.track(splits, description="kspace"):
            _run_split(bench, f"{split}", path, 1000 * seed + split)
    return bench


def _run_split(bench: Bench, case: str, path: Path, seed: int) -> None:
    converted = convert_mri(path, hold_out=0.1, seed=seed)
    measurement = converted.measurement
    arrays = {**measurement.arrays, measurement.description["arrays"]["mask"]: converted.held_out_mask.numpy()}
    held_out = build_operator(measurement.description, arrays, measurement.grid, 2)
    places = held_out.observed
    y = converted.held_out_y[0][places]

    def predict(x: Tensor) -> Tensor:
        return held_out.A(x)[:, places]

    start = time.perf_counter()
    prior = fit_prior(measurement)
    posterior = FAPS()(prior, measurement, 16, Generator().manual_seed(seed))
    seconds = time.perf_counter() - start
    draws = predict(posterior.samples)
    variance = (measurement.noise.variance * torch.ones_like(measurement.y[0]))[places]  # type: ignore[attr-defined]
    bench.add(case, "faps-flow", "relative_l2", relative_l2(draws.mean(0), y))
    bench.add(case, "faps-flow", "chi_square", predictive_chi_square(draws, variance, y))
    bench.add(case, "faps-flow", "velocity_calls", posterior.cost["velocity_calls"])
    bench.add(case, "faps-flow", "operator_calls", posterior.cost["operator_calls"])
    bench.add(case, "faps-flow", "seconds", seconds, "s")
    exact = predict(posterior_mean(prior, measurement)[None])[0]
    bench.add(case, "exact", "relative_l2", relative_l2(exact, y))

    bench.add(
        case, "zero-filling", "relative_l2", relative_l2(predict(measurement.operator.A_adjoint(measurement.y))[0], y)
    )

    start = time.perf_counter()
    errors = {n: relative_l2(predict(cg_sense(measurement, n))[0], y) for n in range(2, 31)}
    best = min(errors, key=lambda n: errors[n])
    bench.add(case, "sigpy-cg-sense", "relative_l2", errors[best])
    bench.add(case, "sigpy-cg-sense", "iterations", best)
    bench.add(case, "sigpy-cg-sense", "seconds", (time.perf_counter() - start) / len(errors), "s")

    for method, reconstruct in (("sigpy-l1-wavelet", l1_wavelet), ("sigpy-tv", total_variation)):
        start = time.perf_counter()
        image, weight = by_discrepancy(reconstruct, measurement)
        bench.add(case, method, "relative_l2", relative_l2(predict(image)[0], y))
        bench.add(case, method, "weight", weight)
        bench.add(case, method, "seconds", time.perf_counter() - start, "s")
