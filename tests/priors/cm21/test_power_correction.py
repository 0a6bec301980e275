"""Power of draws beside that of the cones of training: found where both are known."""

import numpy as np
import pytest
import torch

from infield.priors.cm21.linear_correction import LinearCorrection
from infield.priors.cm21.power_correction import fit_power_correction, log_amplitudes, of_flow
from infield.priors.cm21.prior import LightconePrior
from infield.priors.cm21.slice_spectra import KNOTS, SliceSpectra
from infield.priors.cm21.slice_statistics import SliceStatistics
from infield.priors.cm21.voxel_transform import VoxelTransform
from infield.priors.networks.local_unet import LocalUNet

SIDE, DEPTH = 8, 64
MISSED = -0.1
"""A part of the temperature in F: what is drawn has exp(pi times it) of the power."""


def frozen(model):
    return model.eval().requires_grad_(False)


def prior(missed):
    spectra, linear_part = SliceSpectra(1, 2, 16), LinearCorrection(1, 2, 8)
    with torch.no_grad():
        spectra.layers[-1].bias.copy_(torch.linspace(0.7, -1.5, KNOTS).repeat(4))  # red
        linear_part.layers[-1].bias[: len(linear_part.layers[-1].bias) // 2] = missed
    return LightconePrior(
        name="flow",
        network=frozen(LocalUNet(2, 10, 1, (8, 8))),
        statistics=frozen(SliceStatistics(1, 2, 16)),
        spectra=frozen(spectra),
        repeats=None,
        linear_part=frozen(linear_part),
        drawn=frozen(SliceSpectra(1, 2, 16)),
        transform=VoxelTransform("linear", mean=5.0, scale=20.0, fill=False),
        ranges={"HII_EFF_FACTOR": (10.0, 250.0)},
        cell=4.0,
        points=(SIDE, SIDE),
        distance=8900 + 4.0 * np.arange(DEPTH),
        redshift=np.linspace(7.5, 9, DEPTH),
        provenance={},
    )


@pytest.mark.parametrize("missed", [MISSED, pytest.param(0.0, marks=pytest.mark.slow)])
def test_what_draws_are_short_of_is_found_channel_by_channel(missed):
    one = prior(missed)
    theta, s = torch.rand(24, 1, generator=torch.Generator().manual_seed(5)), torch.linspace(0, 1, DEPTH)
    with torch.no_grad():
        found = log_amplitudes(of_flow(one, theta, 8, torch.Generator().manual_seed(0)))
    assert found.shape == (24, 2, 2 * KNOTS, DEPTH)
    r = fit_power_correction(found, theta, s, seed=0, steps=200)
    told = r(torch.tensor([[0.3], [0.7]]), s.expand(2, -1))
    some = told[:, :, [*range(3, 8), *range(KNOTS + 3, KNOTS + 8)], 12:-12].mean((0, 2, 3))  # functions of many modes
    expected = torch.tensor([np.exp(np.pi * missed / 2), 1.0], dtype=torch.float32)
    assert torch.allclose(some, expected, rtol=0.02), (some, expected)


def test_several_cones_together_are_each_of_their_own_parameters():
    one = prior(MISSED)
    theta, s = torch.rand(3, 1, generator=torch.Generator().manual_seed(5)), torch.linspace(0, 1, DEPTH)
    flow = one.on(theta, s[None], (SIDE, SIDE))
    for i, at in enumerate(theta):
        alone = one.on(at, s[None], (SIDE, SIDE))
        x = torch.randn(1, 2, SIDE, SIDE, DEPTH, generator=torch.Generator().manual_seed(i))
        every = flow.velocity(x.expand(3, -1, -1, -1, -1), 0.4)
        assert torch.allclose(every[i : i + 1], alone.velocity(x, 0.4), atol=1e-5)
        units = [
            part.standardisation.to_units(x.expand(len(part.profiles.mu), -1, -1, -1, -1)) for part in (flow, alone)
        ]
        assert torch.allclose(units[0][i], units[1][0], atol=1e-4)
