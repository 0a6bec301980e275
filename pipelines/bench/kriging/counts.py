"""Counts of an unknown rate to a map of its logarithm, beside NIFTy's metric Gaussian variational inference.

A log rate of Matern 3/2, length 0.1 of the side of an open square, standard deviation 1, one Poisson count in each of
64 x 64 cells; mean count 0.3, 3 and 30. No method is given the law: ours is the default of `reconstruct` (a stationary
prior fitted by Laplace's evidence, then MGVI), NIFTy fits the power spectrum with the field (its correlated-field
model on a torus half as long again, MGVI). Both run in this process. The peer: pip install nifty jax.
"""

from __future__ import annotations

import math
import statistics
import time
from importlib.util import find_spec
from typing import Any

import torch
from torch import Generator, Tensor

from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.bench.kriging.settings import OURS, Settings
from infield.pipelines.bench.kriging.tables import PartsBench
from infield.pipelines.run.console import say
from infield.pipelines.run.prior_choice import choose_prior
from infield.pipelines.run.samplers import default_sampler
from infield.posterior.diagnostics.calibration import coverage, ranks
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

SIDE, LENGTH, SD, MEANS = 64, 0.1, 1.0, (0.3, 3.0, 30.0)
QUICK_SIDE, DRAWS = 16, 64
NIFTY, PEER = "nifty", "NIFTy, MGVI"
"""The peer's name among the options, and its row."""

RATIO, POINTS = 1.05, 0.03
"""Targets: RMSE over the peer's, and the distance of the cover from 0.9 (or two standard errors)."""


def run(bench: PartsBench, settings: Settings, *, side: int | None = None, peer_truths: int | None = None) -> None:
    """Every mean count, several truths each.

    Arguments:
        bench: Collects the records.
        settings: How much runs.
        side: Cells along a side; by default 64, 16 when quick.
        peer_truths: Truths a mean count that the peer is given; by default all.
    """
    torch.set_num_threads(1)
    side = side or (QUICK_SIDE if settings.quick else SIDE)
    peers = 0
    if NIFTY in settings.peers:
        peers = settings.truths if peer_truths is None else peer_truths
        if find_spec("nifty") is None:
            peers = 0
            bench.refuse("counts: all", PEER, "not installed: pip install nifty jax")
    for mean in MEANS:
        group = f"counts: mean count {mean:g}"
        if not settings.includes(group):
            continue
        for number in range(settings.truths):
            if not bench.pending(f"{group} #{number}"):
                continue
            measurement = counted(mean, side, 1000 * settings.seed + number)
            _case(bench, f"{group} #{number}", measurement, number < peers)
            bench.finish(f"{group} #{number}")
        judge(bench, group)


def counted(mean: float, side: int, seed: int) -> Measurement:
    """Counts whose expectation over fields is `mean` in every cell, with the log rate as their truth."""
    grid, generator = Grid.regular((side, side)), Generator().manual_seed(seed)
    law = gaussian_prior(Matern(1.5, LENGTH, SD**2), grid, torus=Matern(1.5, LENGTH).embed(grid).window.torus)
    field = law.standardisation.to_units(law.covariance.sample(1, generator))
    truth = field + math.log(mean) - SD**2 / 2
    operator = build_operator({"name": "exp"}, {}, grid, 1)
    y = torch.poisson(operator.A(truth), generator=generator)
    return Measurement(
        y=y, operator=operator, noise=PoissonNoise(1.0), grid=grid, truth=truth, description={"name": "exp"}
    )


def _case(bench: PartsBench, case: str, measurement: Measurement, peer: bool) -> None:
    assert measurement.truth is not None
    truth = measurement.truth[0, 0].flatten()
    start = time.process_time()
    draws = by_default(measurement, DRAWS).flatten(1)
    seconds = time.process_time() - start
    cover = coverage(ranks(draws, truth), len(draws), 0.9, Generator().manual_seed(0))
    _enter(bench, case, OURS, draws, truth, cover, seconds)
    if peer:
        start = time.process_time()
        draws = nifty_mgvi(measurement.y[0, 0]).flatten(1)
        seconds = time.process_time() - start
        inside = (truth - draws.mean(0)).abs() <= 1.645 * draws.std(0)  # its draws come in mirrored pairs
        _enter(bench, case, PEER, draws, truth, float(inside.double().mean()), seconds)


def _enter(
    bench: PartsBench, case: str, method: str, draws: Tensor, truth: Tensor, cover: float, seconds: float
) -> None:
    found = {
        "rmse": float((draws.mean(0) - truth).square().mean().sqrt()),
        "sd": float(draws.var(0).mean().sqrt()),
        "coverage_90": cover,
        "cpu_seconds": seconds,
    }
    bench.scores(case, method, found)
    say(f"{case}: {method}: " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()))


def judge(bench: PartsBench, group: str) -> None:
    """Targets of a mean count."""
    bench.judge(group, "rmse_over_nifty", bench.ratio(group, OURS, [PEER], "rmse"), RATIO, peers=[PEER])
    cover = list(bench.values(group, OURS, "coverage_90").values())
    error = statistics.stdev(cover) / len(cover) ** 0.5 if len(cover) > 1 else 0.0
    half = max(POINTS, 2 * error)
    bench.judge(group, "coverage_90", statistics.fmean(cover) if cover else None, 0.9 + half, 0.9 - half)


def by_default(measurement: Measurement, n: int) -> Tensor:
    """What `reconstruct` without options draws of it, shape `(n, channel, *space)`."""
    chosen_prior = choose_prior(None, measurement)
    prior, sampler = chosen_prior.prior, default_sampler(measurement, chosen_prior.fitted)
    blocks = (range(i, min(i + sampler.block, n)) for i in range(0, n, sampler.block))
    parts = [sampler(prior, measurement, len(block), SampleStreams(0, block)).samples for block in blocks]
    return torch.cat(parts)


def nifty_mgvi(counts: Tensor, *, iterations: int = 8, samples: int = 8, seed: int = 0) -> Tensor:
    """NIFTy's MGVI with the power spectrum learned, as its demonstration of a correlated field does it.

    Arguments:
        counts: On a square, shape `(side, side)`.
        iterations: Of `optimize_kl`; the last ones with all samples.
        samples: Pairs of mirrored draws at the end.

    Returns:
        Draws of the log rate, shape `(2 samples, side, side)`.
    """
    import logging

    import jax
    import jax.numpy as jnp
    import nifty.re as jft

    logging.getLogger("nifty.re.logger").setLevel(logging.ERROR)
    jax.config.update("jax_enable_x64", True)
    side = len(counts)
    torus = side + side // 2
    maker = jft.CorrelatedFieldMaker("log_rate")
    maker.set_amplitude_total_offset(offset_mean=math.log(float(counts.mean())), offset_std=(1.0, 0.01))
    maker.add_fluctuations(
        (torus, torus),
        distances=1.0 / (side - 1),
        fluctuations=(1.0, 0.5),
        loglogavgslope=(-4.0, 1.0),
        flexibility=(1.0, 0.5),
        asperity=None,
        prefix="space",
        non_parametric_kind="power",
    )
    field = maker.finalize()

    class Rate(jft.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(init=field.init)

        def __call__(self, x: Any) -> Any:
            return jnp.exp(field(x)[:side, :side])

    likelihood = jft.Poissonian(jnp.asarray(counts.numpy().astype("int64"))).amend(Rate())
    key, first = jax.random.split(jax.random.PRNGKey(seed))
    found, _ = jft.optimize_kl(
        likelihood,
        jft.Vector(likelihood.init(first)) * 0.1,
        key=key,
        n_total_iterations=iterations,
        n_samples=lambda i: 4 if i < iterations - 2 else samples,
        sample_mode="linear_resample",
        draw_linear_kwargs={"cg_name": None, "cg_kwargs": {"absdelta": 0.05, "maxiter": 100}},
        kl_kwargs={
            "minimize_kwargs": {"name": None, "xtol": 1e-3, "cg_kwargs": {"name": None}, "maxiter": 25},
        },
        odir=None,
    )
    fields = [torch.from_numpy(jax.device_get(field(x)[:side, :side]).copy()) for x in found]
    return torch.stack(fields)
