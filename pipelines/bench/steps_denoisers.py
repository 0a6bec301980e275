"""Part `denoisers` of `infield bench steps`: shipped priors are denoisers, and those with a circulation are not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from infield.pipelines.bench.mixture import mixture_prior
from infield.pipelines.bench.targets import TargetBench
from infield.pipelines.package_data import CHECKPOINTS
from infield.priors.base import FlowPrior, Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.denoiser_check import MAX_ASYMMETRY, check_denoiser
from infield.priors.storage.checkpoint import load_flow_prior

SHIPPED = (
    *("gp_mixture", "gp_matern", "gp_gibbs", "pde_darcy", "pde_dirichlet", "pde_vorticity", "brain_64", "brain_2d"),
    *("wall_pressure_180", "wall_pressure_500", "wall_pressure_500_outer"),
)
QUICK = SHIPPED[:2]
PLANTED, STRENGTH = 20, 1.5


@dataclass(frozen=True)
class Circulating:
    """A prior whose velocity has a part k B P_t^-1 (x - t m), B antisymmetric: exact draws of a Gaussian prior, wrong
    posteriors. B pairs modes at random and turns each pair, scaled by its spread, at a rate of k.

    Arguments:
        prior: The prior.
        strength: k.
        seed: Of the pairs.
    """

    prior: FlowPrior
    strength: float = STRENGTH
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.prior.name}, circulating"

    @property
    def units(self) -> str | None:
        return self.prior.units

    @property
    def standardisation(self) -> Standardisation:
        return self.prior.standardisation

    @property
    def source(self) -> Covariance:
        return self.prior.source

    @property
    def covariance(self) -> Covariance:
        return self.prior.covariance

    @property
    def mean(self) -> Tensor:
        return self.prior.mean

    @property
    def gaussian(self) -> bool:
        return False

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Flat numbers of the first and of the second mode of each pair."""
        order = torch.randperm(self.mean.numel(), generator=Generator().manual_seed(self.seed))
        half = len(order) // 2
        return order[:half], order[half : 2 * half]

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """As of a `FlowPrior`."""
        modes, d = self.source.modes, self.covariance.truncated(0).diagonal
        root = (t**2 * d + (1 - t) ** 2 * self.source.diagonal).sqrt().flatten()
        z = modes.analyse(x - t * self.mean).flatten(1) / root
        (i, j), turned = self.pairs, torch.zeros_like(z)
        turned = turned.index_copy(1, i, z[:, j]).index_copy(1, j, -z[:, i])
        return self.prior.velocity(x, t) + self.strength * modes.synthesise((root * turned).reshape(x.shape))


def run(bench: TargetBench, quick: bool, seed: int) -> None:
    """Shipped priors: none fails. A circulation planted in them: found in all of `PLANTED` cases."""
    names = QUICK if quick else SHIPPED
    priors = {"mixture in closed form": mixture_prior()} | {
        name: load_flow_prior(CHECKPOINTS / f"{name}.ckpt")
        for name in names
        if (CHECKPOINTS / f"{name}.ckpt").is_file()
    }
    alarms, found = 0, 0
    for name, prior in priors.items():
        check = check_denoiser(prior, seed=seed)
        alarms += not check.passed
        bench.judge("shipped priors", name, "asymmetry", check.asymmetry, high=MAX_ASYMMETRY)
        bench.judge("shipped priors", name, "asymmetry_of_fields", check.field_asymmetry)
        bench.judge("shipped priors", name, "negative", check.negative)
    bench.judge("shipped priors", "all", "false_alarms", alarms, high=0)
    small = [prior for prior in priors.values() if prior.mean.numel() <= 4096]
    least = 2.0
    for case in range(PLANTED):
        check = check_denoiser(Circulating(small[case % len(small)], seed=case), seed=seed + case)
        found += not check.passed
        least = min(least, check.asymmetry)
    bench.judge("planted circulation", "all", "found", found, low=PLANTED)
    bench.judge("planted circulation", "all", "least_asymmetry", least)
