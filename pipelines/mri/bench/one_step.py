"""Posteriors in one step: where the posterior is known in closed form, and of fields (`one_step_fields`).

The toy of the SNaP paper.

Four Gaussians in a plane, means (+-2.5, +-2.5), deviation 0.35; the first coordinate is observed with noise of
deviation 0.3, the second is not observed at all, so that its posterior has two modes far from each other. A perceptron
learns the average velocity through `priors.training.common.mean_flow`, as users train it; then draws from one
evaluation per sample are compared with those of samplers with the exact velocity.

Calibration ratio (SNaP, equation 17): mean variance of the draws over the mean square error of their mean, less what
the number of draws adds to that; 1 where the posterior is right, below 1 where it is too sure, 0 where all draws are
one. Row '(untrained)' is the same network before training, '(half the noise)' the trained one that is given half the
noise of the data.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, TensorDataset

from infield.core._lightning import LightningDataModule, ModelCheckpoint, Trainer, seed_everything
from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.fingerprint import operator_fingerprint
from infield.physics.operators.sensors import Mask
from infield.pipelines.bench.beside_exact import METRICS as BESIDE_EXACT
from infield.pipelines.bench.beside_exact import add_beside_exact
from infield.pipelines.bench.records import Bench
from infield.pipelines.mri.bench.one_step_fields import METRICS as FIELDS
from infield.pipelines.mri.bench.one_step_fields import add_fields
from infield.pipelines.run.console import progress
from infield.posterior.diagnostics.calibration import coverage, ranks, uniformity, variance_and_error
from infield.posterior.samplers.base import Sampler
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.snap import SNaP
from infield.posterior.samplers.twisted_smc import TwistedSMC
from infield.priors.amortised.average_velocity import AverageVelocity, load_average_velocity
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Pixels
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import GaussianPrior
from infield.priors.networks.mlp import Perceptron
from infield.priors.training.flow_matching import AveragedWeights
from infield.priors.training.mean_flow import MeanFlow

GRID = Grid.regular((2,), 1.0)
MODE, WIDTH, NOISE = 2.5, 0.35, 0.3
EXAMPLES, BATCH_SIZE, STEPS = 65536, 1024, 8000
TAU = 1.0

METRICS = FIELDS
FIRST_METRICS = (
    {"calibration_ratio": ".3f", "sbc_p_value": ".2f", "coverage_of_truths": ".3f", "training": ".0f"},
    {**BESIDE_EXACT, "c2st": ".3f"},
)
METHOD_NOTE = (
    "Toy: medians over cases of 512 draws beside exact ones; calibration ratio, p-value of ranks and 90 % coverage "
    "over 2000 truths with 32 draws each; faps: 40 levels, smc: 50 steps, exact velocity. Fields: 16 draws of 24 "
    "truths, 4 of 360 more for the calibration; PSNR in dB of the mean of 16 and of one; of the first truth, the only "
    "one of dps (1000 steps), also of the mean of four; misfit: largest |A x - y| over largest |y|. One thread."
)


class Points(LightningDataModule):
    """Draws of the law, `(batch, 1, 2)`.

    Arguments:
        count: How many.
        batch: Examples a batch.
        seed: Of the draws and their order.
    """

    grid, units, channels = GRID, "1", ("field",)

    def __init__(self, count: int, batch: int, seed: int) -> None:
        super().__init__()
        self.fields, self.batch, self.seed = draw(count, Generator().manual_seed(seed)), batch, seed
        self.grid_description = GRID.to_json()

    def examples(self) -> Tensor:
        return self.fields

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        order = Generator().manual_seed(self.seed)
        points = TensorDataset(self.fields.float())
        return DataLoader(points, self.batch, shuffle=True, generator=order, drop_last=True, collate_fn=_stack)


def _stack(batch: list[tuple[Tensor, ...]]) -> Tensor:
    return torch.stack([x for (x,) in batch])


class FirstCoordinate:
    """The one operator of this bench."""

    def draw(self, grid: Grid, channels: int, generator: Generator) -> Mask:
        return Mask(grid, channels, torch.tensor([True, False]))

    def numbers(self, operator: Mask) -> tuple[str, dict[str, float]]:
        return operator_fingerprint(operator)


def run(*, quick: bool = False, seed: int = 0) -> Bench:
    """Train, then 8 cases of 512 draws; hardly any training and 2 cases of 64 when quick."""
    torch.set_num_threads(1)
    bench = Bench("one-step", seed)
    cases, n, truths = (2, 64, 100) if quick else (8, 512, 2000)
    prior = mixture()
    start = time.perf_counter()
    model = train(30 if quick else STEPS, seed)
    bench.add("0", "snap", "training", time.perf_counter() - start, "s")
    fresh = replace(model, network=Perceptron(**model.network.arguments).eval())  # type: ignore[arg-type]
    methods: dict[str, tuple[Sampler, MixturePrior | AverageVelocity]] = {
        "exact": (Exact(), prior),
        "snap": (SNaP(), model),
        "smc": (TwistedSMC(), prior),
        "faps-flow": (FAPS(levels=40), prior),
        "(untrained)": (SNaP(), fresh),
    }
    with progress() as bar:
        for case in bar.track(range(cases), description="one-step"):
            generator = Generator().manual_seed(1000 * seed + case)
            truth = draw(1, generator)[0]
            measured = measure(truth, generator)
            add_beside_exact(bench, f"{case}", prior, measured, truth, methods, n, generator, classifier=True)
    for name, (sampler, its_prior) in methods.items():
        if name in ("exact", "snap", "(untrained)"):
            _add_calibration(bench, name, sampler, its_prior, truths, NOISE, seed)
    widened = replace(model, noise=(0.0, model.noise[1]))
    _add_calibration(bench, "(half the noise)", SNaP(), widened, truths, NOISE / 2, seed)
    add_fields(
        bench,
        truths=2 if quick else 384,
        drawn=1 if quick else 24,
        draws=5 if quick else 16,
        dps_steps=2 if quick else 1000,
        seed=seed,
    )
    return bench


def draw(n: int, generator: Generator) -> Tensor:
    """Points of the law, shape `(n, 1, 2)`, float64."""
    modes = MODE * (2 * torch.randint(2, (n, 1, 2), generator=generator) - 1)
    return modes + WIDTH * torch.randn((n, 1, 2), generator=generator, dtype=torch.float64)


def mixture() -> MixturePrior:
    """The law in closed form."""
    white = Covariance.diagonal_in(Pixels(), torch.ones(1, 2, dtype=torch.float64))
    units = Standardisation(torch.zeros(1, 1).double(), torch.full((1, 1), scale()).double())
    narrow = Covariance.diagonal_in(Pixels(), torch.full((1, 2), (WIDTH / scale()) ** 2, dtype=torch.float64))
    components = tuple(
        GaussianPrior(
            name=f"({a:+d}, {b:+d})",
            source=white,
            covariance=narrow,
            mean=torch.tensor([[a, b]], dtype=torch.float64) * MODE / scale(),
            standardisation=units,
            provenance={"kind": "gaussian"},
        )
        for a in (-1, 1)
        for b in (-1, 1)
    )
    return MixturePrior(components, torch.full((4,), 0.25))


def scale() -> float:
    """Standard deviation of a coordinate."""
    return float((MODE**2 + WIDTH**2) ** 0.5)


def measure(truth: Tensor, generator: Generator, *, stated: float = NOISE) -> Measurement:
    """The first coordinate of a point `(1, 2)` with noise; `stated` is its value in the measurement."""
    y = torch.zeros(1, 1, 2, dtype=torch.float64)
    y[0, 0, 0] = truth[0, 0] + NOISE * torch.randn((), generator=generator, dtype=torch.float64)
    operator = Mask(GRID, 1, torch.tensor([True, False]))
    return Measurement(y=y, operator=operator, noise=GaussianNoise(torch.tensor(stated**2)), grid=GRID)


def train(steps: int, seed: int) -> AverageVelocity:
    """What a user's training gives, with averaged weights."""
    seed_everything(seed, verbose=False)
    noise = NOISE / scale()
    module = MeanFlow(
        Perceptron(1, (2,), width=256, depth=4, inputs=3, times=3),
        FirstCoordinate(),
        noise=(noise, noise),
        tau=TAU,
        operators=1,
        learning_rate=1e-3,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_steps=steps,
            accelerator="cpu",
            logger=False,
            enable_model_summary=False,
            gradient_clip_val=1.0,
            default_root_dir=folder,
            callbacks=[
                ModelCheckpoint(folder, filename="last", every_n_epochs=1, save_top_k=1),
                AveragedWeights(0.999),
            ],
        )
        trainer.fit(module, datamodule=Points(min(EXAMPLES, BATCH_SIZE * steps), BATCH_SIZE, seed))
        return load_average_velocity(next(Path(folder).glob("last*.ckpt")))


def _add_calibration(
    bench: Bench,
    name: str,
    sampler: Sampler,
    prior: MixturePrior | AverageVelocity,
    truths: int,
    stated: float,
    seed: int,
    draws: int = 32,
) -> None:
    """Ratio, ranks and coverage over many truths."""
    generator = Generator().manual_seed(1000 * seed + 999)
    variance, error, every = 0.0, 0.0, []
    for _ in range(truths):
        truth = draw(1, generator)[0]
        x = sampler(prior, measure(truth, generator, stated=stated), draws, generator).samples
        sums = variance_and_error(x, truth)
        variance, error = variance + sums[0], error + sums[1]
        every.append(ranks(x, truth))
    rank = torch.stack(every)
    bench.add("0", name, "calibration_ratio", variance / error)
    bench.add("0", name, "sbc_p_value", uniformity(rank[:, 0, 0], draws, generator))
    bench.add("0", name, "coverage_of_truths", coverage(rank, draws, 0.9, generator))
