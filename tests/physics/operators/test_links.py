"""Links between a field of any sign and a quantity above zero: values, slopes, inverses, and files that name them."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import PoissonNoise
from infield.physics.operators.links import Bounded, Exponential, Link, Softplus
from infield.physics.operators.registry import build_operator

GRID = Grid.regular((4, 5))
LINKS = {"exp": Exponential(GRID, 1), "softplus": Softplus(GRID, 1), "bounded": Bounded(GRID, 1, 0.0, 3.0)}
EXACT = {
    "exp": mpmath.exp,
    "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
    "bounded": lambda x: 3 / (1 + mpmath.exp(-x)),
}
SLOPES = {
    "exp": mpmath.exp,
    "softplus": lambda x: mpmath.exp(x) / (1 + mpmath.exp(x)),
    "bounded": lambda x: 3 * mpmath.exp(x) / (1 + mpmath.exp(x)) ** 2,
}


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.mark.parametrize("name", LINKS)
def test_values_and_slopes_to_rounding(name):
    """Beside four hundred digits, from where the function is hardly above zero to where it is large."""
    link, x = LINKS[name], values(-700.0, -40.0, -1.5, 0.0, 0.3, 5.0, 40.0, 700.0)
    with mpmath.workdps(400):
        exact = [float(EXACT[name](mpmath.mpf(float(number)))) for number in x]
        slopes = [float(SLOPES[name](mpmath.mpf(float(number)))) for number in x]
    torch.testing.assert_close(link.A(x), values(*exact), rtol=1e-12, atol=0)
    torch.testing.assert_close(link.slope(x), values(*slopes), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", LINKS)
def test_derivatives_and_inverse(name):
    link = LINKS[name]
    x = 3 * torch.randn((2, 1, 4, 5), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.autograd.gradcheck(link.A, (x.clone().requires_grad_(),))
    w = x.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(link.A(w), w, v)[0], link.A_vjp(x, v))
    assert not torch.allclose(link.A_vjp(x + 0.1, v), link.A_vjp(x, v))  # negative control: it depends on the field
    torch.testing.assert_close(link.inverse(link.A(x)), x, rtol=1e-12, atol=1e-12)


def test_softplus_has_an_inverse_at_large_values():
    z = values(1e-12, 1.0, 800.0)
    torch.testing.assert_close(LINKS["softplus"].A(LINKS["softplus"].inverse(z)), z, rtol=1e-12, atol=0)


def test_counts_of_an_exposed_rate_behind_a_mask():
    """A file that names the mask, the exposure and the link: the likelihood by the book, and no likelihood where the
    rate overflows."""
    arrays = {"mask": np.arange(20).reshape(4, 5) % 3 > 0, "exposure": np.linspace(0.5, 2, 20).reshape(1, 4, 5)}
    operators = [
        {"name": "mask", "arrays": {"mask": "mask"}},
        {"name": "affine", "arrays": {"scale": "exposure"}},
        {"name": "exp"},
    ]
    description = {"name": "compose", "operators": operators}
    operator = build_operator(description, arrays, GRID, 1)
    assert isinstance(operator.operators[-1], Link)
    x = torch.randn((1, 1, 4, 5), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    y = torch.poisson(operator.A(x), generator=torch.Generator().manual_seed(4))
    counts = Measurement(y=y, operator=operator, noise=PoissonNoise(1.0), grid=GRID, description=description)
    expected = sum(
        n * math.log(e * math.exp(u)) - e * math.exp(u) - math.lgamma(n + 1)
        for n, e, u, seen in zip(
            *(v.flatten().tolist() for v in (y, torch.from_numpy(arrays["exposure"]), x)),
            arrays["mask"].flatten(),
            strict=True,
        )
        if seen
    )
    torch.testing.assert_close(float(counts.log_likelihood(x)), expected, rtol=1e-12, atol=0)
    assert counts.log_likelihood(x + 1000) == -math.inf


@pytest.mark.parametrize("name", LINKS)
def test_they_take_no_parameters_but_ends(name):
    expected = {"bounded": "low, high", "exp": "scale"}.get(name, "none")
    with pytest.raises(InfieldError, match=f"operator '{name}': found parameter base, expected {expected}"):
        build_operator({"name": name, "parameters": {"base": 10}}, {}, GRID, 1)


@pytest.mark.parametrize(
    ("ends", "message"), [(("0", 1), "found low '0', expected a number"), ((1, 0), "low below high")]
)
def test_ends_are_numbers_in_order(ends, message):
    with pytest.raises(InfieldError, match=message):
        build_operator({"name": "bounded", "parameters": dict(zip(("low", "high"), ends, strict=True))}, {}, GRID, 1)


def test_an_exponential_may_have_a_scale_and_its_full_name():
    x = values(-1.0, 0.0, 2.0)[None, None]
    grid = Grid.regular((3,))
    for name in ("exp", "exponential"):
        link = build_operator({"name": name, "parameters": {"scale": 40.0}}, {}, grid, 1)
        torch.testing.assert_close(link.A(x), 40 * torch.exp(x))
        torch.testing.assert_close(link.A_vjp(x, x), 40 * torch.exp(x) * x)
    with pytest.raises(InfieldError, match="found scale 0, expected a finite number above zero"):
        build_operator({"name": "exp", "parameters": {"scale": 0}}, {}, grid, 1)
