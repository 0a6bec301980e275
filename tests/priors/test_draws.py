"""Draws of a prior: the right distribution where it is closed, the flow elsewhere, and each of its own generator."""

import pytest
import torch

from infield.core.grid import Grid
from infield.core.randomness import sample_generator
from infield.priors.base import sample
from infield.priors.draws import draw_fields, exact
from infield.priors.storage.from_yaml import prior_from_description

OPEN = Grid.regular((24,))
GAUSSIAN = {
    "prior": "gaussian",
    "law": {"law": "matern", "nu": 0.5, "length": 0.2},
    "mean": 7.0,
    "scale": 3.0,
    "units": "K",
}
MIXTURE = {
    "prior": "mixture",
    "components": [
        {"weight": 0.25, "law": {"law": "matern", "nu": 0.5, "length": 0.02}},
        {"weight": 0.75, "law": {"law": "matern", "nu": 0.5, "length": 2.0}},
    ],
    "source": {"law": "matern", "nu": 0.5, "length": 0.01},
}


def generators(n, seed=0):
    return [sample_generator(seed, i) for i in range(n)]


def test_a_gaussian_prior_has_its_mean_and_covariance():
    """An exponential covariance, written down here: 9 exp(-|x - y| / 0.2) about 7 K."""
    n = 4000
    prior = prior_from_description(GAUSSIAN, OPEN, 1)
    assert exact(prior)
    x = draw_fields(prior, generators(n))[:, 0].double() - 7.0
    place = torch.tensor(OPEN.axes[0].coordinates)
    right = 9 * torch.exp(-(place[:, None] - place).abs() / 0.2)
    found = x.T @ x / n
    error = ((right.diagonal()[:, None] * right.diagonal() + right**2) / n).sqrt()
    assert ((found - right) / error).abs().max() < 5
    assert (x.mean(0) / (3 / n**0.5)).abs().max() < 4.5


def test_a_mixture_is_drawn_by_the_weights_of_its_components():
    """Neighbours of the smooth component differ by little, those of the rough one by about a standard deviation."""
    n = 2000
    prior = prior_from_description(MIXTURE, OPEN, 1)
    assert exact(prior)
    x = draw_fields(prior, generators(n))[:, 0]
    rough = x.diff(dim=1).square().mean(1).sqrt() > 0.5
    assert abs(float(rough.double().mean()) - 0.25) < 4 * (0.25 * 0.75 / n) ** 0.5
    step = 1 - 2 * torch.exp(torch.tensor(-1 / 24 / 0.02)) + 1  # E (x_i - x_j)^2 of the rough one
    assert float(x[rough].diff(dim=1).square().mean()) == pytest.approx(float(step), rel=0.05)


class Flowing:
    """A closed-form prior that claims to be known by its velocity alone."""

    def __init__(self, prior):
        self.prior = prior
        self.gaussian, self.components = False, None

    def __getattr__(self, name):
        return getattr(self.prior, name)


def test_other_priors_are_drawn_by_their_flow():
    prior = Flowing(prior_from_description({**GAUSSIAN, "source": {"law": "white"}}, OPEN, 1))
    assert not exact(prior)
    one = draw_fields(prior, [sample_generator(3, 5)], steps=8)
    torch.testing.assert_close(one, sample(prior, 1, sample_generator(3, 5), steps=8))
    assert not torch.allclose(one, draw_fields(prior.prior, [sample_generator(3, 5)]))  # another draw of the same law


@pytest.mark.parametrize("description", [GAUSSIAN, MIXTURE])
def test_a_field_depends_on_its_own_generator_alone(description):
    prior = prior_from_description(description, OPEN, 1)
    many = draw_fields(prior, generators(6))
    torch.testing.assert_close(many[4:5], draw_fields(prior, [sample_generator(0, 4)]))
    assert len(torch.unique(many[:, 0, 0])) == 6
