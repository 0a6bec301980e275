r"""Parameters behind simulated data, by simulation-based inference: neural posterior estimation with the package sbi.

From simulations (theta_i, s_i), theta_i uniform in a box and s_i summaries of the data, conditional densities q are
fitted by

    max_q  sum_i log q(theta_i | s_i),

whose maximum over all densities is the posterior p(theta | s) under the uniform prior (Papamakarios & Murray 2016,
arXiv 1605.06376; Greenberg et al. 2019, arXiv 1905.07488; Tejero-Cantero et al. 2020 for sbi). q is a mixture of
Gaussians of logit(theta), so that no mass leaves the box; a network makes it of s. The posterior is the mean of several
such densities, fitted from other starts with other simulations set apart for stopping: of few simulations one alone is
too sure. (Masked autoregressive flows took 1.5 to 2.5 times as long and came no nearer to a posterior that is known.)

Held-out simulations test it (`ParameterCalibration`): simulation-based calibration (Talts et al. 2018,
arXiv 1804.06788). It tests the average over the box, and only for data that the simulator could have made.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.extras import missing_extra
from infield.posterior.diagnostics.calibration import coverage, ranks, tarp_ranks, uniformity

NETWORKS = 5
EDGE = 1e-5
"""Of the unit box, which parameters keep from its faces: the logit is infinite there."""

DATA_PER_BATCH = 64
"""Data whose posteriors are drawn together."""

STEPS_PER_EPOCH = 12
"""Of an epoch, about: batches of 16 to 200 simulations."""

TRAINING = {"learning_rate": 3e-3, "validation_fraction": 0.15, "stop_after_epochs": 30}


@dataclass(frozen=True)
class ParameterBox:
    """A uniform prior.

    Arguments:
        names: Of the parameters.
        low, high: Its edges, `(parameters,)`.
    """

    names: tuple[str, ...]
    low: Tensor
    high: Tensor

    def unit(self, parameters: Tensor) -> Tensor:
        """From the box to the unit box."""
        return (parameters - self.low) / (self.high - self.low)

    def of_unit(self, unit: Tensor) -> Tensor:
        """From the unit box to the box."""
        return self.low + (self.high - self.low) * unit


@dataclass(frozen=True)
class ParameterPosterior:
    """A posterior for any data; `fit_posterior` makes it.

    Arguments:
        box: The prior.
        densities: sbi's posteriors in the unit box, which share the draws alike.
        epochs: For which each was trained.
    """

    box: ParameterBox
    densities: Sequence[Any]
    epochs: Sequence[int]

    def draw(self, summaries: Tensor, n: int, seed: int) -> Tensor:
        """Draws of the parameters.

        Arguments:
            summaries: Of several data, `(data, numbers)`.
            n: Draws of each.
            seed: Of the draws.

        Returns:
            Shape `(data, n, parameters)`, float64, in the box; their order is random.

        Raises:
            InfieldError: A density gives NaN.
        """
        found = []
        with _sbi(seed, 1), torch.no_grad():
            for part in summaries.float().split(DATA_PER_BATCH):
                drawn = [
                    density.sample_batched(
                        (len(range(i, n, len(self.densities))),), part, 1000, show_progress_bars=False,
                        reject_outside_prior=False,
                    )
                    for i, density in enumerate(self.densities) if i < n
                ]  # fmt: skip
                found.append(torch.cat(drawn)[torch.randperm(n)].movedim(0, 1))
        unit = torch.cat(found).to(torch.float64)
        if not torch.isfinite(unit).all():
            raise InfieldError(
                where="posterior of parameters",
                found="NaN among its draws",
                expected="numbers",
                remedy="more simulations",
            )
        return self.box.of_unit(unit.clamp(0, 1))


def fit_posterior(
    parameters: Tensor, summaries: Tensor, box: ParameterBox, seed: int, *, networks: int = NETWORKS
) -> ParameterPosterior:
    """Fit the densities.

    Arguments:
        parameters: Of the simulations, `(simulations, parameters)`, uniform in the box.
        summaries: `(simulations, numbers)`, of mean about 0 and variance about 1.
        box: The prior.
        seed: Of everything random. The global generator of torch stays as it is.
        networks: Number of densities.

    Raises:
        InfieldError: The extra is not installed.
    """
    unit = box.unit(parameters).clamp(EDGE, 1 - EDGE).float()
    batch = min(max(len(unit) // STEPS_PER_EPOCH, 16), 200)
    densities, epochs = [], []
    for i in range(networks):
        with _sbi(seed, 0, i) as sbi:
            prior = sbi.BoxUniform(torch.zeros(unit.shape[1]), torch.ones(unit.shape[1]))
            density = sbi.posterior_nn(
                "mdn", num_components=4, z_score_theta="transform_to_unconstrained", x_dist=prior
            )
            trainer = sbi.NPE(prior, density, show_progress_bars=False, tracker=_NoTracker())
            trainer.append_simulations(unit, summaries.float())
            network = trainer.train(training_batch_size=batch, **TRAINING)
            densities.append(trainer.build_posterior(network))
            epochs.append(int(trainer.summary["epochs_trained"][-1]))
    return ParameterPosterior(box, densities, epochs)


@dataclass(frozen=True)
class ParameterCalibration:
    """Calibration of a posterior on held-out simulations.

    Arguments:
        n: Draws behind each rank.
        ranks: Of the true parameters among the draws, `(cases, parameters)`.
        p_values: Of the test that ranks are uniform (Kolmogorov-Smirnov), `(parameters,)`.
        joint_p_value: The same of all parameters together, by distances to random points of the box (TARP).
        coverage_90: Share of the truths in central 90 % intervals, `(parameters,)`.
        contraction: 1 - mean posterior variance / prior variance, `(parameters,)`: 0 where nothing was learned.
        rms_z: Root mean square of (truth - mean) / standard deviation, `(parameters,)`; about 1 is right.
    """

    n: int
    ranks: Tensor
    p_values: Tensor
    joint_p_value: float
    coverage_90: Tensor
    contraction: Tensor
    rms_z: Tensor

    @classmethod
    def of(cls, draws: Tensor, truth: Tensor, box: ParameterBox, generator: Generator) -> ParameterCalibration:
        """From draws `(cases, n, parameters)` and truths `(cases, parameters)`.

        Arguments:
            draws, truth: Of held-out simulations.
            box: The prior.
            generator: Places truths within their ranks, and the points of the joint test.
        """
        cases, n, count = draws.shape
        rank = torch.stack([ranks(draws[i], truth[i]) for i in range(cases)])
        points = torch.rand((cases, count), generator=generator, dtype=torch.float64)
        nearer = tarp_ranks(box.unit(draws), box.unit(truth), points)
        columns = rank.unbind(1)
        return cls(
            n=n,
            ranks=rank,
            p_values=torch.tensor([uniformity(column, n, generator) for column in columns]),
            joint_p_value=uniformity(nearer, n, generator),
            coverage_90=torch.tensor([coverage(column, n, 0.9, generator) for column in columns]),
            contraction=1 - 12 * box.unit(draws).var(1).mean(0),
            rms_z=((truth - draws.mean(1)) / draws.std(1)).square().mean(0).sqrt(),
        )

    @property
    def is_miscalibrated(self) -> bool:
        """Whether ranks are uniform with less than 1 % probability, all tests together (Bonferroni)."""
        least = min(self.joint_p_value, float(self.p_values.min()))
        return least < 0.01 / (len(self.p_values) + 1)


def check_installed() -> None:
    """MissingExtra if sbi is not installed."""
    if importlib.util.find_spec("sbi") is None:
        raise missing_extra("sbi", "sbi", where="inference of parameters")


class _NoTracker:
    """sbi writes TensorBoard files into the working folder, unless it is given another logger."""

    log_dir = None

    def log_metric(self, *_: object, **__: object) -> None:
        pass

    log_metrics = log_params = add_figure = flush = log_metric


@contextlib.contextmanager
def _sbi(seed: int, *key: int) -> Iterator[Any]:
    """The package, silent, with torch's global generator seeded inside and put back at the end."""
    check_installed()
    from sbi.inference import NPE
    from sbi.neural_nets import posterior_nn
    from sbi.utils import BoxUniform

    state = int(np.random.SeedSequence((seed, *key)).generate_state(1, np.uint64)[0]) >> 1
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of draws that were rounded onto the faces of the box
        torch.manual_seed(state)
        yield SimpleNamespace(NPE=NPE, posterior_nn=posterior_nn, BoxUniform=BoxUniform)
