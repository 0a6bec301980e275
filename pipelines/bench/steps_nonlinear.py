"""Part `nonlinear` of `infield bench steps`: calibration of `smc` where the data are not linear or not Gaussian.

Truths are draws of the prior. Darcy flow: log permeability on 16 x 16 points, 40 pressures with noise of 2 % of the
largest. Counts: Poisson with mean 5 exp(u) on each of 32 x 32 cells. Beside them `faps`, and of four truths (part
`chains`) the chain of Cotter, Roberts, Stuart & White 2013 (arXiv 1202.0709, pCN), which needs no model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, NoiseModel, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.bench.steps_kept import Figures, StepsBench
from infield.posterior.diagnostics.calibration import coverage, rank_uniformity, ranks
from infield.posterior.diagnostics.convergence import r_hat
from infield.posterior.inference.laplace import LaplaceApproximation, find_map
from infield.posterior.inference.whitening import Whitening
from infield.posterior.samplers.base import Sampler
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.twisted_smc import TwistedSMC
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior

DRAWS = 31
PRESSURES, PRESSURE_NOISE = 40, 0.0012
FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda u: u.flatten(1).mean(1),
    "middle": lambda u: u[..., u.shape[-2] // 2, u.shape[-1] // 2].flatten(),
    "roughness": lambda u: (u.diff(dim=-1)).flatten(1).square().mean(1),
}
"""Whose ranks are tested: numbers of a field."""

CHAINS, CHAINED = 16, 4

Case = tuple[GaussianPrior, Measurement, Tensor]


def darcy(generator: Generator) -> Case:
    """Prior, data and truth of one case of Darcy flow."""
    n = 16
    grid = Grid.regular((n, n), 1.0)
    prior = gaussian_prior(Matern(nu=1.5, length=0.3), grid, source=Matern(nu=0.5, length=0.1))
    inside = torch.randperm((n - 2) ** 2, generator=generator)[:PRESSURES].sort().values
    index = ((inside // (n - 2) + 1) * n + inside % (n - 2) + 1).numpy()
    points = {"name": "points", "arrays": {"indices": "indices"}}
    description = {"name": "compose", "operators": [points, {"name": "darcy"}]}
    noise = GaussianNoise(torch.tensor(PRESSURE_NOISE**2, dtype=torch.float64))
    return _case(prior, grid, description, {"indices": index}, noise, generator)


def counts(generator: Generator) -> Case:
    """The same of counts."""
    grid = Grid.regular((32, 32), 1.0, periodic=True)
    prior = gaussian_prior(Matern(nu=1.5, length=0.2), grid, source=Matern(nu=0.5, length=0.05))
    return _case(prior, grid, {"name": "exp", "parameters": {"scale": 5.0}}, {}, PoissonNoise(1.0), generator)


def _case(
    prior: GaussianPrior, grid: Grid, description: dict, arrays: dict, noise: NoiseModel, generator: Generator
) -> Case:
    operator = build_operator(description, arrays, grid, 1)
    truth = prior.mean + prior.covariance.sample(1, generator)
    y = noise.sample(operator.A(truth), generator)
    return prior, Measurement(y, operator=operator, noise=noise, grid=grid), truth[0]


PROBLEMS = {"Darcy flow": (darcy, 3, 1500), "Poisson counts": (counts, 8, 8000)}
"""How a case is made, steps of `smc`, and steps of the chain."""


def run(bench: StepsBench, quick: bool, seed: int) -> None:
    """Ranks and cover of each problem and sampler."""
    truths = bench.number(100, 2, quick)
    for problem, (make, steps, _) in PROBLEMS.items():
        samplers: dict[str, Sampler] = {"smc": TwistedSMC(steps=steps, particles=2), "faps": FAPS()}
        found: dict[str, list[Figures]] = {method: [] for method in samplers}
        for i in range(truths):
            for method, sampler in samplers.items():

                def measure(i: int = i, sampler: Sampler = sampler, make: Callable[..., Case] = make) -> Figures:
                    generator = Generator().manual_seed(100_000 * seed + i)
                    return calibration_of(sampler, make(generator), generator)

                found[method].append(bench.figures(f"{problem}, {method}, truth {i}", measure))
        for method, figures in found.items():
            judge(bench, f"{problem}, {truths} truths", method, figures)


def run_chains(bench: StepsBench, quick: bool, seed: int) -> None:
    """Moments beside those of chains, of the first truths."""
    for problem, (make, steps, chain) in PROBLEMS.items():
        for i in range(bench.number(CHAINED, 1, quick)):

            def beside(i: int = i, make: Callable[..., Case] = make, steps: int = steps, chain: int = chain) -> Figures:
                generator = Generator().manual_seed(100_000 * seed + i)
                return beside_chain(make(generator), steps, chain // 50 if quick else chain, generator)

            for metric, value in bench.figures(f"{problem}, chain, truth {i}", beside).items():
                bench.judge(f"{problem}, truth {i}", "smc beside pCN", metric, value)


def calibration_of(sampler: Sampler, case: Case, generator: Generator) -> Figures:
    """Ranks of the truth's features among draws, the share of its values that the 90 % intervals hold, and costs."""
    prior, measurement, truth = case
    start = time.process_time()
    posterior = sampler(prior, measurement, DRAWS, generator)
    seconds, draws = time.process_time() - start, posterior.samples
    rank = {f"rank_{name}": float(ranks(of(draws), of(truth[None])[0])) for name, of in FEATURES.items()}
    found = {"cover": coverage(ranks(draws, truth), DRAWS, 0.9, generator), "cpu_seconds": seconds}
    share = posterior.diagnostics.get("effective_share")
    return rank | found | ({} if share is None else {"share": float(share)})


def judge(bench: StepsBench, case: str, method: str, figures: Sequence[Figures]) -> None:
    """The records of one problem and sampler."""
    held = torch.tensor([f["cover"] for f in figures], dtype=torch.float64)
    error = float(held.std() / len(held) ** 0.5)
    for name in FEATURES:
        p = rank_uniformity(torch.tensor([f[f"rank_{name}"] for f in figures]), DRAWS, bins=8)
        bench.judge(case, method, f"p_of_ranks_of_{name}", p, low=0.01)
    bench.judge(case, method, "cover_of_90_%_intervals", float(held.mean()), 0.9, 0.9, error=error)
    bench.judge(case, method, "standard_error_of_that", error)
    bench.judge(case, method, "cpu_seconds_a_truth", sum(f["cpu_seconds"] for f in figures) / len(figures))
    if "share" in figures[0]:
        bench.judge(case, method, "least_effective_share", min(f["share"] for f in figures))


def beside_chain(case: Case, steps: int, length: int, generator: Generator) -> Figures:
    """Mean and spread of `smc` beside those of chains."""
    prior, measurement, _ = case
    found = TwistedSMC(steps=steps, particles=1)(prior, measurement, 512, generator).samples
    states = pcn(prior, measurement, length, generator)
    of_chains = states.flatten(0, 1)
    sd = of_chains.std(0)
    within = states.mean(1).std(0) / CHAINS**0.5
    return {
        "mean_off_in_posterior_sd": float(((found.mean(0) - of_chains.mean(0)) / sd).square().mean().sqrt()),
        "error_of_the_chains_mean": float((within / sd).square().mean().sqrt()),
        "sd_over_that_of_chains": float((found.std(0) / sd).mean()),
        "median_r_hat": float(r_hat(states.flatten(2)[..., ::8]).median()),
    }


def pcn(prior: GaussianPrior, measurement: Measurement, length: int, generator: Generator) -> Tensor:
    """States of the second half of chains, shape `(chains, states, channel, *space)`.

    Each starts at a draw of the linearised posterior; its step adapts to an acceptance of a quarter in the first half.
    """
    whitening = Whitening(prior.covariance)
    start = LaplaceApproximation(find_map(measurement, prior.mean[None], whitening, 256), whitening)
    white = torch.randn((CHAINS, prior.mean.numel()), generator=generator, dtype=torch.float64)
    w = start.mean(prior.mean[None]) + start.root(white)
    value = measurement.log_likelihood(prior.mean + whitening.colour(w))
    log_beta, kept = torch.full((CHAINS, 1), -2.0, dtype=torch.float64), []
    for step in range(length):
        beta = log_beta.exp().clamp_max(1.0)
        xi = torch.randn(w.shape, generator=generator, dtype=torch.float64)
        trial = (1 - beta**2).sqrt() * w + beta * xi
        there = measurement.log_likelihood(prior.mean + whitening.colour(trial))
        taken = torch.rand(CHAINS, generator=generator, dtype=torch.float64).log() < there - value
        w, value = torch.where(taken[:, None], trial, w), torch.where(taken, there, value)
        if step < length // 2:
            log_beta = log_beta + (taken[:, None].double() - 0.25) / (1 + step) ** 0.5
        elif step % max(length // 200, 1) == 0:
            kept.append(prior.mean + whitening.colour(w))
    return torch.stack(kept, dim=1)
