"""Part `integrator` of `infield bench steps`: draws of priors from 8, 16 and 32 velocity calls."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from infield.core.grid import Grid
from infield.core.spectra import wavenumbers
from infield.pipelines.bench.integrators import close_at_ends, dpm_solver, heun, midpoint, uniform
from infield.pipelines.bench.mixture import mixture_prior
from infield.pipelines.bench.targets import TargetBench
from infield.pipelines.package_data import CHECKPOINTS
from infield.posterior.samplers.elliptical_slice import EllipticalSlice
from infield.priors.base import FlowPrior, flow
from infield.priors.covariance.modes import Eigenbasis, Hartley
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import gaussian_prior
from infield.priors.storage.checkpoint import load_flow_prior

CALLS = (8, 16, 32)
LEARNED = ("gp_mixture", "pde_darcy", "gp_matern", "gp_gibbs", "pde_dirichlet", "pde_vorticity", "brain_64")
FINE_STEPS = {"closed": 400, "learned": 96}

Method = Callable[[FlowPrior, Tensor, int], Tensor]
METHODS: dict[str, Method] = {
    "Infield": flow,
    "Heun": lambda prior, x, calls: heun(prior, x, uniform(calls // 2)),
    "Heun, times of sin^2": lambda prior, x, calls: heun(prior, x, close_at_ends(calls // 2)),
    "midpoint": lambda prior, x, calls: midpoint(prior, x, uniform(calls // 2)),
    "DPM-Solver++(2M)": lambda prior, x, calls: dpm_solver(prior, x, close_at_ends(calls)),
}
"""Fields from fields of the source in so many calls; Heun's method in one fewer."""


def run(bench: TargetBench, quick: bool, seed: int) -> None:
    """Path error and power in octaves, of each prior and method."""
    for name, prior in priors_of(quick).items():
        of_prior(bench, name, prior, quick, seed)


def run_slice(bench: TargetBench, quick: bool, seed: int) -> None:
    """The error of `source-slice`'s velocity calls a step beside that of Heun's method with times of sin^2, which took
    39."""
    calls = EllipticalSlice().flow_steps
    bench.judge("source-slice", "Infield", "velocity_calls_a_step", calls, high=20)
    for name, prior in priors_of(quick).items():
        n = 8 if prior.mean.numel() > 1000 else 64
        x_0 = prior.source.sample(n, Generator().manual_seed(seed))
        fine = flow(prior, x_0, FINE_STEPS["learned" if name in LEARNED else "closed"])
        paths = flow(prior, x_0, calls), heun(prior, x_0, close_at_ends(20))
        ours, before = (float((x - fine).square().mean().sqrt() / fine.std()) for x in paths)
        bench.judge(name, f"Infield, {calls} calls", "path_error_over_sd", ours)
        bench.judge(name, "Heun, times of sin^2, 39 calls", "path_error_over_sd", before)
        bench.judge(name, "Infield", "error_over_that_of_Heun", ours / before, high=1.0)


def priors_of(quick: bool) -> dict[str, FlowPrior]:
    """The priors by name; learned ones unless the run is quick."""
    ring = Grid.regular((64,), 1.0, units="m", periodic=True)
    parts = tuple(
        gaussian_prior(Matern(nu=2.5, length=length), ring, source=Matern(nu=0.5, length=0.05))
        for length in (0.05, 0.15, 0.5)
    )
    priors: dict[str, FlowPrior] = {
        "mixture on a line": mixture_prior(),
        "mixture on a ring": MixturePrior(parts, torch.full((3,), 1 / 3, dtype=torch.float64)),
    }
    for name in () if quick else LEARNED:
        priors[name] = load_flow_prior(CHECKPOINTS / f"{name}.ckpt")
    return priors


def of_prior(bench: TargetBench, name: str, prior: FlowPrior, quick: bool, seed: int) -> None:
    """The records of one prior."""
    n = 8 if prior.mean.numel() > 1000 else 16 if quick else 64
    x_0 = prior.source.sample(n, Generator().manual_seed(seed))
    fine = flow(prior, x_0, FINE_STEPS["learned" if name in LEARNED else "closed"])
    errors = {}
    for calls in CALLS[: 2 if quick else 3]:
        for method, integrate in METHODS.items():
            x = integrate(prior, x_0, calls)
            errors[method, calls] = float((x - fine).square().mean().sqrt() / fine.std())
            worst = float((octaves(prior, x) / octaves(prior, fine) - 1).abs().max())
            ours = method == "Infield"
            bench.judge(f"{name}, {calls} calls", method, "path_error_over_sd", errors[method, calls])
            high = {8: 0.1, 16: 0.05}.get(calls) if ours else None
            bench.judge(f"{name}, {calls} calls", method, "power_of_an_octave_off_at_most", worst, high=high)
        ratio = errors["Infield", calls] / errors["Heun", calls]
        bench.judge(f"{name}, {calls} calls", "Infield", "path_error_over_that_of_Heun", ratio, high=0.5)
    at_half = errors["Infield", 16] / float((heun(prior, x_0, uniform(16)) - fine).square().mean().sqrt() / fine.std())
    bench.judge(name, "Infield", "path_error_of_16_calls_over_that_of_Heun_of_31", at_half, high=1.0)


def octaves(prior: FlowPrior, x: Tensor) -> Tensor:
    """Mean power of fields `(n, channel, *space)` in octaves of wavenumber, or of the number of a mode."""
    modes = prior.source.modes
    c = modes.analyse(x - x.mean(0)) if isinstance(modes, Hartley | Eigenbasis) else Hartley(x.ndim - 2).analyse(x)
    power = c.square().mean((0, 1))
    if isinstance(modes, Eigenbasis):
        number = torch.empty(power.numel(), dtype=torch.long)
        number[prior.source.diagonal[0].flatten().argsort(descending=True, stable=True)] = torch.arange(power.numel())
        k = (number + 1).double().reshape(power.shape)
    else:
        k = torch.as_tensor(wavenumbers(tuple(power.shape), [1 / n for n in power.shape])).double()
    bins = k.clamp_min(1e-9).log2().floor().clamp_min(-1).long().flatten() + 1  # the mean has a bin of its own
    count = torch.bincount(bins)
    total = torch.zeros(len(count), dtype=torch.float64).index_add(0, bins, power.flatten().double())
    filled = count > 1
    return total[filled] / count[filled]
