"""Volumes of multi-coil MRI: without total variation every slice is as if it were alone, with it they are not."""

from __future__ import annotations

import pytest
import torch

from infield.core.grid import Axis, Grid
from infield.physics.measurement import Measurement
from infield.physics.mri.noise import CoilGaussianNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.samplers import dds
from infield.posterior.samplers.dds import DDS
from infield.posterior.samplers.exact import posterior_mean
from infield.priors.flows.slices import SlicePrior
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

DEPTH, SIDE, COILS = 3, 8, 3


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measured() -> tuple[SlicePrior, Measurement]:
    """A volume of the slices' law, half of its k-space seen by three coils with correlated noise."""
    plane = Grid.regular((SIDE, SIDE), 1.0, periodic=True)
    grid = Grid((Grid.regular((DEPTH,), 1.0, names=("z",)).axes[0], *plane.axes))
    slices = gaussian_prior(Matern(1.5, 0.3), plane, channels=2)
    truth = slices.covariance.sample(DEPTH, torch.Generator().manual_seed(1)).transpose(0, 1)[None]
    maps = torch.view_as_complex(randn(COILS, DEPTH, SIDE, SIDE, 2, seed=2))
    mask = torch.rand((DEPTH, SIDE, SIDE), generator=torch.Generator().manual_seed(3)) < 0.5
    arrays = {"s": maps.numpy(), "m": mask.numpy()}
    description = {"name": "multicoil-mri-slices", "arrays": {"coil_maps": "s", "mask": "m"}}
    operator = build_operator(description, arrays, grid, 2)
    root = torch.view_as_complex(randn(COILS, COILS, 2, seed=4))
    noise = CoilGaussianNoise(0.02 * (root @ root.mH + torch.eye(COILS)), 3)
    y = torch.where(operator.observed, noise.sample(operator.A(truth), torch.Generator().manual_seed(5)), 0.0)
    facts = {"grid": grid, "channels": ("real", "imag"), "description": description, "arrays": arrays}
    return SlicePrior(slices=slices, depth=DEPTH), Measurement(y=y, operator=operator, noise=noise, **facts)


def only(z: int, volume: Measurement) -> Measurement:
    """One slice of a measurement, as a volume of depth 1."""
    grid = Grid((Axis("z", (0.0,)), *volume.grid.axes[1:]))
    arrays = {"s": volume.arrays["s"][:, z : z + 1], "m": volume.arrays["m"][z]}
    operator = build_operator(volume.description, arrays, grid, 2)
    y = volume.y[:, :, :, z : z + 1]
    return Measurement(y=y, operator=operator, noise=volume.noise, grid=grid, channels=("real", "imag"))


@pytest.fixture
def same_noise(monkeypatch):
    """Random fields of a volume, or those of one of its slices, in the same order each time."""

    def of(z):
        calls = iter(range(1000))

        def normal(generator, n, shape, device="cpu"):
            field = randn(n, 2, DEPTH, SIDE, SIDE, seed=next(calls))
            return field if z is None else field[:, :, z : z + 1]

        monkeypatch.setattr(dds, "normal", normal)
        return torch.Generator()

    return of


def test_without_total_variation_dds_is_dds_slice_by_slice(same_noise):
    """With conjugate gradients run to their end, whose steps are those of the whole volume."""
    prior, volume = measured()
    alone = SlicePrior(slices=prior.slices, depth=1)
    steps = {"levels": 5, "steps_of_cg": 150}
    together = DDS(tv=0.0, **steps)(prior, volume, 2, same_noise(None)).samples
    tied = DDS(tv=5.0, **steps)(prior, volume, 2, same_noise(None)).samples
    for z in range(DEPTH):
        one = DDS(tv=0.0, **steps)(alone, only(z, volume), 2, same_noise(z)).samples
        torch.testing.assert_close(together[:, :, z : z + 1], one, rtol=1e-7, atol=1e-7)
        assert (tied[:, :, z : z + 1] - one).abs().max() > 0.01


def test_the_posterior_mean_of_a_volume_is_that_of_its_slices():
    """By dense algebra and by iterations; with the operator and the noise of one slice, and not with another's maps."""
    prior, volume = measured()
    mean = posterior_mean(prior, volume)
    plane = Grid(volume.grid.axes[1:])
    for z in range(DEPTH):
        found = []
        for maps in (z, (z + 1) % DEPTH):
            arrays = {"s": volume.arrays["s"][:, maps], "m": volume.arrays["m"][z]}
            operator = build_operator({**volume.description, "name": "multicoil-mri"}, arrays, plane, 2)
            noise = CoilGaussianNoise(volume.noise.covariance)
            y = volume.y[:, :, :, z]
            one = Measurement(y=y, operator=operator, noise=noise, grid=plane, channels=("real", "imag"))
            found.append(posterior_mean(prior.slices, one))
        torch.testing.assert_close(mean[:, z], found[0], rtol=1e-6, atol=1e-6)
        assert (mean[:, z] - found[1]).abs().max() > 0.1
