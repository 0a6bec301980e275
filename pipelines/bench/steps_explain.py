"""Part `explain` of `infield bench steps`: sensitivities to data beside derivatives of exact posterior means."""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor

from infield.physics.measurement import Measurement
from infield.pipelines.bench.learned_regression import NOISE_VARIANCE, OBSERVATIONS, POINTS, point_measurement
from infield.pipelines.bench.mixture import mixture_prior
from infield.pipelines.bench.targets import TargetBench
from infield.posterior.diagnostics.sensitivity import exact_gain, noiseless_data, scores, sensitivity
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.samplers.exact import Exact
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import GaussianPrior

QUANTILE = 1.645
STEP = 1e-4


def run(bench: TargetBench, quick: bool, seed: int) -> None:
    """The exact gain of a Gaussian prior, and draws of a mixture beside finite differences of its exact means."""
    prior = mixture_prior()
    w = torch.zeros((1, POINTS), dtype=torch.float64)
    w[0, POINTS // 4 : POINTS // 2] = 4 / POINTS
    inside, relative, off = [], [], 0.0
    for case in range(4 if quick else 40):
        generator = Generator().manual_seed(1000 * seed + case)
        truth = prior.components[case % len(prior.components)].covariance.sample(1, generator)[0]
        sensors = torch.randperm(POINTS, generator=generator)[:OBSERVATIONS].sort().values
        noise = NOISE_VARIANCE**0.5 * torch.randn(OBSERVATIONS, generator=generator, dtype=torch.float64)
        y = truth[0, sensors] + noise

        def measured(data: Tensor, places: Tensor = sensors) -> Measurement:
            return point_measurement(data, places, POINTS, "1")

        unit = STEP * torch.eye(OBSERVATIONS, dtype=torch.float64)

        def slopes(of: GaussianPrior | MixturePrior, y: Tensor = y, unit: Tensor = unit) -> Tensor:
            ends = [[posterior_mean(of, measured(y + s * e), w) for s in (1, -1)] for e in unit]
            return torch.tensor([(a - b) / (2 * STEP) for a, b in ends], dtype=torch.float64)

        part = prior.components[case % len(prior.components)]
        gain = exact_gain(part, measured(y), w).value.flatten()
        off = max(off, float((gain - slopes(part)).abs().max()))
        exact = slopes(prior)
        draws = Exact()(prior, measured(y), 1024, generator).samples
        f = (draws * w).flatten(1).sum(1)
        found = sensitivity(f, scores(measured(y), noiseless_data(measured(y), draws)))
        value, error = found.value.flatten(), found.error.flatten()
        inside.append(float(((value - exact).abs() < QUANTILE * error).double().mean()))
        relative.append(float((value - exact).norm() / exact.norm()))
    bench.judge("Gaussian prior", "exact gain", "largest_error", off, high=1e-8)
    spread = float(np.std(inside) / len(inside) ** 0.5)
    bench.judge("mixture, 1024 draws", "draws", "identity_within_90_%_bars", float(np.mean(inside)), 0.85, 0.95)
    bench.judge("mixture, 1024 draws", "draws", "standard_error_of_that", spread)
    bench.judge("mixture, 1024 draws", "draws", "relative_error", float(np.mean(relative)))


def posterior_mean(prior: GaussianPrior | MixturePrior, measurement: Measurement, w: Tensor) -> float:
    """E[<w, x> | y] in closed form."""
    logs, means = [], []
    for part in prior.components:
        data = LinearGaussianData(measurement.pullback(part.standardisation), part.covariance.modes)
        logs.append(data.log_evidence(part.mean, part.covariance))
        means.append((part.standardisation.to_units(data.mean(part.mean[None], part.covariance)) * w).sum())
    weights = torch.softmax(torch.stack(logs) + prior.weights.log(), 0)
    return float((weights * torch.stack(means)).sum())
