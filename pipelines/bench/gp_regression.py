"""Gaussian-process regression, where the posterior is known: is a sampler right when its prior is perfect?

FAPS's own setting: Matern 3/2, length 0.3, 128 points on [0, 1], 7 observations, noise variance 0.01, source Matern
1/2 of length 0.01, closed-form velocity. Reference: draws of the exact posterior from dense formulas, in this file,
independent of the suite.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.grid import PointSet
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.bench.peers import azula_mmps, deepinv_posterior_diffusion
from infield.pipelines.bench.records import Bench
from infield.pipelines.run.console import progress
from infield.posterior.diagnostics.calibration import coverage, crps, mean_error, ranks, sliced_wasserstein
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.faps_published import FAPSPublished
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.matern import matern_matrix
from infield.priors.gaussian.prior import gaussian_prior

POINTS, OBSERVATIONS, NOISE_VARIANCE = 128, 7, 0.01
LAW, SOURCE = Matern(nu=1.5, length=0.3), Matern(nu=0.5, length=0.01)

METHOD_NOTE = "faps-published: K 40, M 20, J 50, h 1e-3, rank 32; faps-flow: 20 levels; peers: 100 steps; one thread."

METRICS = {
    "sw2_ratio_to_exact": ".2f",
    "mean_error_in_posterior_sd": ".3f",
    "std_ratio": ".3f",
    "coverage_90": ".3f",
    "crps": ".4f",
    "velocity_calls": ".0f",
    "seconds": ".2f",
}


def chosen(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """This bench, or that of a learned prior with its options."""
    if arguments.prior == "learned":
        from infield.pipelines.bench import learned_regression

        kernels = {"kernels": (arguments.kernel,)} if arguments.kernel else {}
        return learned_regression, {"checkpoint": arguments.checkpoint, "train": arguments.train, **kernels}
    if arguments.kernel or arguments.checkpoint or arguments.train:
        raise InfieldError(
            where="bench gp-regression",
            found="--kernel, --checkpoint or --train without --prior learned",
            expected="them with a learned prior only",
            remedy="add --prior learned, or leave them out",
        )
    return sys.modules[__name__], {}


def run(*, quick: bool = False, seed: int = 0) -> Bench:
    """Run every method on every case; 20 cases of 1024 draws, or 3 of 512 when quick."""
    torch.set_num_threads(1)  # many small products: a second thread only adds noise to the timings
    cases, n = (3, 512) if quick else (20, 1024)
    bench = Bench("gp-regression", seed)
    prior = gaussian_prior(LAW, regression_grid(), source=SOURCE)
    C = matern_matrix(regression_grid().points(), nu=LAW.nu, length=LAW.length, variance=LAW.variance)
    eigenvalues, U = torch.linalg.eigh(C)
    eigenvalues = eigenvalues.clamp_min(0)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:  # E[x_0 | x_0 + sigma eps = x]
        z = x.to(torch.float64)  # deepinv works in float32
        return ((z @ U * (eigenvalues / (eigenvalues + sigma.to(torch.float64) ** 2))) @ U.mT).to(x.dtype)

    with progress() as bar:
        task = bar.add_task("gp-regression", total=cases)
        for case in range(cases):
            generator = Generator().manual_seed(1000 * seed + case)
            truth = torch.linalg.cholesky(C + 1e-10 * torch.eye(POINTS)) @ _randn(generator, POINTS)
            index = torch.randperm(POINTS, generator=generator)[:OBSERVATIONS].sort().values
            y = truth[index] + NOISE_VARIANCE**0.5 * _randn(generator, OBSERVATIONS)
            _run_case(bench, f"{case}", prior, C, truth, index, y, n, denoise, generator)
            bar.advance(task)
    return bench


def _run_case(  # one case, every method in turn
    bench: Bench,
    case: str,
    prior: object,
    C: Tensor,
    truth: Tensor,
    index: Tensor,
    y: Tensor,
    n: int,
    denoise: Callable[[Tensor, Tensor], Tensor],
    generator: Generator,
) -> None:
    gain = torch.linalg.solve(C[index][:, index] + NOISE_VARIANCE * torch.eye(OBSERVATIONS), C[index]).mT
    mean, covariance = gain @ y, C - gain @ C[index]
    root = torch.linalg.cholesky(covariance + 1e-9 * torch.eye(POINTS))
    exact_std = covariance.diagonal().sqrt()

    def dense_draws() -> Tensor:
        return mean + _randn(generator, n, POINTS) @ root.mT

    reference, others = dense_draws(), dense_draws()
    floor = sliced_wasserstein(others, reference, _directions())
    measurement = point_measurement(y, index)
    on_grid = torch.zeros(POINTS, dtype=torch.float64).index_put((index,), y)
    mask = torch.zeros(POINTS, dtype=torch.float64).index_fill(0, index, 1.0)
    std, draw_seed = NOISE_VARIANCE**0.5, int(case)

    def ours(sampler: Exact | FAPS | FAPSPublished) -> Callable[[], tuple[Tensor, float]]:
        def call() -> tuple[Tensor, float]:
            posterior = sampler(prior, measurement, n, generator)  # type: ignore[arg-type]
            return posterior.samples[:, 0], posterior.cost["velocity_calls"]

        return call

    def counting(peer: Callable[[Callable[[Tensor, Tensor], Tensor]], Tensor]) -> Callable[[], tuple[Tensor, float]]:
        calls = [0]

        def counted(x: Tensor, sigma: Tensor) -> Tensor:
            calls[0] += 1
            return denoise(x, sigma)

        return lambda: (peer(counted), float(calls[0]))

    methods: dict[str, Callable[[], tuple[Tensor, float]]] = {
        "exact": ours(Exact()),
        "faps-published": ours(FAPSPublished()),
        "faps-flow": ours(FAPS(levels=20)),
        "faps-flow-1-level": ours(FAPS()),
        "deepinv-moment-matching": counting(
            lambda d: deepinv_posterior_diffusion("moment-matching", d, on_grid, mask, std, n, draw_seed)
        ),
        "deepinv-dps": counting(lambda d: deepinv_posterior_diffusion("dps", d, on_grid, mask, std, n, draw_seed)),
    }
    if find_spec("azula") is None:
        bench.add(case, "azula-mmps", "absent", "not installed: pip install 'infield[compare]'")
    else:
        methods["azula-mmps"] = counting(lambda d: _seeded_azula(d, y, index, std, n, draw_seed))

    for method, call in methods.items():  # the clock runs over what a user would wait for
        start = time.perf_counter()
        draws, calls = call()
        seconds = time.perf_counter() - start
        bench.add(case, method, "sw2_ratio_to_exact", sliced_wasserstein(draws, reference, _directions()) / floor)
        bench.add(case, method, "mean_error_in_posterior_sd", mean_error(draws, mean, exact_std))
        bench.add(case, method, "std_ratio", float((draws.var(0).mean() / covariance.diagonal().mean()).sqrt()))
        rank = ranks(draws, truth)
        bench.add(case, method, "coverage_90", coverage(rank, n, 0.9, Generator().manual_seed(draw_seed)))
        bench.add(case, method, "crps", crps(draws, truth), "field")
        bench.add(case, method, "velocity_calls", calls)
        bench.add(case, method, "seconds", seconds, "s")


def _seeded_azula(
    denoise: Callable[[Tensor, Tensor], Tensor], y: Tensor, index: Tensor, std: float, n: int, seed: int
) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # azula has no generator argument
        return azula_mmps(denoise, y, index, std, n, POINTS)


def regression_grid() -> PointSet:
    """The 128 points of the FAPS paper on [0, 1]."""
    return PointSet(tuple((float(x),) for x in torch.linspace(0, 1, POINTS, dtype=torch.float64)))


def point_measurement(y: Tensor, index: Tensor) -> Measurement:
    """Values `(data,)` measured at some of these points, noise variance 0.01."""
    description = {"name": "points", "arrays": {"indices": "sensor"}}
    arrays = {"sensor": index.numpy()}
    return Measurement(
        y=y.reshape(1, 1, -1),
        operator=build_operator(description, arrays, regression_grid(), 1),
        noise=GaussianNoise(torch.tensor(NOISE_VARIANCE)),
        grid=regression_grid(),
        description=description,
        arrays=arrays,
    )


def _directions() -> Generator:
    return Generator().manual_seed(7)


def _randn(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)
