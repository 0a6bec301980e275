"""Where the flow-consistent law is wrong: a prior with modes, a mixture of Gaussian processes over length scales.

128 points on [0, 1], 7 observations, noise variance 0.01, components Matern 3/2 of lengths 0.03, 0.1, 0.3 and 0.8 with
equal weights, exact velocity. The exact posterior is a mixture too. Annealing with one Gaussian local law cannot weigh
the components: its draws look plausible and their spread is wrong.
"""

from __future__ import annotations

import torch
from torch import Generator

from infield.pipelines.bench.beside_exact import METRICS as METRICS
from infield.pipelines.bench.beside_exact import add_beside_exact
from infield.pipelines.bench.gp_regression import NOISE_VARIANCE, OBSERVATIONS, POINTS, SOURCE, point_measurement
from infield.pipelines.bench.gp_regression import regression_grid as points
from infield.pipelines.bench.records import Bench
from infield.pipelines.console import progress
from infield.posterior.exact import Exact
from infield.posterior.faps import FAPS
from infield.posterior.sampler import Sampler
from infield.priors.description import prior_from_description
from infield.priors.prior import Prior

LENGTHS = (0.03, 0.1, 0.3, 0.8)

METHOD_NOTE = "The truth of case i is drawn from component i modulo 4; one thread."


def run(*, quick: bool = False, seed: int = 0) -> Bench:
    """12 cases of 512 draws; 4 of 256 when quick."""
    torch.set_num_threads(1)
    cases, n = (4, 256) if quick else (12, 512)
    components = [{"law": {"law": "matern", "nu": 1.5, "length": length}} for length in LENGTHS]
    source = {"law": "matern", "nu": SOURCE.nu, "length": SOURCE.length}
    prior = prior_from_description({"prior": "mixture", "components": components, "source": source}, points(), 1)
    methods: dict[str, tuple[Sampler, Prior]] = {"exact": (Exact(), prior), "faps-flow": (FAPS(levels=40), prior)}
    bench = Bench("mixture", seed)
    with progress() as bar:
        for case in bar.track(range(cases), description="mixture"):
            generator = Generator().manual_seed(1000 * seed + case)
            truth = prior.components[case % len(LENGTHS)].covariance.sample(1, generator)[0]
            index = torch.randperm(POINTS, generator=generator)[:OBSERVATIONS].sort().values
            noise = NOISE_VARIANCE**0.5 * torch.randn(OBSERVATIONS, generator=generator, dtype=torch.float64)
            measurement = point_measurement(truth[0, index] + noise, index)
            add_beside_exact(bench, f"{case}", prior, measurement, truth, methods, n, generator)
    return bench
