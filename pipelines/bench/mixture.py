"""A prior with modes: a mixture of Gaussian processes over length scales, whose exact posterior is a mixture too.

128 points i / 128 on [0, 1), 7 observations, noise variance 0.01, components Matern 3/2 of lengths 0.03, 0.1, 0.3 and
0.8 with equal weights. Annealing with one Gaussian local conditional cannot weigh the components: its draws look
plausible and their spread is wrong. Twisted sequential Monte Carlo weighs them, with the exact velocity and with a
learned one (a Fourier neural operator that was trained on draws of the mixture, without closed-form skip;
`pipelines/checkpoints`).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from infield.physics.measurement import Measurement
from infield.pipelines.bench.beside_exact import METRICS as POSTERIOR_METRICS
from infield.pipelines.bench.beside_exact import add_beside_exact
from infield.pipelines.bench.learned_regression import (
    CHECKPOINTS,
    NOISE_VARIANCE,
    OBSERVATIONS,
    POINTS,
    line,
    point_measurement,
)
from infield.pipelines.bench.records import Bench
from infield.pipelines.run.console import progress
from infield.posterior.samplers.base import Sampler
from infield.posterior.samplers.elliptical_slice import EllipticalSlice
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.twisted_smc import TwistedSMC
from infield.priors.base import FlowPrior
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.storage.checkpoint import load_flow_prior
from infield.priors.storage.from_yaml import prior_from_description

LENGTHS = (0.03, 0.1, 0.3, 0.8)
SOURCE = {"law": "matern", "nu": 0.5, "length": 0.01}

SLOW = EllipticalSlice(chains=16, burn_in=100, draws=32, thin=3, flow_steps=10)
"""16 chains of 200 sweeps: half a minute, and far from converged on this prior, by its R-hat."""

LEARNED = TwistedSMC(steps=48, particles=3, exponent=2.0, refresh=3)
"""Together with its vector-Jacobian products not above 500 velocity calls a draw."""

METRICS = {**POSTERIOR_METRICS, "c2st": ".3f", "jacobian_products": ".0f"}

METHOD_NOTE = (
    "The truth of case i is drawn from component i modulo 4. smc: 50 steps, 4 particles a draw; learned: 48 steps, 3 "
    "particles a draw, 7 vector-Jacobian products in every third step. source-slice: 16 chains of 200 sweeps, far from "
    "converged (R-hat above 3), in the first 2 cases. One thread."
)


def run(*, quick: bool = False, seed: int = 0) -> Bench:
    """20 cases of 512 draws; 2 of 128 when quick, without the slow reference."""
    torch.set_num_threads(1)
    cases, slow, n = (2, 0, 128) if quick else (20, 2, 512)
    prior = mixture_prior()
    learned = load_flow_prior(CHECKPOINTS / "gp_mixture.ckpt")
    methods: dict[str, tuple[Sampler, FlowPrior]] = {
        "exact": (Exact(), prior),
        "faps-flow": (FAPS(levels=40), prior),
        "smc": (TwistedSMC(steps=50), prior),
        "faps-flow-learned": (FAPS(levels=40), learned),
        "smc-learned": (LEARNED, learned),
    }
    bench = Bench("mixture", seed)
    with progress() as bar:
        for case in bar.track(range(cases), description="mixture"):
            generator = Generator().manual_seed(1000 * seed + case)
            measurement, truth = measured(prior, case, generator)
            rows = methods | ({"source-slice": (SLOW, prior)} if case < slow else {})
            add_beside_exact(bench, f"{case}", prior, measurement, truth, rows, n, generator, classifier=True)
    return bench


def measured(prior: MixturePrior, case: int, generator: Generator) -> tuple[Measurement, Tensor]:
    """Data of a case, and its truth `(channel, points)`: a draw of one component."""
    truth = prior.components[case % len(LENGTHS)].covariance.sample(1, generator)[0]
    sensors = torch.randperm(POINTS, generator=generator)[:OBSERVATIONS].sort().values
    noise = NOISE_VARIANCE**0.5 * torch.randn(OBSERVATIONS, generator=generator, dtype=torch.float64)
    return point_measurement(truth[0, sensors] + noise, sensors, POINTS, "1"), truth


def mixture_prior() -> MixturePrior:
    """The mixture in closed form, on the grid of 128 points."""
    components = [{"law": {"law": "matern", "nu": 1.5, "length": length}} for length in LENGTHS]
    prior = prior_from_description({"prior": "mixture", "components": components, "source": SOURCE}, line(POINTS), 1)
    assert isinstance(prior, MixturePrior)
    return prior
