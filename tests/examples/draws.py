"""One draw of every source, prior, noise model and sampler, for comparisons between processors.

`python draws.py FILE.npz` stores them, and also what goes through raw eigenvectors, which is another field where the
library or the processor is another one: the negative control.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core.grid import Axis, Grid, PointSet
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, LowRankGaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.run.digests import former_prior_digest, prior_digest
from infield.posterior.inference.denoiser_errors import fit_denoiser_errors
from infield.posterior.inference.empirical_bayes import fit_prior
from infield.posterior.interop.deepinv import UnitRange, WhitenedProblem, to_decomposable_physics
from infield.posterior.samplers.dds import DDS
from infield.posterior.samplers.diffusion_mbir import DiffusionMBIR
from infield.posterior.samplers.elliptical_slice import EllipticalSlice
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.faps_measured import FAPSMeasured
from infield.posterior.samplers.faps_published import FAPSPublished
from infield.posterior.samplers.red_diff import REDDiff
from infield.posterior.samplers.twisted_smc import TwistedSMC
from infield.priors.base import sample
from infield.priors.cm21.gaussian import _factor
from infield.priors.covariance.base import from_draws, from_matrix
from infield.priors.covariance.modes import Hartley, Pixels
from infield.priors.flows.regrid import Regrid
from infield.priors.flows.slices import SlicePrior
from infield.priors.gaussian.kernels import Matern, White
from infield.priors.gaussian.matern import matern_matrix
from infield.priors.gaussian.pivoted_cholesky import pivoted_cholesky
from infield.priors.gaussian.prior import GaussianPrior, empirical_prior, gaussian_prior
from infield.priors.storage.from_yaml import prior_from_description

LINE = Grid.regular((24,), 1.0, periodic=True)
OPEN = Grid.regular((6, 6), (1.0, 1.0))
PLANE = Grid.regular((8, 8), 1.0, periodic=True)


def circle(n: int) -> PointSet:
    """Points at equal distances on the unit circle."""
    return PointSet(tuple((float(np.cos(a)), float(np.sin(a))) for a in np.arange(n) * 2 * np.pi / n), ("y", "x"))


RING = circle(24)
"""Points whose eigenvalues come in pairs, and whose pivots are all ties."""

MATERN, ROUGH = Matern(1.5, 0.2), Matern(0.5, 0.1)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sphere() -> Grid:
    latitudes, longitudes = np.linspace(-75, 75, 6), np.arange(0, 360, 45.0)
    return Grid((Axis("lat", tuple(latitudes), "degrees_north"), Axis("lon", tuple(longitudes), "degrees_east", True)))


def mixture(grid: Grid | PointSet, source: dict) -> object:
    components = [{"law": {"law": "matern", "nu": 1.5, "length": length}} for length in (0.08, 0.5)]
    return prior_from_description({"prior": "mixture", "components": components, "source": source}, grid, 1)


def examples(points: PointSet) -> Tensor:
    """Fields that are not stationary, so that modes of one variance differ; through a root that has no basis."""
    K = matern_matrix(points.points(), nu=1.5, length=0.4, variance=1.0)
    white = torch.randn(12, points.size, generator=rng(1), dtype=torch.float64)
    growing = torch.linspace(0.5, 1.5, points.size, dtype=torch.float64)
    return (growing * (white @ torch.linalg.cholesky(K).mT))[:, None]


def masked(prior: GaussianPrior, grid: Grid, noise: object = GaussianNoise(0.01)) -> Measurement:
    """Every third point is seen; the field is a plane wave, so that the data are the same whatever a draw is."""
    mask = torch.arange(grid.size).reshape(grid.shape) % 3 == 0
    operator = build_operator({"name": "mask", "arrays": {"mask": "mask"}}, {"mask": mask.numpy()}, grid, 1)
    x = torch.sin(torch.arange(grid.size, dtype=torch.float64) / 4).reshape(1, 1, *grid.shape)
    return Measurement(y=operator.A(x), operator=operator, noise=noise, grid=grid)


def counted(grid: Grid) -> Measurement:
    description = {"name": "phases", "parameters": {"low": 3.0, "high": 30.0, "width": 0.5}}
    operator = build_operator(description, {}, grid, 1)
    x = torch.sin(torch.arange(grid.size, dtype=torch.float64) / 4).reshape(1, 1, *grid.shape)
    return Measurement(y=operator.A(x).round(), operator=operator, noise=PoissonNoise(0.5), grid=grid)


def sources() -> dict[str, Callable[[], Tensor]]:
    def of(law: Matern | White, grid: Grid | PointSet) -> Callable[[], Tensor]:
        return lambda: law.covariance(grid).sample(3, rng(4))

    def fields(n: int = 12) -> Tensor:
        return MATERN.covariance(PLANE).sample(n, rng(1))

    def partial() -> Tensor:
        K = matern_matrix(RING.points(), nu=1.5, length=0.4, variance=1.0)
        found = pivoted_cholesky(lambda i: K[i], K.diagonal().clone(), 5)
        inside = found.to_modes(Pixels(), RING.shape).sample(2, rng(3))
        return torch.cat([found.to_eigenmodes(RING.shape).sample(2, rng(3)), inside])

    def cones() -> Tensor:
        turns = torch.randn(3, 6, 6, generator=rng(2), dtype=torch.float64)
        factor = torch.stack([_factor(c @ c.mT + torch.eye(6)) for c in turns[:1]] * 3)
        return torch.einsum("rij,rj->ri", factor, torch.randn(3, 6, generator=rng(3), dtype=torch.float64))

    def regridded() -> Tensor:
        law, start = Matern(0.5, 0.3), circle(16)
        source = law.covariance(start)
        known = from_draws(source.modes, examples(start), rank=3)
        return Regrid(start, RING, law, 1).covariance(known, source).sample(2, rng(6))

    def empirical(law: Matern) -> Tensor:
        return empirical_prior(examples(RING), RING, rank=4, source=law).covariance.sample(2, rng(6))

    return {
        "matern in its own modes": lambda: gaussian_prior(ROUGH, LINE, source=White()).covariance.sample(1, rng(4)),
        "matern by FFT": of(MATERN, PLANE),
        "matern, open": of(MATERN, OPEN),
        "matern on a ring": of(MATERN, RING),
        "matern, leading directions": of(Matern(1.5, 0.6, rank=7), RING),
        "matern on the sphere": of(Matern(1.5, 0.7, domain="sphere"), sphere()),
        "pivoted Cholesky": partial,
        "dense in a fixed basis": lambda: from_matrix(
            Hartley(1), matern_matrix(RING.points(), nu=0.5, length=0.4, variance=1.0), (24,)
        ).sample(2, rng(5)),
        "principal directions": lambda: empirical_prior(fields(), PLANE, rank=4).covariance.sample(2, rng(6)),
        "principal directions, in eigenvectors": lambda: empirical(Matern(0.5, 0.3)),
        "principal directions, in leading ones": lambda: empirical(Matern(1.5, 0.6, rank=7)),
        "regridded, in eigenvectors": regridded,
        "lightcones": cones,
    }


def samplers() -> dict[str, Callable[[], Tensor]]:
    gaussian = gaussian_prior(MATERN, OPEN, source=ROUGH)  # both laws dense: modes by eigenvectors, and factors
    line = gaussian_prior(MATERN, LINE, source=White())
    mixed = mixture(LINE, {"law": "matern", "nu": 0.5, "length": 0.1})
    ring = gaussian_prior(Matern(1.5, 0.4), RING, source=Matern(0.5, 0.3))
    scattered = build_operator({"name": "points", "arrays": {"indices": "i"}}, {"i": np.arange(0, 24, 5)}, RING, 1)
    x = torch.sin(torch.arange(24, dtype=torch.float64))[None, None]
    on_ring = Measurement(y=scattered.A(x), operator=scattered, noise=GaussianNoise(0.01), grid=RING)
    seen = torch.arange(OPEN.size).reshape(OPEN.shape) % 3 == 0
    factors = torch.stack([torch.ones(1, 6, 6), torch.linspace(-1, 1, 36).reshape(1, 6, 6)]).double() * seen
    correlated = LowRankGaussianNoise(0.01, 0.3 * factors)

    def run(sampler: object, prior: object, measurement: Measurement) -> Callable[[], Tensor]:
        return lambda: sampler(prior, measurement, 2, SampleStreams(3, range(2))).samples  # type: ignore[operator]

    def measured() -> Tensor:
        flat = gaussian_prior(MATERN, PLANE)
        law = fit_denoiser_errors(flat, flat.covariance.sample(50, rng(1)), [0.0, 0.25, 0.5, 0.75], rng(2))
        return run(FAPSMeasured(law=law), flat, masked(flat, PLANE))()

    def volume(sampler: object) -> Callable[[], Tensor]:
        grid = Grid((Grid.regular((3,), 1.0, names=("z",)).axes[0], *OPEN.axes))
        prior = SlicePrior(slices=gaussian, depth=3)
        return lambda: run(sampler, prior, masked(prior, grid))()  # type: ignore[arg-type]

    def fitted() -> Tensor:
        measurement = masked(line, LINE, GaussianNoise(0.05))
        return Exact()(fit_prior(measurement), measurement, 2, SampleStreams(3, range(2))).samples

    def theirs() -> Tensor:
        """Noise in the coordinates in which deepinv's DDRM draws it."""
        physics = to_decomposable_physics(WhitenedProblem(gaussian, masked(gaussian, OPEN)))
        white = torch.randn(2, 1, 6, 6, generator=rng(3))
        return torch.cat([physics.V(white), physics.V(physics.mask * white)])

    def of_images() -> Tensor:
        """What deepinv's samplers see of images."""
        problem = UnitRange(WhitenedProblem(gaussian, masked(gaussian, OPEN)))
        w = torch.rand(2, *problem.shape, generator=rng(3), dtype=torch.float64)
        return torch.cat([problem.fields(w), problem.denoise(w, 0.1), problem.A_adjoint(problem.A(w))])

    return {
        "exact": run(Exact(), gaussian, masked(gaussian, OPEN)),
        "exact, correlated noise": run(Exact(), gaussian, masked(gaussian, OPEN, correlated)),
        "exact, mixture": run(Exact(), mixed, masked(line, LINE)),
        "faps": run(FAPS(levels=4), gaussian, masked(gaussian, OPEN)),
        "faps, scattered": run(FAPS(levels=4), ring, on_ring),
        "faps, chains": run(FAPS(levels=3, steps=20), gaussian, counted(OPEN)),
        "faps, measured": measured,
        "faps as published": run(FAPSPublished(levels=4, langevin_steps=3, rank=4), ring, on_ring),
        "red-diff": run(REDDiff(steps=20, start="draw"), gaussian, masked(gaussian, OPEN)),
        "smc": run(TwistedSMC(steps=8, particles=4), mixed, masked(line, LINE)),
        "smc, scattered": run(TwistedSMC(steps=8, particles=4), ring, on_ring),
        "elliptical slice": run(EllipticalSlice(burn_in=10, draws=4, flow_steps=5), line, masked(line, LINE)),
        "dds": volume(DDS(levels=6)),
        "diffusion-mbir": volume(DiffusionMBIR(levels=6)),
        "fitted prior": fitted,
        "deepinv": theirs,
        "deepinv, images": of_images,
        "prior, by its flow": lambda: sample(gaussian, 2, rng(5), steps=5),
    }


def priors() -> dict[str, Any]:
    """Priors in closed form whose numbers hold eigenvectors, FFTs, windows or an optimum."""
    line = gaussian_prior(MATERN, LINE, source=White())
    return {
        "dense in eigenvectors": gaussian_prior(MATERN, OPEN, source=ROUGH),
        "by FFT": line,
        "on a torus": gaussian_prior(ROUGH, Grid.regular((40, 30), (1.0, 0.7))),
        "on a ring": gaussian_prior(Matern(1.5, 0.4), RING, source=Matern(0.5, 0.3)),
        "empirical": empirical_prior(examples(RING), RING, rank=4, source=Matern(0.5, 0.3)),
        "mixture": mixture(LINE, {"law": "matern", "nu": 0.5, "length": 0.1}),
        "fitted": fit_prior(masked(line, LINE, GaussianNoise(0.05))),
    }


def digests(of: Callable[[Any], str]) -> dict[str, str]:
    """Their digests by name."""
    torch.set_num_threads(1)
    return {name: of(prior) for name, prior in priors().items()}


def raw() -> dict[str, Callable[[], Tensor]]:
    """The negative control: white noise taken for coordinates along eigenvectors of repeated eigenvalues."""

    def along_eigenvectors() -> Tensor:
        values, vectors = torch.linalg.eigh(matern_matrix(RING.points(), nu=1.5, length=0.4, variance=1.0))
        white = torch.randn(3, RING.size, generator=rng(4), dtype=torch.float64)
        return white * values.clamp_min(0).sqrt() @ vectors.mT

    return {"raw eigenvectors": along_eigenvectors}


def everything(*, control: bool = False) -> dict[str, np.ndarray]:
    """All draws by name."""
    torch.set_num_threads(1)
    made = raw() if control else {**sources(), **samplers()}
    return {name: draw().numpy(force=True) for name, draw in made.items()}


if __name__ == "__main__":
    np.savez(Path(sys.argv[1]), **everything(), **everything(control=True))
    found = {"today": digests(prior_digest), "former": digests(former_prior_digest)}
    Path(sys.argv[1]).with_suffix(".json").write_text(json.dumps(found))
