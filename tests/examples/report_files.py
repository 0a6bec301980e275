"""Measurements of every kind of field, and posterior files of exact draws, for reports."""

import numpy as np
import torch
from torch import Generator

from infield.core.grid import Grid, PointSet
from infield.datasets.formats.measurement import measurement_digest, write_measurement
from infield.datasets.formats.posterior import PosteriorWriter
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.samplers.exact import Exact
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

LAW = Matern(nu=1.5, length=0.25, wrap=True)
RNG = np.random.default_rng(3)
CASES = {
    "line": (
        Grid.regular((40,), units="km"),
        1,
        {"name": "points", "arrays": {"coordinates": "s"}},
        RNG.random((9, 1)),
    ),
    "plane": (
        Grid.regular((17, 22), units="m"),
        1,
        {"name": "mask", "arrays": {"mask": "s"}},
        RNG.random((17, 22)) < 0.3,
    ),
    "complex": (Grid.regular((12, 15)), 2, {"name": "fourier", "arrays": {"mask": "s"}}, RNG.random((12, 15)) < 0.5),
    "space": (Grid.regular((6, 7, 8)), 1, {"name": "points", "arrays": {"coordinates": "s"}}, RNG.random((30, 3))),
    "scattered": (
        PointSet(tuple(map(tuple, RNG.random((50, 2)).tolist())), ("lon", "lat"), "degrees"),
        1,
        {"name": "points", "arrays": {"indices": "s"}},
        np.arange(0, 50, 4),
    ),
}


def measured(case, *, truth=True, noise=0.05):
    """A truth drawn from the prior, its data, and the prior."""
    grid, channels, description, array = CASES[case]
    generator = Generator().manual_seed(5)
    prior = gaussian_prior(LAW, grid, channels=channels)
    x = prior.covariance.sample(1, generator)
    operator, law = build_operator(description, {"s": array}, grid, channels), GaussianNoise(torch.tensor(noise**2))
    y = law.sample(operator.A(x), generator)
    measurement = Measurement(
        y=y if operator.observed is None else torch.where(operator.observed, y, 0.0),
        operator=operator,
        noise=law,
        grid=grid,
        channels=("real", "imag") if channels == 2 else ("height",),
        units="mm",
        truth=x if truth else None,
        description=description,
        arrays={"s": array},
    )
    return measurement, prior


def files(folder, case="plane", *, n=24, truth=True, spread=1.0, title="A <b>test</b>"):
    """A measurement and a posterior file of exact draws; `spread` stretches the draws about their mean."""
    measurement, prior = measured(case, truth=truth)
    samples = Exact()(prior, measurement, n, Generator().manual_seed(1)).samples
    samples = samples.mean(0) + spread * (samples - samples.mean(0))
    folder.mkdir(exist_ok=True)
    write_measurement(folder / "m.zarr", measurement, title=title, data_units="mm")
    writer = PosteriorWriter(
        folder / "p.zarr",
        grid=measurement.grid,
        channels=measurement.channels,
        units="mm",
        samples=n,
        block=10,
        run={
            "sampler": "exact",
            "sampler_parameters": {},
            "prior": "test & prior",
            "prior_sha256": "ab" * 32,
            "seed": 1,
            "measurement_sha256": measurement_digest(folder / "m.zarr"),
        },
    )
    for b in range(writer.blocks):
        rows = writer.sample_range(b)
        cost = {"velocity_calls": 3, "operator_calls": 4, "seconds": 0.5}
        writer.write_block(b, samples[rows.start : rows.stop], cost)
    writer.finish(diagnostics={"chi_square": float(measurement.chi_square(samples).mean())})
    return folder / "p.zarr", folder / "m.zarr", samples, measurement
