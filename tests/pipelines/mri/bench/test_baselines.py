"""sigpy's images of multi-coil k-space: that they are of our operator and our noise, and better than zero-filling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.mri.noise import CoilGaussianNoise
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.mri.bench.baselines import (
    by_discrepancy,
    cg_sense,
    l1_wavelet,
    total_variation,
    whitened_coils,
)


def measure(shape=(25, 32), coils=3, std=0.02, correlated=True, share=0.4) -> Measurement:
    """A disc of a few grey values with a phase, seen by coils that share noise."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape), indexing="ij")
    inside = (y**2 + x**2 < 0.8).double() + 0.5 * ((y - 0.3).abs() + (x + 0.1).abs() < 0.3)
    phase = torch.polar(inside, 0.7 * y - x)
    truth = torch.stack([phase.real, phase.imag])[None]
    angles = torch.arange(coils) * 2 * torch.pi / coils
    maps = torch.stack([torch.polar(torch.exp(-((y - a.cos()) ** 2 + (x - a.sin()) ** 2) / 2), a + y) for a in angles])
    maps = maps / maps.abs().square().sum(0).sqrt()
    mask = torch.rand(shape, generator=generator) < share
    mask[shape[0] // 2 - 4 : shape[0] // 2 + 4, shape[1] // 2 - 4 : shape[1] // 2 + 4] = True
    grid, arrays = Grid.regular(shape, names=("y", "x")), {"maps": maps.numpy(), "mask": mask.numpy()}
    description = {"name": "multicoil-mri", "arrays": {"coil_maps": "maps", "mask": "mask"}}
    operator = build_operator(description, arrays, grid, 2)
    noise = GaussianNoise(std**2)
    if correlated:
        root = torch.eye(coils, dtype=torch.complex128) + 0.4j * torch.ones(coils, coils).tril(-1)
        noise = CoilGaussianNoise(2 * std**2 * root @ root.mH)
    data = torch.where(operator.observed, noise.sample(operator.A(truth), generator), 0.0)
    return Measurement(
        y=data, operator=operator, noise=noise, grid=grid, channels=("real", "imag"), truth=truth,
        description=description, arrays=arrays,
    )  # fmt: skip


def error(x, measurement):
    return float((x - measurement.truth).norm() / measurement.truth.norm())


@pytest.mark.parametrize("correlated", [False, True])
def test_the_problem_is_ours(correlated):
    """Our operator and noise, by sigpy's: equal squares of whitened residuals, also on an odd number of rows."""
    measurement = measure(correlated=correlated)
    coils = whitened_coils(measurement)
    x = measurement.truth[0] + 0.1
    image = torch.complex(x[0], x[1]).numpy()
    sense = sigpy_sense(coils)
    residual = (coils.kspace - sense(coils.scale * image)) * coils.sampled
    theirs = 2 * np.square(np.abs(residual)).sum() / measurement.count
    assert theirs == pytest.approx(float(measurement.chi_square(x[None])), rel=1e-4)
    assert theirs > 2  # not the truth


def sigpy_sense(coils):
    import sigpy as sp

    return sp.linop.FFT(coils.maps.shape, axes=(-2, -1)) * sp.linop.Multiply(coils.maps.shape[1:], coils.maps)


def test_images_of_three_kinds():
    measurement = measure(share=0.2)
    zero_filled = error(measurement.operator.A_adjoint(measurement.y), measurement)
    sense = error(cg_sense(measurement, 8), measurement)
    wavelet, weight = by_discrepancy(l1_wavelet, measurement, trials=5)
    variation = total_variation(measurement, 0.6)
    assert sense < 0.9 * zero_filled
    assert error(wavelet, measurement) < 0.95 * sense and error(variation, measurement) < 0.6 * sense
    assert (
        0.7
        < float(measurement.chi_square(wavelet))
        <= 1
        < float(measurement.chi_square(l1_wavelet(measurement, 4 * weight)))
    )


def test_the_weights_do_not_depend_on_the_scanners_units():
    measurement = measure()
    scaled = replace(measurement, y=1000 * measurement.y, noise=CoilGaussianNoise(1e6 * measurement.noise.covariance))
    x = l1_wavelet(measurement, 1.0, iterations=30)
    torch.testing.assert_close(l1_wavelet(scaled, 1.0, iterations=30), 1000 * x, rtol=1e-2, atol=2.0)


def test_what_is_refused():
    measurement = measure(correlated=False)
    with pytest.raises(InfieldError, match="covariance of coils"):
        whitened_coils(replace(measurement, y=measurement.y.abs(), noise=PoissonNoise(1.0)))
    grid = Grid.regular((4, 4))
    mask = build_operator({"name": "mask", "arrays": {"mask": "m"}}, {"m": np.ones((4, 4), bool)}, grid, 1)
    flat = Measurement(y=torch.zeros(1, 1, 4, 4), operator=mask, noise=GaussianNoise(1.0), grid=grid)
    with pytest.raises(InfieldError, match="multi-coil"):
        whitened_coils(flat)
