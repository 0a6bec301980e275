"""Volumes from a prior of slices: how far off, and how much more slice-to-slice flicker than the truth has.

Complex phantoms of 16 slices of 32 x 32, each slice a draw of the prior and each but little different from the one
below (correlation 0.98), seen by an eighth of their k-space with noise: the same lines in every slice, or places in
three dimensions. Methods: ours; theirs without total variation; and the exact posterior under independent slices.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.bench.records import Bench
from infield.pipelines.run.console import progress
from infield.posterior.diagnostics.calibration import relative_l2, spread_skill
from infield.posterior.inference.total_variation import difference
from infield.posterior.samplers.base import Sampler
from infield.posterior.samplers.dds import DDS
from infield.posterior.samplers.diffusion_mbir import DiffusionMBIR
from infield.posterior.samplers.exact import Exact
from infield.priors.flows.slices import SlicePrior
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

METRICS = {
    "error_of_a_draw": ".3f",
    "error_of_the_mean": ".3f",
    "flicker_over_truth": ".2f",
    "spread_skill": ".2f",
    "velocity_calls": ".0f",
    "seconds": ".1f",
}
METHOD_NOTE = (
    "errors relative; flicker: mean jump from slice to slice of a draw over the truth's; spread skill of a right "
    "posterior is 1; velocity calls of each slice; diffusion-mbir with 500 levels of its 2000; one thread."
)
CORRELATION, STD, SHARE = 0.98, 0.05, 1 / 8


def run(*, quick: bool = False, seed: int = 0) -> Bench:
    """One phantom of each kind, smaller, when quick; three otherwise; 4 draws each."""
    torch.set_num_threads(1)
    bench = Bench("volumes", seed)
    depth, side = (6, 16) if quick else (16, 32)
    cases = [(kind, number) for kind in ("lines", "places") for number in range(1 if quick else 3)]
    methods: dict[str, Sampler] = {
        "dds": DDS(),
        "diffusion-mbir": DiffusionMBIR(levels=100 if quick else 500),
        "dds, tv=0": DDS(tv=0.0),
        "exact, slice by slice": Exact(),
    }
    with progress() as bar:
        for kind, number in bar.track(cases, description="volumes"):
            prior, measurement = phantom(kind, depth, side, 1000 * seed + number)
            assert measurement.truth is not None
            truth = measurement.truth
            for method, sampler in methods.items():
                posterior = sampler(prior, measurement, 4, SampleStreams(seed, range(4)))
                x = posterior.samples
                for metric, value in (
                    ("error_of_a_draw", relative_l2(x, truth.expand_as(x))),
                    ("error_of_the_mean", relative_l2(x.mean(0), truth[0])),
                    ("flicker_over_truth", flicker(x) / flicker(truth)),
                    ("spread_skill", spread_skill(x, truth[0])),
                    ("velocity_calls", posterior.cost["velocity_calls"]),
                ):
                    bench.add(f"{kind} {number}", method, metric, value)
                bench.add(f"{kind} {number}", method, "seconds", posterior.cost["seconds"], "s")
    return bench


def flicker(x: Tensor) -> float:
    """Mean jump from slice to slice."""
    return float(difference(x).abs().mean())


def phantom(kind: str, depth: int, side: int, seed: int) -> tuple[SlicePrior, Measurement]:
    """A prior of slices, and a volume of such slices, seen by an eighth of its k-space.

    Arguments:
        kind: `lines`, the same in every slice, or `places`, random in three dimensions; always with the centre.
        depth: Number of slices.
        side: Points of a slice along each axis.
        seed: Of everything.
    """
    generator = Generator().manual_seed(seed)
    plane = Grid.regular((side, side), 1.0, periodic=True)
    grid = Grid((Grid.regular((depth,), 1.0, names=("z",)).axes[0], *plane.axes))
    prior = SlicePrior(slices=gaussian_prior(Matern(1.5, 0.3), plane, channels=2), depth=depth)
    fresh = prior.slices.covariance.sample(depth, generator)
    slices = [fresh[0]]
    for z in range(1, depth):
        slices.append(CORRELATION * slices[-1] + (1 - CORRELATION**2) ** 0.5 * fresh[z])
    truth = torch.stack(slices, dim=1)[None]
    middle = slice(side // 2 - side // 16, side // 2 + side // 16)  # an eighth of the lines
    if kind == "lines":
        inner = slice(side // 2 - side // 32, side // 2 + (side + 31) // 32)
        lines = torch.zeros(side, dtype=torch.bool)
        lines[inner] = True
        others = torch.randperm(side, generator=generator)
        lines[others[~lines[others]][: round(SHARE * side) - int(lines.sum())]] = True
        mask = lines.expand(grid.shape).clone()
    else:
        mask = torch.zeros(grid.shape, dtype=torch.bool)
        mask[depth // 2 - 1 : depth // 2 + 1, middle, middle] = True
        left = (SHARE * grid.size - int(mask.sum())) / (grid.size - int(mask.sum()))
        mask |= torch.rand(grid.shape, generator=generator) < left
    operator = build_operator({"name": "fourier", "arrays": {"mask": "mask"}}, {"mask": mask.numpy()}, grid, 2)
    noise = GaussianNoise(torch.tensor(STD**2, dtype=torch.float64))
    y = torch.where(operator.observed, noise.sample(operator.A(truth), generator), 0.0)
    channels = ("real", "imag")
    return prior, Measurement(y=y, operator=operator, noise=noise, grid=grid, channels=channels, truth=truth)
