"""The Poisson bridge with distributions whose denoiser is exact: width of the draws by number of steps.

    infield bench pet-bridge --records bridge.json

Nothing is trained. Cases: a Gamma law (shape a = 25, rate b = 25: mean 1, standard deviation 0.2), 16 voxels with a
common factor (mean 1, log-normal, standard deviation 0.08; own parts 0.03), the identities of the Poisson channel, the
Gaussian channel beside the Poisson one, and the Brownian channel under a Gaussian law. Every row names its clock:
geometric from the first tau to T, or uniform to T. Rows in brackets are wrong on purpose: the follow-up and its counts
drawn anew at each step, and a deterministic flow from one baseline.
"""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch import Generator, Tensor

from infield.pipelines.bench.targets import TargetBench
from infield.pipelines.run.console import progress
from infield.priors.bridges.bridge import BridgePrior, Steps, bridge_counts
from infield.priors.bridges.channels import BrownianChannel, Channel, Moments, PoissonChannel
from infield.priors.bridges.clocks import brownian_clock, geometric_clock, uniform_clock
from infield.priors.bridges.exact import CommonFactorLaw, GammaLaw
from infield.priors.bridges.identities import covariance_from_mean, mean_from_marginal

GAMMA = GammaLaw(25.0, 25.0)
FIRST, LAST = 0.5, 1e4
"""Ends of the geometric clocks of the Gamma law, counts per unit of the field."""

VOXELS, COMMON, OWN = 16, 0.08, 0.03
REGION_FIRST, REGION_LAST = 0.5, 2e3

PLAIN = {20: 0.88, 40: 0.94, 80: 0.97, 160: 0.98}
"""Standard deviation of plain steps over the law's, by their number."""

METRICS: dict[str, str] = {}
METHOD_NOTE = (
    "sd ratio: standard deviation of the draws over that of the law, 1 where they are right; Monte Carlo error below "
    "0.003 (Gamma law) and 0.008 (16 voxels). One thread."
)


def run(*, quick: bool = False, seed: int = 0) -> TargetBench:
    """All cases; fewer draws when quick."""
    torch.set_num_threads(1)
    bench = TargetBench("pet-bridge", seed)
    generator = Generator().manual_seed(seed)
    n = 8_000 if quick else 200_000
    cases = (_gamma, _wrong, _common_factor, _identities, _gaussian_limit, _brownian, _picture)
    with progress() as bar:
        for case in bar.track(cases, description="pet-bridge"):
            case(bench, generator, n)
    return bench


def _draw(
    channel: Channel, law: object, clock: tuple[float, ...], steps: Steps, shape: tuple[int, ...], g: Generator
) -> Tensor:
    prior = BridgePrior(channel, law, clock, steps)  # type: ignore[arg-type]
    return prior.sample(torch.empty(shape, dtype=torch.float64), None, g)


def _gamma(bench: TargetBench, generator: Generator, n: int) -> None:
    """Equations (5) and (6) under the Gamma law."""
    channel, sd, error = PoissonChannel(), math.sqrt(GAMMA.a) / GAMMA.b, 1 / math.sqrt(2 * n)
    case = f"Gamma({GAMMA.a:g}, {GAMMA.b:g}), T {LAST:g}"
    for steps in (5, 10, 20):
        x = _draw(channel, GAMMA, geometric_clock(FIRST, LAST, steps), "compound", (n,), generator)
        method = f"gamma-Poisson, {steps} from {FIRST:g}"
        bench.judge(case, method, "sd_ratio", float(x.std()) / sd, 0.99, 1.01, error=0.0 if n > 100_000 else error)
    for steps in (5, 10, *PLAIN):
        clock = geometric_clock(FIRST, LAST, steps)
        x = _draw(channel, GAMMA, clock, "plain", (n,), generator)
        bounds = (PLAIN[steps] - 0.01, PLAIN[steps] + 0.01) if steps in PLAIN else (None, None)
        bench.judge(case, f"plain, {steps} from {FIRST:g}", "sd_ratio", float(x.std()) / sd, *bounds, error=error)
    missing = [1 - GAMMA.plain_sd_ratio(geometric_clock(1e-3, 1e9, k)) ** 2 for k in (640, 1280)]
    order = math.log2(missing[0] / missing[1])
    bench.judge(case, "plain, 640 to 1280 from 0.001 to 1e9", "order", order, 0.95, 1.05)
    for first in (0.05, 5.0):
        x = _draw(channel, GAMMA, geometric_clock(first, LAST, 20), "plain", (n,), generator)
        bench.judge(case, f"plain, 20 from {first:g}", "sd_ratio", float(x.std()) / sd)
    for last in (3e2, 1e3, 1e4):
        x = _draw(channel, GAMMA, uniform_clock(last, 20), "plain", (n,), generator)
        bench.judge(case, f"plain, 20 uniform to {last:g}", "sd_ratio", float(x.std()) / sd)


def _wrong(bench: TargetBench, generator: Generator, n: int) -> None:
    """Negative controls, with the exact conditional mean."""
    case, sd = f"Gamma({GAMMA.a:g}, {GAMMA.b:g}), wrong on purpose", math.sqrt(GAMMA.a) / GAMMA.b
    for steps in (20, 160):
        x = torch.full((n,), GAMMA.a / GAMMA.b, dtype=torch.float64)
        for tau in geometric_clock(FIRST, LAST / 10, steps):  # all counts up to tau anew, from the mean given the last
            counts = torch.poisson(tau * x, generator=generator)
            x = GAMMA(counts, tau).mean
        bench.judge(
            case,
            f"(redraw from the marginal, {steps})",
            "sd_ratio",
            float(x.std()) / sd,
            0.5,
            0.7,
            error=1 / math.sqrt(2 * n),
        )
    x = torch.full((n,), 1.0, dtype=torch.float64)
    for t in range(20):  # dx/dt = E[x_f - x_b | x_t] from one baseline: the mean, whatever the step
        x = x + (GAMMA.a / GAMMA.b - x) / (20 - t)
    bench.judge(case, "(flow from the baseline, 20)", "sd_ratio", float(x.std()) / sd, 0.0, 1e-6)


def _common_factor(bench: TargetBench, generator: Generator, n: int) -> None:
    """The region's mean of voxels with a common factor: counts of all voxels, one draw a subject."""
    case = f"{VOXELS} voxels, T {REGION_LAST:g} from {REGION_FIRST:g}"
    batch = n // 20
    error = 1 / math.sqrt(2 * batch)
    wanted = {("plain", 1): (80,), ("compound", 0): (80,), ("compound", 1): (20, 40, 80)}
    names = {("plain", 1): "plain", ("compound", 0): "gamma voxelwise", ("compound", 1): "gamma with the factor"}
    for (steps, rank), asked in wanted.items():
        law = CommonFactorLaw.lognormal(COMMON, OWN, rank)
        sd = math.sqrt(law.mean_variance(VOXELS))
        for count in (10, 20, 40, 80):
            clock = geometric_clock(REGION_FIRST, REGION_LAST, count)
            x = _draw(PoissonChannel(), law, clock, steps, (batch, VOXELS), generator)  # type: ignore[arg-type]
            bounds = (0.97, 1.03) if count in asked else (None, None)
            ratio = float(x.mean(1).std()) / sd
            bench.judge(case, f"{names[steps, rank]}, {count}", "sd_ratio_of_mean", ratio, *bounds, error=error)


def _identities(bench: TargetBench, generator: Generator, n: int) -> None:
    """Equations (9) and (10) beside the closed form."""
    law = CommonFactorLaw.lognormal(COMMON, OWN)
    worst = {"mean": 0.0, "covariance": 0.0}
    for tau in (0.5, 5.0, 50.0):
        counts = torch.poisson(tau * law.sample(64, 4, generator), generator=generator)
        moments = law(counts, tau)
        mean = mean_from_marginal(lambda b, tau=tau: law.log_marginal(b, tau), counts, tau)  # type: ignore[misc]
        found = covariance_from_mean(lambda b, tau=tau: law(b, tau).mean, counts)  # type: ignore[misc]
        assert moments.own is not None and moments.factors is not None
        outer = torch.einsum("bri,brj->bij", moments.factors, moments.factors)
        expected = torch.diag_embed(moments.own) + outer
        worst["mean"] = max(worst["mean"], float((mean / moments.mean - 1).abs().max()))
        worst["covariance"] = max(worst["covariance"], float((found - expected).abs().max()))
    for name, value in worst.items():
        bench.judge("identities of the channel", "count Tweedie", f"error_of_the_{name}", value, high=1e-10)


def _gaussian_limit(bench: TargetBench, generator: Generator, n: int) -> None:
    """W1 distance over the standard deviation between Poisson counts and their Gaussian limit."""
    for rate in (2, 10, 50, 200):
        counts, law, sd = stats.poisson(rate), stats.norm(rate, math.sqrt(rate)), math.sqrt(rate)
        edge = 10 * sd + 10
        grid = torch.linspace(rate - edge, rate + edge, 200_001, dtype=torch.float64)
        gap = torch.from_numpy(abs(counts.cdf(grid.floor().numpy()) - law.cdf(grid.numpy())))
        distance = float(gap.sum() * (grid[1] - grid[0])) / sd
        high = 0.05 if rate >= 50 else None
        bench.judge("Gaussian against Poisson", f"{rate} counts", "w1_over_sd", distance, None, high)
        bench.judge("Gaussian against Poisson", f"{rate} counts", "gaussian_below_zero", float(law.cdf(0)))


def _brownian(bench: TargetBench, generator: Generator, n: int) -> None:
    """The Brownian channel of the same class, under x ~ N(0, v0) and with its exact denoiser."""
    v0, s = 0.04, 0.2

    def denoiser(state: Tensor, tau: float, context: object) -> Moments:
        left = 1 / (1 / v0 + tau / s**2)
        return Moments(left * state / s**2, torch.full_like(state, left))

    for count in (5, 20, 80):
        clock = brownian_clock(count)
        for steps, bounds in (("plain", (None, None)), ("compound", (0.99, 1.01))):
            x = _draw(BrownianChannel(s), denoiser, clock, steps, (n,), generator)  # type: ignore[arg-type]
            error = 0.0 if n > 100_000 else 1 / math.sqrt(2 * n)
            ratio = float(x.std()) / math.sqrt(v0)
            method = f"{steps}, {count} equal in t"
            bench.judge("Brownian bridge, N(0, 0.04), s 0.2", method, "sd_ratio", ratio, *bounds, error=error)


def _picture(bench: TargetBench, generator: Generator, n: int) -> None:
    """N_t of equation (7) is Poisson with the mean between baseline and follow-up: dispersion index 1."""
    n_b, n_f = (torch.poisson(torch.full((n,), x, dtype=torch.float64), generator=generator) for x in (5.0, 8.0))
    for t in (0.25, 0.5, 0.9):
        counts = bridge_counts(n_b, n_f, t, generator)
        error = math.sqrt(2 / n)
        value = float(counts.var() / counts.mean())
        bench.judge("N_t between 5 and 8 counts", f"t = {t:g}", "variance_over_mean", value, 0.99, 1.01, error=error)
