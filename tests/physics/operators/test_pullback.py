"""A measurement pulled back by a transform: the same likelihood at the same field, and a described operator."""

import pytest
import torch

from infield import InfieldError
from infield.core.grid import Grid, PointSet
from infield.core.transform import Affine, Bounded, Chain, Exponential, Softplus, Transform, Whitening, Window
from infield.datasets.formats.measurement import open_measurement, write_measurement
from infield.physics.context import Quantity
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator

GRID = Grid.regular((4, 5))
BLUR = {"name": "convolution", "parameters": {"gaussian_width": 0.2}, "arrays": {}}


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Double:
    """A root of a covariance."""

    def colour(self, xi):
        return 2 * xi + xi.roll(1, -1) / 2

    def transpose(self, x):
        return 2 * x + x.roll(-1, -1) / 2


SHIFT, SCALE = torch.tensor([[[0.4]], [[0.6]]]).double(), torch.tensor([[[0.2]], [[0.1]]]).double()
TRANSFORMS = {
    "affine": Affine(SHIFT, SCALE),
    "exp": Exponential(),
    "softplus": Softplus(),
    "bounded": Bounded(0.0, 2.0),
    "window": Window((4, 5), (6, 7)),
    "whitening": Whitening(Double()),
    "positive": Chain((Softplus(), Affine(SHIFT, SCALE))),
    "drive": Chain((Bounded(0.1, 2.0), Affine(SHIFT, SCALE), Window((4, 5), (6, 6)))),
    "white": Chain((Exponential(), Affine(SHIFT, SCALE), Whitening(Double()))),
}
NOISES = {"Gaussian": GaussianNoise(0.1), "Poisson": PoissonNoise(0.5)}


def measured(noise="Gaussian", **more) -> Measurement:
    law, operator = NOISES[noise], build_operator(BLUR, {}, GRID, 2)
    truth = normal(1, 2, 4, 5, seed=1).exp() / 8
    y = law.sample(operator.A(truth), torch.Generator().manual_seed(2))
    known = {"grid": GRID, "channels": ("a", "b"), "units": "m", "truth": truth, "description": BLUR} | more
    return Measurement(y=y, operator=operator, noise=law, **known)


def latent(transform: Transform):
    """Fields z that are above zero: so are all T(z) but those of the logarithm's ilk, where they are anyway."""
    torus = next((part.torus for part in transform.parts if isinstance(part, Window)), GRID.shape)
    return normal(3, 2, *torus, seed=3).abs()


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_likelihood_stays_and_its_gradient_follows(name, noise):
    transform, measurement = TRANSFORMS[name], measured(noise)
    z, behind = latent(transform), measurement.pullback(transform)
    x = transform.forward(z)
    torch.testing.assert_close(behind.log_likelihood(z), measurement.log_likelihood(x))
    torch.testing.assert_close(behind.chi_square(z), measurement.chi_square(x))
    at = z.clone().requires_grad_()
    expected = torch.autograd.grad(measurement.log_likelihood(transform.forward(at)).sum(), at)[0]
    torch.testing.assert_close(behind.gradient(z), expected)
    assert behind.grid.shape == tuple(z.shape[2:]) and behind.count == measurement.count
    affine = all(isinstance(part, Affine | Window | Whitening) for part in transform.parts)
    moved = noise == "Poisson" and any(isinstance(part, Affine) for part in transform.parts)
    assert behind.linear_gaussian == (affine and noise == "Gaussian") and not (moved and behind.linear_gaussian)
    assert not torch.allclose(behind.log_likelihood(z + 0.1), measurement.log_likelihood(x))  # negative control


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_operator_is_described_where_a_file_can_hold_it(name, tmp_path):
    transform = TRANSFORMS[name]
    behind, z = measured().pullback(transform), latent(transform)
    if any(isinstance(part, Whitening) for part in transform.parts):
        assert behind.description == {} and behind.arrays == {}
        return
    built = build_operator(behind.description, behind.arrays, behind.grid, 2)
    assert torch.equal(built.A(z), behind.operator.A(z))
    write_measurement(tmp_path / "m.zarr", behind)
    again = open_measurement(tmp_path / "m.zarr")
    torch.testing.assert_close(again.log_likelihood(z), behind.log_likelihood(z), rtol=1e-12, atol=0)
    assert again.description == behind.description


def test_the_truth_and_the_units_are_those_of_the_latent_field():
    measurement = measured()
    behind = measurement.pullback(TRANSFORMS["positive"])
    torch.testing.assert_close(TRANSFORMS["positive"].forward(behind.truth), measurement.truth)
    assert behind.units == "1" and behind.digest == measurement.digest
    seen = measurement.pullback(Window((4, 5), (6, 6)))
    assert seen.truth is None and seen.units == "m"
    assert measurement.pullback(Bounded(0.0, 0.2)).truth is None  # it has values beyond


def test_fields_of_the_context_do_not_follow_onto_another_grid():
    measurement = measured(context={"Re_tau": Quantity(180.0), "image": Quantity(normal(1, 1, 4, 5))}, truth=None)
    assert set(measurement.pullback(TRANSFORMS["positive"]).context) == {"Re_tau", "image"}
    assert set(measurement.pullback(TRANSFORMS["drive"]).context) == {"Re_tau"}


def test_what_is_for_no_such_grid_or_unknown_is_refused():
    points = PointSet(((0.0,), (1.0,), (3.0,)), ("x",))
    description, arrays = {"name": "points", "arrays": {"indices": "i"}}, {"i": torch.arange(2).numpy()}
    operator = build_operator(description, arrays, points, 1)
    scattered = Measurement(y=normal(1, 1, 2), operator=operator, noise=GaussianNoise(1.0), grid=points)
    for part in (Window((3,), (4,)), Whitening(Double())):
        with pytest.raises(InfieldError, match="for a field on scattered points, expected one on a grid"):
            scattered.pullback(part)

    class Unknown(Affine):
        @property
        def parts(self):
            return (object(),)

    with pytest.raises(InfieldError, match=r"pullback: found object, expected a transform"):
        scattered.pullback(Unknown(SHIFT, SCALE))
