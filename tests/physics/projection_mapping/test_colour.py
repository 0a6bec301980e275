"""Codes, Lab and their derivatives beside published values and automatic differentiation."""

from __future__ import annotations

import pytest
import torch

from infield.physics.projection_mapping.camera import Camera
from infield.physics.projection_mapping.colour import (
    WHITE,
    decode,
    decode_slope,
    encode,
    encode_slope,
    lab,
    lab_jacobian,
)


def test_published_values():
    assert abs(float(decode(torch.tensor(128 / 255, dtype=torch.float64))) - 0.21586) < 1e-5
    torch.testing.assert_close(WHITE, torch.tensor([0.95047, 1.0, 1.08883], dtype=torch.float64), rtol=1e-5, atol=1e-5)
    light = decode(torch.tensor([[0.5, 0.2, 0.1]], dtype=torch.float64))
    torch.testing.assert_close(lab(light)[0], torch.tensor([31.788, 31.565, 31.818]).double(), rtol=0, atol=2e-3)


def test_codes_and_their_slopes():
    light = torch.linspace(-0.1, 1.2, 200, dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(decode(encode(light)), light, rtol=1e-9, atol=1e-5)
    for function, slope in ((encode, encode_slope), (decode, decode_slope)):
        (gradient,) = torch.autograd.grad(function(light).sum(), light)
        torch.testing.assert_close(gradient, slope(light.detach()), rtol=1e-6, atol=1e-6)


def test_the_jacobian_of_lab():
    light = torch.rand(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for one, found in zip(light, lab_jacobian(light), strict=True):
        expected = torch.autograd.functional.jacobian(lambda x: lab(x[None])[0], one)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("srgb", [True, False])
def test_the_camera(srgb):
    camera, light = Camera(full_well=2000, read_noise=8, bits=14, srgb=srgb), torch.full((3, 200, 200), 0.3)
    frame = camera.light(camera.expose(light, torch.Generator().manual_seed(0)))
    assert abs(float(frame.mean()) - 0.3) < 4 * (float(camera.variance(light)[0, 0, 0]) / 120_000) ** 0.5
    assert abs(float(frame.var()) / float(camera.variance(light)[0, 0, 0]) - 1) < 0.03
    bright = camera.expose(2 * torch.ones(3, 2, 2), torch.Generator().manual_seed(0))
    assert (bright == 2**14 - 1).all()
