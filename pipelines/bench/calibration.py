"""Is every sampler right where the answer is known? z-scores of moments, and simulation-based calibration.

z-scores: mean and covariance of 4000 draws on small linear-Gaussian problems against the exact posterior, in the
coordinates that whiten it; a right sampler stays below 4.5. The same check is shown to reject samplers that are
wrong: without guidance (the prior), with half of it (twice the noise standard deviation), with the wrong sign.
Simulation-based calibration (Talts et al. 2018): 500 truths from the prior, ranks among 63 draws, uniform where the
sampler is right.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from infield.core.grid import Grid, PointSet
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.bench.records import Bench
from infield.pipelines.run.console import progress
from infield.posterior.diagnostics.calibration import coverage, gaussian_z_scores, rank_uniformity, ranks
from infield.posterior.samplers.base import Sampler
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.faps_published import FAPSPublished
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior

SAMPLERS: dict[str, Sampler] = {
    "exact": Exact(),
    "faps-flow": FAPS(levels=1),
    "faps-flow-8-levels": FAPS(levels=8),
}

METRICS = {
    "z_mean": ".1f",
    "z_covariance": ".1f",
    "rank_p_value": ".3f",
    "coverage_50": ".3f",
    "coverage_80": ".3f",
    "coverage_95": ".3f",
}
SUMMARY = max  # over the problems: one that fails is enough
METHOD_NOTE = (
    "z: largest over all directions, below 4.5 where right; rows in brackets are wrong on purpose and must exceed it. "
    "Ranks and coverage: 500 truths, 63 draws each."
)


def run(*, quick: bool = False, seed: int = 0) -> Bench:
    """All samplers on all problems; a quarter of the draws and truths when quick."""
    torch.set_num_threads(1)
    bench, share = Bench("calibration", seed), 4 if quick else 1
    with progress() as bar:
        for name, prior, measurement in bar.track(_problems(seed), description="z-scores", total=3):
            _z_scores(bench, name, prior, measurement, 4000 // share, seed)
        for method, sampler in bar.track(SAMPLERS.items(), description="simulation-based calibration"):
            _simulation_based_calibration(bench, method, sampler, 500 // share, seed)
    return bench


def _problems(seed: int) -> list[tuple[str, GaussianPrior, Measurement]]:
    generator = Generator().manual_seed(seed)
    line = PointSet(tuple((i / 7,) for i in range(8)))
    regression = gaussian_prior(Matern(nu=1.5, length=0.3), line, source=Matern(nu=0.5, length=0.05))
    torus = Grid.regular((3, 4), periodic=True)
    image = gaussian_prior(Matern(nu=1.5, length=0.4), torus).in_units(2.0, 3.0)
    ring = Grid.regular((9,), periodic=True)
    signal = gaussian_prior(Matern(nu=2.5, length=0.2), ring, source=Matern(nu=0.5, length=0.05))
    points = {"name": "points", "arrays": {"indices": "sensor"}}
    mask = {"name": "mask", "arrays": {"mask": "mask"}}
    blur = {"name": "convolution", "parameters": {"gaussian_width": 0.15}}
    kept = (torch.rand((3, 4), generator=generator) < 0.6).numpy()
    return [
        ("regression", regression, _simulate(regression, line, points, {"sensor": [1, 4, 6]}, 0.01, generator)),
        ("inpainting", image, _simulate(image, torus, mask, {"mask": kept}, 0.5, generator)),
        ("deblurring", signal, _simulate(signal, ring, blur, {}, 0.04, generator)),
    ]


def _simulate(
    prior: GaussianPrior, grid: Grid | PointSet, description: dict, arrays: dict, variance: float, generator: Generator
) -> Measurement:
    arrays = {name: torch.as_tensor(values).numpy() for name, values in arrays.items()}
    operator = build_operator(description, arrays, grid, 1)
    truth = prior.standardisation.to_units(prior.mean + prior.covariance.sample(1, generator))
    noise = GaussianNoise(torch.tensor(variance))
    y = noise.sample(operator.A(truth), generator)
    observed = getattr(operator, "observed", None)
    y = y if observed is None else torch.where(observed, y, 0.0)
    return Measurement(
        y=y, operator=operator, noise=noise, grid=grid, truth=truth, description=description, arrays=arrays
    )


def _z_scores(bench: Bench, case: str, prior: GaussianPrior, measurement: Measurement, n: int, seed: int) -> None:
    mean, covariance = dense_posterior(prior, measurement)
    generator = Generator().manual_seed(seed + 1)

    def add(method: str, draws: Tensor) -> None:
        z = gaussian_z_scores(draws.flatten(1), mean, covariance)
        bench.add(case, method, "z_mean", z.mean)
        bench.add(case, method, "z_covariance", z.covariance)

    def draw(sampler: Sampler, of: Measurement) -> Tensor:
        return sampler(prior, of, n, generator).samples

    for method, sampler in SAMPLERS.items():
        add(method, draw(sampler, measurement))
    if case == "regression":
        add("(faps-published)", draw(FAPSPublished(rank=8, levels=10), measurement))
    half = replace(measurement, noise=GaussianNoise(4 * measurement.noise.variance))  # type: ignore[attr-defined]
    zero = prior.standardisation.to_units(torch.zeros_like(measurement.truth))  # type: ignore[arg-type]
    turned = replace(measurement, y=2 * measurement.operator.A(zero) - measurement.y)
    add("(no guidance)", prior.standardisation.to_units(prior.mean + prior.covariance.sample(n, generator)))
    add("(half guidance)", draw(FAPS(), half))
    add("(wrong sign)", draw(FAPS(), turned))


def dense_posterior(prior: GaussianPrior, measurement: Measurement) -> tuple[Tensor, Tensor]:
    """Mean `(N,)` and covariance `(N, N)` of the exact posterior in units, by dense algebra on a small problem."""
    shape = measurement.event_shape
    eye = torch.eye(int(torch.tensor(shape).prod()), dtype=torch.float64).reshape(-1, *shape)
    units = prior.standardisation
    C = units.scale.square().flatten()[0] * prior.covariance.apply(eye).flatten(1)
    m = units.to_units(prior.mean).flatten()
    places = (
        torch.ones_like(measurement.y[0], dtype=torch.bool) if measurement.observed is None else measurement.observed
    )
    A = measurement.operator.A(eye)[:, places].mT
    R = torch.diag((measurement.noise.variance * torch.ones_like(measurement.y[0]))[places])  # type: ignore[attr-defined]
    gain = torch.linalg.solve(A @ C @ A.mT + R, A @ C).mT
    covariance = C - gain @ A @ C
    return m + gain @ (measurement.y[0][places] - A @ m), (covariance + covariance.mT) / 2


def _simulation_based_calibration(bench: Bench, method: str, sampler: Sampler, truths: int, seed: int) -> None:
    generator = Generator().manual_seed(seed + 2)
    line = PointSet(tuple((i / 15,) for i in range(16)))
    prior = gaussian_prior(Matern(nu=1.5, length=0.3), line, source=Matern(nu=0.5, length=0.05))
    description, arrays = {"name": "points", "arrays": {"indices": "sensor"}}, {"sensor": [0, 3, 7, 8, 14]}
    rank = []
    for _ in range(truths):
        measurement = _simulate(prior, line, description, arrays, 0.05, generator)
        draws = sampler(prior, measurement, 63, generator).samples
        rank.append(ranks(draws, measurement.truth[0])[0])  # type: ignore[index]
    of_all = torch.stack(rank)
    bench.add("sbc", method, "rank_p_value", rank_uniformity(of_all[:, 5], 63, bins=16))  # one point: independent
    for level in (0.5, 0.8, 0.95):
        bench.add("sbc", method, f"coverage_{level * 100:.0f}", coverage(of_all, 63, level, generator))
