"""Transforms: inverses, determinants beside those of autograd, refusals, and chains."""

import pytest
import torch

from infield import InfieldError
from infield.core.transform import Affine, Bounded, Chain, Exponential, Softplus, Transform, Whitening, Window

SHAPE = (2, 3, 4)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Triangle:
    """A root of a covariance of whole fields: a lower triangle."""

    def __init__(self, size):
        self.L = torch.tril(normal(size, size, seed=9)) / 3 + torch.eye(size)

    def colour(self, xi):
        return (xi.flatten(1) @ self.L.mT).reshape(xi.shape)

    def whiten(self, x):
        return torch.linalg.solve_triangular(self.L, x.flatten(1).mT, upper=False).mT.reshape(x.shape)

    def transpose(self, x):
        return (x.flatten(1) @ self.L).reshape(x.shape)

    def log_abs_det(self, shape):
        return self.L.diagonal().abs().log().sum()


CHANNELS = Affine(normal(2, 1, 1, seed=1), torch.tensor([-2.0, 0.5]).double().reshape(2, 1, 1))
TRANSFORMS = {
    "affine": Affine(torch.tensor(0.3), torch.tensor(2.0)),
    "affine by channel": CHANNELS,
    "affine by point": Affine(normal(*SHAPE, seed=2), normal(*SHAPE, seed=3)),
    "whitening": Whitening(Triangle(24)),
    "exp": Exponential(),
    "softplus": Softplus(),
    "bounded": Bounded(-1.0, 3.0),
    "chain": Chain((Bounded(0.0, 2.0), CHANNELS, Whitening(Triangle(24)))),
    "chain of a chain": Chain((Chain((Softplus(), CHANNELS)), Whitening(Triangle(24)), Affine(*normal(2, 1, 1, 1)))),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_inverse_and_determinant(name):
    transform, z = TRANSFORMS[name], normal(3, *SHAPE)
    torch.testing.assert_close(transform.inverse(transform.forward(z)), z)
    found = transform.log_abs_det(z)
    assert found.shape == (3,) and transform.output_shape(SHAPE) == SHAPE
    for one, log_abs_det in zip(z, found, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: transform.forward(v[None])[0], one).reshape(24, 24)
        torch.testing.assert_close(log_abs_det, torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_parts_one_after_the_other_are_the_whole(name):
    transform, z = TRANSFORMS[name], normal(3, *SHAPE)
    x = z
    for part in reversed(transform.parts):
        assert len(part.parts) == 1 and part.parts[0] is part
        x = part.forward(x)
    assert torch.equal(x, transform.forward(z))


@pytest.mark.parametrize(("transform", "ends"), [(Softplus(), (0.0, 800.0)), (Bounded(-1.0, 3.0), (-1.0, 3.0))])
def test_ends_are_kept_far_out(transform, ends):
    """No overflow, no value beyond the ends, slopes that fall to zero and are never negative."""
    z = torch.tensor([-800.0, 800.0]).double()
    assert transform.forward(z).tolist() == list(ends)
    assert torch.isfinite(transform.log_slope(z)).all() and (transform.slope(z) >= 0).all()


def test_a_window_shows_a_part_and_has_no_inverse():
    window, z = Window((2, 3), (4, 6)), normal(2, 1, 4, 6)
    x = window.forward(z)
    assert torch.equal(x, z[..., :2, :3]) and window.output_shape((1, 4, 6)) == (1, 2, 3)
    assert torch.equal(window.crop(window.pad(x)), x) and window.pad(x).shape == z.shape
    chain = Chain((Affine(torch.tensor(1.0), torch.tensor(2.0)), window))
    assert torch.equal(chain.forward(z), 1 + 2 * x) and chain.output_shape((1, 4, 6)) == (1, 2, 3)
    for refused in (lambda: chain.inverse(x), lambda: chain.log_abs_det(z)):
        with pytest.raises(InfieldError, match="window"):
            refused()


OUTSIDE = [(Exponential(), 0.0), (Softplus(), -1.0), (Bounded(0.0, 1.0), 1.0), (Bounded(0.0, 1.0), 0.0)]


@pytest.mark.parametrize(("transform", "value"), OUTSIDE)
def test_values_that_are_not_reached_have_no_inverse(transform: Transform, value):
    with pytest.raises(InfieldError, match=r"inverse of .*: found 1 values outside, expected values"):
        transform.inverse(torch.tensor([value, 0.5]))


@pytest.mark.parametrize("ends", [(1.0, 1.0), (2.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_ends_in_order(ends):
    with pytest.raises(InfieldError, match="expected finite numbers, low below high"):
        Bounded(*ends)
