"""What a network misses along the field: found by least squares, and what it does to the power of draws."""

import math

import torch

from infield.priors.cm21.linear_correction import BANDS, LinearCorrection, fit_linear_correction, of_field, products

SHAPE = (8, 8, 24)


def windows(n, seed):
    generator = torch.Generator().manual_seed(seed)
    theta, t = torch.rand(n, 1, generator=generator), torch.rand(n, generator=generator)
    s = torch.linspace(0, 1, SHAPE[-1]).expand(n, -1)
    z, noise = torch.randn(2, n, 2, *SHAPE, generator=generator)
    return theta, t, s, z, noise


def missing(theta, t, s):
    """g of two channels, more of it at late times and far away, and on large scales alone in the second."""
    g = (0.3 * theta + 0.2 * t[:, None] * s)[:, None, None].repeat(1, 2, BANDS, 1)
    g[:, 1, 2:] = 0
    return g


def test_it_is_found_between_the_parameters_of_training_and_nothing_is_left():
    theta, t, s, z, noise = windows(300, 0)
    missed = of_field(missing(theta, t, s), z) + noise
    model = fit_linear_correction(*products(z, missed), theta, t, s, seed=0, steps=400)
    theta, t, s, z, noise = windows(200, 1)
    g, found = missing(theta, t, s), model(theta, t, s)
    wrong, whole = (float(of_field(part, z).square().mean().sqrt()) for part in (found - g, g))
    assert wrong < 0.03 and whole > 0.15
    missed = of_field(g, z) + noise
    before, after = (products(z, part)[1].mean((0, 3)) for part in (missed, missed - of_field(found, z)))
    assert float(after.abs().max()) < 0.01 and float(before[0].abs().max()) > 0.05


def test_where_nothing_is_missed_nothing_is_found():
    theta, t, s, z, noise = windows(300, 0)
    assert torch.equal(LinearCorrection(1, 2)(theta, t, s), torch.zeros(300, 2, BANDS, SHAPE[-1]))
    model = fit_linear_correction(*products(z, noise), theta, t, s, seed=0, steps=400)
    assert float(of_field(model(theta, t, s), z).square().mean().sqrt()) < 0.03


def test_bands_are_all_of_the_field():
    *_, z, _ = windows(2, 0)
    assert torch.allclose(of_field(torch.full((1, 2, BANDS, SHAPE[-1]), 0.5), z), z / 2, atol=1e-5)


def test_power_of_draws_goes_as_the_exponential_of_what_is_missed():
    """dx/dt = (2 t - 1) / p x + eps / p x, with p = t^2 + (1 - t)^2, by small steps."""
    for epsilon in (-0.09, 0.0, 0.05):
        x, n = 1.0, 20000
        for i in range(n):
            t = (i + 0.5) / n
            x *= math.exp((2 * t - 1 + epsilon) / (t**2 + (1 - t) ** 2) / n)
        assert abs(x**2 - math.exp(math.pi * epsilon)) < 1e-4
