"""Gaussian-process regression under a learned prior of functions, at 128, 512 and 1024 points: does the law move?

Two laws on [0, 1): Matern 3/2 of length 0.3, and Gibbs' squared exponential of length 0.05 + 0.25 x. A Fourier neural
operator learns each from draws on 128 points, without the closed-form skip: all of the law is learned. Then the same
weights on 128, 512 and 1024 points, x = i / n, draw posteriors of 7 observations, noise variance 0.01, by FAPS at 40
levels, beside draws of the exact posterior; FAPS as published under the same prior, at 128 points, one case; velocity
and covariance in closed form in the learned ones' place; and, on purpose, an untrained network with the trained prior's
covariance.

Prior draws on the 128 shared points are compared between the grids: two samples of independent draws, by the sliced
Wasserstein distance with a permutation test, and path by path from one source, under the exact velocity too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Generator, Tensor, nn

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.bench.beside_exact import METRICS as POSTERIOR_METRICS
from infield.pipelines.bench.records import Bench
from infield.pipelines.commands.fit import run as fit
from infield.pipelines.package_data import CHECKPOINTS, CONFIGS
from infield.pipelines.run.console import progress
from infield.posterior.diagnostics.calibration import coverage, mean_error, ranks, sliced_wasserstein
from infield.posterior.samplers.base import Sampler
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.faps_published import FAPSPublished, euler
from infield.priors.base import FlowPrior
from infield.priors.covariance.base import from_matrix
from infield.priors.flows.flow import LearnedFlow
from infield.priors.gaussian.gibbs import gibbs_matrix
from infield.priors.gaussian.matern import matern_matrix
from infield.priors.gaussian.prior import GaussianPrior
from infield.priors.storage.checkpoint import export_prior, load_flow_prior

POINTS, OTHER_POINTS, OBSERVATIONS, NOISE_VARIANCE, LEVELS = 128, (512, 1024), 7, 0.01, 40
KERNELS = ("matern", "gibbs")
EXAMPLES, STEPS, QUICK_STEPS = 65536, 4000, 40
CONFIG = CONFIGS / "fit_function_1d.yaml"

METRICS = {**POSTERIOR_METRICS, "path_shift": ".4f", "two_sample_p_value": ".2f"}

METHOD_NOTE = (
    f"faps-flow: {LEVELS} levels; path shift: of prior draws from one source, on the 128 shared points, root mean "
    "square in sd; p-value: of independent draws on them; one thread."
)


@dataclass(frozen=True)
class Case:
    """One truth on the finest grid, and what was observed of it at points that all grids share.

    Arguments:
        truth: Shape `(finest,)`.
        sensors: Places among the 128 points.
        y: Values observed there.
    """

    truth: Tensor
    sensors: Tensor
    y: Tensor


def run(
    *,
    quick: bool = False,
    seed: int = 0,
    kernels: Sequence[str] = KERNELS,
    checkpoint: Path | None = None,
    train: bool = False,
) -> Bench:
    """Run 4 cases of 256 draws on every grid; one of 64 on two grids, one law, when quick.

    Arguments:
        quick: Few cases.
        seed: Seed of all cases, and of training.
        kernels: Which laws.
        checkpoint: A prior trained on one of the laws, on 128 points; by default those that come with the package. With
            `train`, a new file for the prior.
        train: Train anew, for a few minutes each.

    Raises:
        InfieldError: One checkpoint was given for several laws, it is not one of 128 points, or it is to be written
            and exists.
    """
    torch.set_num_threads(1)
    if checkpoint is not None and len(kernels) != 1:
        raise InfieldError(where="--checkpoint", found="no --kernel", expected="the kernel that it is a prior of")
    if train and checkpoint is not None and (checkpoint.exists() or not checkpoint.parent.is_dir()):
        raise InfieldError(
            where=f"--checkpoint {checkpoint}", expected="a new file in a folder that exists, with --train"
        )
    bench = Bench("gp-regression", seed)
    kernels, sizes = (kernels[:1], (POINTS, OTHER_POINTS[0])) if quick else (kernels, (POINTS, *OTHER_POINTS))
    count, draws, steps = (1, 64, QUICK_STEPS) if quick else (4, 256, STEPS)
    with progress() as bar:
        for kernel in kernels:
            start = time.perf_counter()
            prior = _trained(kernel, seed, steps, checkpoint) if train else _stored(kernel, checkpoint)
            if train:
                seconds = time.perf_counter() - start
                bench.add("training", f"{kernel} {POINTS}: faps-flow", "training_seconds", seconds, "s")
            priors = {n: prior.on(line(n)) for n in sizes}
            cases = [_case(kernel, 1000 * seed + i) for i in range(count)]
            for n in bar.track(sizes, description=kernel):
                _compare_posteriors(bench, kernel, priors[n], cases, n, draws, seed)
            _compare_laws(bench, kernel, priors, draws, seed)
    return bench


def line(n: int) -> Grid:
    """The points i / n of [0, 1): every grid of more points by a whole factor has all of them."""
    return Grid.regular((n,), (n - 1) / n, names=("x",), units="1")


def kernel_matrix(kernel: str, points: Tensor) -> Tensor:
    """Covariance of the law at points `(n, 1)`, shape `(n, n)`."""
    if kernel == "gibbs":
        return gibbs_matrix(points, 0.05 + 0.25 * points[:, 0])
    return matern_matrix(points, nu=1.5, length=0.3, variance=1.0)


def closed_form(kernel: str, like: LearnedFlow, n: int) -> GaussianPrior:
    """The law itself, from the same source and in the same units as a learned prior."""
    shift, scale = (float(part.flatten()) for part in (like.standardisation.shift, like.standardisation.scale))
    matrix = kernel_matrix(kernel, line(n).points()) / scale**2
    return GaussianPrior(
        name=f"{kernel}, closed form",
        source=like.source,
        covariance=from_matrix(like.source.modes, matrix, (n,)),
        mean=torch.full_like(like.mean, -shift / scale),
        standardisation=like.standardisation,
        provenance={"kind": "gaussian", "law": kernel},
    )


class Untrained(nn.Module):
    """What a network of ours returns before training: zero."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(0), requires_grad=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x)


def _draw(kernel: str, n: int, count: int, generator: Generator) -> Tensor:
    matrix = kernel_matrix(kernel, line(n).points())
    root = torch.linalg.cholesky(matrix + 1e-9 * torch.eye(n, dtype=torch.float64))
    return torch.randn((count, n), generator=generator, dtype=torch.float64) @ root.mT


def _case(kernel: str, seed: int) -> Case:
    generator = Generator().manual_seed(seed)
    truth = _draw(kernel, OTHER_POINTS[-1], 1, generator)[0]
    sensors = torch.randperm(POINTS, generator=generator)[:OBSERVATIONS].sort().values
    noise = NOISE_VARIANCE**0.5 * torch.randn(OBSERVATIONS, generator=generator, dtype=torch.float64)
    return Case(truth, sensors, truth[sensors * (len(truth) // POINTS)] + noise)


def _compare_posteriors(
    bench: Bench, kernel: str, prior: LearnedFlow, cases: list[Case], n: int, draws: int, seed: int
) -> None:
    exact = closed_form(kernel, prior, n)
    methods: dict[str, tuple[Sampler, FlowPrior]] = {
        "exact": (Exact(), exact),
        "faps-flow": (FAPS(levels=LEVELS), prior),
        "faps-flow-closed-form": (FAPS(levels=LEVELS), exact),
        "(untrained)": (FAPS(levels=LEVELS), replace(prior, network=Untrained())),
    }
    if n == POINTS and len(cases) > 1:
        methods["faps-published"] = (FAPSPublished(), prior)  # 820 velocity calls a draw
    K, stride = kernel_matrix(kernel, line(n).points()), n // POINTS
    for i, case in enumerate(cases):
        truth, sensors = case.truth[:: len(case.truth) // n], case.sensors * stride
        measurement = point_measurement(case.y, sensors, n, prior.units)
        generator = Generator().manual_seed(1000 * seed + i)
        gain = torch.linalg.solve(
            K[sensors][:, sensors] + NOISE_VARIANCE * torch.eye(OBSERVATIONS, dtype=torch.float64), K[sensors]
        ).mT
        mean, variance = gain @ case.y, (K - gain @ K[sensors]).diagonal()
        reference, others = (Exact()(exact, measurement, draws, generator).samples[:, 0] for _ in range(2))
        floor = sliced_wasserstein(others, reference, Generator().manual_seed(7))
        for name, (sampler, its_prior) in methods.items():
            if name == "faps-published" and i > 0:
                continue
            posterior = sampler(its_prior, measurement, draws, generator)
            x = posterior.samples[:, 0]
            distance = sliced_wasserstein(x, reference, Generator().manual_seed(7)) / floor
            figures = {
                "sw2_ratio_to_exact": distance,
                "mean_error_in_posterior_sd": mean_error(x, mean, variance.clamp_min(0).sqrt()),
                "std_ratio": float((x.var(0).mean() / variance.mean()).sqrt()),
                "coverage_90": coverage(ranks(x, truth), draws, 0.9, generator),
                "velocity_calls": posterior.cost["velocity_calls"],
            }
            for metric, value in figures.items():
                bench.add(f"{i}", f"{kernel} {n}: {name}", metric, value)
            bench.add(f"{i}", f"{kernel} {n}: {name}", "seconds", posterior.cost["seconds"], "s")


def point_measurement(y: Tensor, index: Tensor, n: int, units: str) -> Measurement:
    """Values `(data,)` measured at some of the n points, noise variance 0.01."""
    description = {"name": "points", "arrays": {"indices": "sensor"}}
    arrays = {"sensor": index.numpy()}
    return Measurement(
        y=y.reshape(1, 1, -1),
        operator=build_operator(description, arrays, line(n), 1),
        noise=GaussianNoise(torch.tensor(NOISE_VARIANCE)),
        grid=line(n),
        units=units,
        description=description,
        arrays=arrays,
    )


def _compare_laws(bench: Bench, kernel: str, priors: dict[int, LearnedFlow], draws: int, seed: int) -> None:
    """Prior draws on the shared points, each finer grid beside the first.

    Paths from one source part a little also under the exact velocity, which is better determined where there are more
    points.
    """
    exact = {n: closed_form(kernel, prior, n) for n, prior in priors.items()}
    every: dict[str, Mapping[int, FlowPrior]] = {"faps-flow": priors, "faps-flow-closed-form": exact}
    for name, on in every.items():
        generator = Generator().manual_seed(seed)
        reference = _flow(on[POINTS], on[POINTS].source.sample(draws, generator))
        for n, prior in on.items():
            if n == POINTS:
                continue
            stride, method = n // POINTS, f"{kernel} {n}: {name}"
            x_0 = prior.source.sample(draws, generator)
            x_1, paths = _flow(prior, x_0)[..., ::stride], _flow(on[POINTS], x_0[..., ::stride])
            bench.add("0", method, "path_shift", float((x_1 - paths).square().mean().sqrt() / paths.std()))
            bench.add("0", method, "two_sample_p_value", two_sample_p_value(x_1, reference, generator))


def _flow(prior: FlowPrior, x: Tensor) -> Tensor:
    with torch.no_grad():
        return euler(prior, x, 0.0, LEVELS)


def two_sample_p_value(
    x: Tensor, y: Tensor, generator: Generator, *, permutations: int = 199, projections: int = 64
) -> float:
    """Permutation test that two sets of as many independent draws have one law, by their sliced 2-Wasserstein distance.

    Arguments:
        x, y: Draws, shape `(n, *event)`.
        generator: Of the directions and the permutations.
        permutations: Of the labels; the smallest p-value is 1 / (permutations + 1).
        projections: Directions.
    """
    both = torch.cat([x, y]).flatten(1)
    directions = torch.randn((both.shape[1], projections), generator=generator, dtype=both.dtype)
    line_values = both @ (directions / directions.norm(dim=0))

    def distance(order: Tensor) -> float:
        a, b = line_values[order].chunk(2)
        return float((a.sort(dim=0).values - b.sort(dim=0).values).square().mean())

    found = distance(torch.arange(len(both)))
    others = [distance(torch.randperm(len(both), generator=generator)) for _ in range(permutations)]
    return (1 + sum(other >= found for other in others)) / (permutations + 1)


def _stored(kernel: str, checkpoint: Path | None) -> LearnedFlow:
    path = checkpoint or CHECKPOINTS / f"gp_{kernel}.ckpt"
    prior = load_flow_prior(path)
    if prior.covariance.event_shape != (1, POINTS):
        raise InfieldError(
            where=path,
            found=f"a prior of fields of shape {prior.covariance.event_shape}",
            expected=f"one trained on {POINTS} points of [0, 1), shape (1, {POINTS})",
        )
    return prior


def _trained(kernel: str, seed: int, steps: int, keep: Path | None) -> LearnedFlow:
    with tempfile.TemporaryDirectory() as folder:
        path = train(kernel, Path(folder), seed=seed, steps=steps)
        return load_flow_prior(path if keep is None else export_prior(path, keep))


def train(kernel: str, folder: Path, *, seed: int = 0, steps: int = STEPS) -> Path:
    """What a user does: write example functions, `infield fit`. Returns the prior's file.

    Arguments:
        kernel: Which law.
        folder: Gets the examples and the run.
        seed: Of examples and training.
        steps: Of training.
    """
    grid = line(POINTS)
    fields = _draw(kernel, POINTS, min(EXAMPLES, 256 * steps), Generator().manual_seed(1_000_000 + seed))
    xr.Dataset(
        {"field": (("sample", "x"), fields.numpy().astype("f4"), {"units": "1"})},
        {"x": ("x", np.array(grid.axes[0].coordinates), {"units": "1"})},
    ).to_netcdf(folder / "functions.nc")
    settings = {
        "seed_everything": seed,
        "data.init_args.path": folder / "functions.nc",
        "trainer.default_root_dir": folder / "run",
        "trainer.max_steps": steps,
        "trainer.accelerator": "cpu",
        "trainer.logger": "false",
    }
    fit(["--config", str(CONFIG), *(word for key, value in settings.items() for word in (f"--{key}", str(value)))])
    return folder / "run" / "prior.ckpt"
