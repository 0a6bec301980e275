"""Undersampled k-space, simulated and real: samplers of one learned prior of brains beside images without one.

Simulated: brains that the shipped prior has not seen, 8 smooth coils, 128 x 128 points, noise 0.02 in each part, 4-fold
and 8-fold undersampled. Real: the 8-channel slice of sigpy's tutorial, which is undersampled as it is: half of its
samples outside the calibration block are set aside, and predicted; and the one fully sampled slice that may be passed
on, of one coil and sagittal, undersampled 4-fold and 8-fold: the reference is the image of all of its samples, with
their noise, and the prior, of axial slices, is not made for it.

Methods: `faps`, with its local conditional from the prior's spectrum; `faps-measured`, with a law that is measured on a
dozen brains of another seed; FAPS as published and RED-Diff; deepinv's DPS, DiffPIR and moment matching on the same
prior; the posterior mean under a Gaussian whose spectrum is fitted to the data; and sigpy's CG-SENSE, L1-wavelet and
total variation. Every sampler draws as many samples, since the mean of more is better. A case takes about 130 seconds
of one core (measured), the whole run of seven about a quarter of an hour.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.datasets.mri.brains import BrainPhantom
from infield.physics.measurement import Measurement
from infield.pipelines.bench.deepinv_peers import diffpir, dps, moment_matching
from infield.pipelines.bench.records import Bench
from infield.pipelines.mri.bench.baselines import by_discrepancy, cg_sense, l1_wavelet, total_variation
from infield.pipelines.mri.bench.cases import SPACING, Case, fully_sampled, simulated, thinned
from infield.pipelines.package_data import CHECKPOINTS
from infield.pipelines.run.console import progress
from infield.posterior.diagnostics.calibration import (
    coverage,
    predictive_chi_square,
    ranks,
    relative_l2,
    variance_and_error,
)
from infield.posterior.inference.denoiser_errors import DenoiserErrorModel, fit_denoiser_errors
from infield.posterior.inference.empirical_bayes import fit_prior
from infield.posterior.interop.deepinv import UnitRange, WhitenedProblem
from infield.posterior.mri.image_metrics import fastmri_metrics, inversebench_metrics
from infield.posterior.samplers.base import Sampler
from infield.posterior.samplers.exact import posterior_mean
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.faps_measured import FAPSMeasured
from infield.posterior.samplers.faps_published import FAPSPublished
from infield.posterior.samplers.red_diff import REDDiff
from infield.priors.base import FlowPrior
from infield.priors.flows.flow import LearnedFlow
from infield.priors.storage.checkpoint import load_flow_prior

CHECKPOINT = CHECKPOINTS / "brain_2d.ckpt"
SLICE, COMPLETE = Path("mri") / "sigpy_cartesian_ksp.npy", Path("mri") / "larson_se_t1_sag_data.mat"

METRICS = {
    "psnr": ".2f",
    "ssim": ".3f",
    "nmse": ".4f",
    "chi_square": ".2f",
    "calibration_ratio": ".2f",
    "coverage_90": ".3f",
    "evaluations": ".0f",
    "seconds": ".1f",
}
FIRST_METRICS = ({"held_out_l2": ".4f", "held_out_chi_square": ".2f", "held_out_coverage_90": ".3f"},)
METHOD_NOTE = (
    "PSNR (dB), SSIM and NMSE of the mean of the draws, as fastMRI defines them; reduced chi-square of the kept data; "
    "calibration ratio: variance of the draws over the squared error of their mean, less what their number adds to it: "
    "1 where the posterior is right; 90 % coverage where the truth is above a twentieth of its maximum; evaluations of "
    "the network a draw, backward passes not counted; seconds for all draws, one thread, a shared machine. Held-out "
    "samples: relative error of their prediction, chi-square and coverage of it with the noise added. "
    "red-diff seeks modes, its spread is no posterior. Of sigpy's methods, '(best)' is the number of iterations or the "
    "weight that is best for this very truth, or these very held-out samples; the others' weight is by the discrepancy "
    "principle. Not run: smc; source-slice needs hundreds of sweeps of 39 evaluations each; "
    "snap and null-flow a posterior in one step, trained for these operators; dds and diffusion-mbir are for volumes, "
    "exact for Gaussian priors (gaussian-fitted is its mean); deepinv-ddrm needs the singular values of a matrix of "
    "5e9 entries."
)

DRAWS, LEVELS = 4, 16
CALIBRATION_BRAINS, CALIBRATION_SEED = 12, 3000
"""Brains on which the local conditional is measured; the prior saw those of seed 1000, the cases are of seed 2000."""

TOLERANCE, WIDENING = 0.3, 1.5
"""Of `faps-measured`. On two brains that are no cases (seed 2000, numbers 54 and 58, 4-fold and 8-fold) the calibration
ratio was 0.79 and 0.65 with a widening of 1, and 1.27 and 1.13 with 2; hence a number between."""

DPS_WEIGHT = 36.0
"""Of DPS's guidance: the best of 4, 12 and 36 at 50 steps, on a smaller brain."""

VOXEL = 1.0
"""Size of a point of the 8-channel slice, mm, which its file lacks. On another split of its samples the error
of `faps-measured` was 0.97 of that of L1-wavelet at 1 mm, and 0.96 at 1.2 mm: the prior is as good for both."""

INSIDE = 0.05
WEIGHTS = (0.06, 0.12, 0.25, 0.5, 1.0)
ITERATIONS = (1, 3, 5, 8, 12, 20, 30)

ABSENT = {
    "smc": "many data",
    "source-slice": "slow",
    "snap, null-flow": "untrained",
    "dds, diffusion-mbir": "volumes",
    "exact": "Gaussian",
    "deepinv-ddrm": "matrix",
}
"""What cannot run here, in a word; `METHOD_NOTE` has details."""


@dataclass(frozen=True)
class Settings:
    """How long the samplers may take."""

    draws: int = DRAWS
    levels: int = LEVELS
    faps_levels: int = 20
    published: tuple[int, int, int] = (8, 4, 12)
    red_diff: int = 50
    dps: int = 50
    diffpir: int = 25
    moment_matching: int = 20
    trials: int = 5
    iterations: int = 100


QUICK = Settings(
    draws=2, levels=2, faps_levels=2, published=(2, 1, 2), red_diff=3, dps=2, diffpir=2, moment_matching=2, trials=2,
    iterations=10,
)  # fmt: skip


def run(*, quick: bool = False, seed: int = 0) -> Bench:
    """Two brains at each acceleration, and real k-space; one smaller brain, 4-fold, when quick.

    Raises:
        InfieldError: If the real slices are not under the folder that INFIELD_DATA names.
    """
    torch.set_num_threads(1)
    bench = Bench("mri", seed)
    settings, points = (QUICK, 96) if quick else (Settings(), 128)
    builders = _cases(seed, quick=quick, points=points)
    prior = load_flow_prior(CHECKPOINT)
    assert isinstance(prior, LearnedFlow)
    law = local_law(prior, settings.levels, points=points, brains=2 if quick else CALIBRATION_BRAINS)
    with progress() as bar:
        for build in bar.track(builders, description="mri"):
            case = build()
            _run_case(bench, case, prior.on(case.measurement.grid), law, settings, seed)
    for method, reason in ABSENT.items():
        bench.add("0", method, "absent", reason)
    return bench


def _cases(seed: int, *, quick: bool, points: int) -> list[Callable[[], Case]]:
    if quick:
        return [lambda: simulated(10 * seed, 4, points=points, coils=3)]
    folder = Path(os.environ.get("INFIELD_DATA", ""))
    for name in (SLICE, COMPLETE):
        if not (folder / name).is_file():
            raise InfieldError(
                where=folder / name, found="no such file", remedy=f"set INFIELD_DATA to the folder that holds {name}"
            )
    cases: list[Callable[[], Case]] = [
        lambda number=number, acceleration=acceleration: simulated(10 * seed + number, acceleration)  # type: ignore[misc]
        for number in range(2)
        for acceleration in (4, 8)
    ]
    cases.insert(0, lambda: thinned(folder / SLICE, VOXEL, seed))
    cases += [lambda a=a: fully_sampled(folder / COMPLETE, a) for a in (4, 8)]  # type: ignore[misc]
    return cases


def local_law(
    prior: LearnedFlow, levels: int, *, points: int = 128, brains: int = CALIBRATION_BRAINS
) -> DenoiserErrorModel:
    """The local conditional of the prior of brains, from brains of a seed of their own.

    Arguments:
        prior: The prior.
        levels: At the times k / levels.
        points: Along each axis, 1.875 mm apart.
        brains: How many.
    """
    fov = points * SPACING
    grid = Grid.regular((points, points), (fov, fov), names=("y", "x"), units="mm", periodic=True)
    images = torch.cat(
        [BrainPhantom(fov=fov).draw(grid, SampleStreams(CALIBRATION_SEED, [number]).normal) for number in range(brains)]
    )
    fields = torch.stack([images.real, images.imag], dim=1)
    return fit_denoiser_errors(prior.on(grid), fields, [k / levels for k in range(levels)], Generator().manual_seed(0))


def _run_case(
    bench: Bench, case: Case, prior: FlowPrior, law: DenoiserErrorModel, settings: Settings, seed: int
) -> None:
    for method, draw in samplers(prior, law, settings).items():
        start = time.perf_counter()
        x, evaluations = draw(case.measurement, seed)
        _add(bench, case, method, x, evaluations, time.perf_counter() - start)
    for method, reconstruct in _images(case, settings).items():
        start = time.perf_counter()
        _add(bench, case, method, reconstruct(case.measurement), None, time.perf_counter() - start)


def samplers(
    prior: FlowPrior, law: DenoiserErrorModel, settings: Settings
) -> dict[str, Callable[[Measurement, int], tuple[Tensor, float]]]:
    """Samplers of one prior by name: from a measurement and a seed, draws and the evaluations of each.

    Arguments:
        prior: On the measurement's grid.
        law: Its local conditional.
        settings: Numbers of draws and steps.
    """
    n = settings.draws

    def ours(sampler: Sampler) -> Callable[[Measurement, int], tuple[Tensor, float]]:
        def draw(measurement: Measurement, seed: int) -> tuple[Tensor, float]:
            posterior = sampler(prior, measurement, n, SampleStreams(seed, range(n)))
            return posterior.samples, posterior.cost["velocity_calls"]

        return draw

    def theirs(peer: Callable[..., Tensor], steps: int, **options: float) -> Callable[..., tuple[Tensor, float]]:
        def draw(measurement: Measurement, seed: int) -> tuple[Tensor, float]:
            problem: WhitenedProblem | UnitRange = WhitenedProblem(prior, measurement)
            if peer is not moment_matching:
                problem = UnitRange(WhitenedProblem(prior, measurement))
            x = problem.fields(peer(problem, n, seed + 1, steps, **options))
            return x, problem.calls(n)["velocity_calls"]

        return draw

    levels, flow_steps, langevin_steps = settings.published
    published = FAPSPublished(levels=levels, flow_steps=flow_steps, langevin_steps=langevin_steps, step=2e-4, rank=0)
    return {
        "faps-measured": ours(FAPSMeasured(law=law, widening=WIDENING, tolerance=TOLERANCE)),
        "faps": ours(FAPS(levels=settings.faps_levels)),
        "faps-published": ours(published),
        "red-diff": ours(REDDiff(steps=settings.red_diff, weight=20.0, rate=0.1)),
        "deepinv-dps": theirs(dps, settings.dps, weight=DPS_WEIGHT),
        "deepinv-diffpir": theirs(diffpir, settings.diffpir, solver_steps=10),
        "deepinv-moment-matching": theirs(moment_matching, settings.moment_matching),
    }


def _images(case: Case, settings: Settings) -> dict[str, Callable[[Measurement], Tensor]]:
    def wavelet(measurement: Measurement, weight: float) -> Tensor:
        return l1_wavelet(measurement, weight, iterations=min(60, settings.iterations))

    def variation(measurement: Measurement, weight: float) -> Tensor:
        return total_variation(measurement, weight, iterations=settings.iterations)

    def best(images: list[Tensor]) -> Tensor:
        return min(images, key=lambda image: _error(case, image))

    return {
        "zero-filling": lambda m: m.operator.A_adjoint(m.y),
        "gaussian-fitted": lambda m: posterior_mean(fit_prior(m), m)[None],
        "sigpy-cg-sense (best)": lambda m: best([cg_sense(m, n) for n in ITERATIONS]),
        "sigpy-l1-wavelet": lambda m: by_discrepancy(wavelet, m, trials=settings.trials)[0],
        "sigpy-l1-wavelet (best)": lambda m: best([wavelet(m, weight) for weight in WEIGHTS]),
        "sigpy-tv": lambda m: by_discrepancy(variation, m, trials=settings.trials)[0],
        "sigpy-tv (best)": lambda m: best([variation(m, weight) for weight in WEIGHTS]),
    }


def _error(case: Case, image: Tensor) -> float:
    if case.held_out is not None:
        return relative_l2(case.held_out.predict(image)[0], case.held_out.y)
    assert case.truth is not None
    return fastmri_metrics(case.truth, image)["fastmri_nmse"]


def _add(bench: Bench, case: Case, method: str, x: Tensor, evaluations: float | None, seconds: float) -> None:
    """The figures of some draws, or of one image."""
    row, number, n, dice = f"{case.group}: {method}", f"{case.group} {case.number}", len(x), Generator().manual_seed(0)
    mean = x.mean(0, keepdim=True)
    if case.truth is not None:
        measured = fastmri_metrics(case.truth, mean) | inversebench_metrics(case.truth, mean)
        for name, value in measured.items():
            bench.add(number, row, name.removeprefix("fastmri_"), value)
        if n > 1:
            bench.add(number, row, "calibration_ratio", calibration_ratio(x, case.truth[0]))
            inside = case.truth[0].norm(dim=0) > INSIDE * case.truth[0].norm(dim=0).max()
            rank = ranks(x, case.truth[0])[:, inside]
            bench.add(number, row, "coverage_90", coverage(rank, n, 0.9, dice))
    if case.held_out is not None:
        predicted, y, variance = case.held_out.predict(x), case.held_out.y, case.held_out.variance
        bench.add(number, row, "held_out_l2", relative_l2(predicted.mean(0), y))
        if n > 1:
            noisy = predicted + variance**0.5 * torch.randn(predicted.shape, generator=dice, dtype=predicted.dtype)
            bench.add(
                number,
                row,
                "held_out_chi_square",
                predictive_chi_square(predicted, torch.tensor(variance).to(predicted), y),
            )
            bench.add(number, row, "held_out_coverage_90", coverage(ranks(noisy, y), n, 0.9, dice))
    bench.add(number, row, "chi_square", float(case.measurement.chi_square(x).mean()))
    if evaluations is not None:
        bench.add(number, row, "evaluations", evaluations)
    bench.add(number, row, "seconds", seconds, "s")


def calibration_ratio(x: Tensor, truth: Tensor) -> float:
    """Variance of n draws over the squared error of their mean, less what n adds to it; 1 where the posterior is right.

    Arguments:
        x: Shape `(n, *event)`, n at least 2.
        truth: Shape `(*event)`.
    """
    variance, error = variance_and_error(x, truth)
    return variance / error
