"""Draws beside exact ones: a classifier finds what is wrong, and leaves the exact posterior alone."""

from dataclasses import replace

import pytest
from examples.calibration_example import measurement
from torch import Generator

from infield.core.randomness import SampleStreams
from infield.physics.operators.links import Exponential
from infield.posterior.calibration.beside_exact import compare_with_exact, is_known
from infield.posterior.calibration.truths import draw_from_prior, with_data_of
from infield.posterior.samplers.exact import Exact, posterior_mean
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

SIMULATIONS, DRAWS = 8, 32


@pytest.mark.parametrize("width", [1.0, 1.5])
def test_a_wrong_spread_is_distinguished_and_the_exact_one_is_not(width):
    """Deviations of the draws from the mean of their own posterior, 1.5 times the right ones."""
    blank = measurement()
    prior = gaussian_prior(Matern(nu=1.5, length=0.3), blank.grid)
    assert is_known(prior, blank)

    def read(s):
        generator = Generator().manual_seed(s)
        case = with_data_of(blank, draw_from_prior(prior, 1, generator), generator)
        mean = posterior_mean(prior, case)
        return case, mean + width * (Exact()(prior, case, DRAWS, generator).samples - mean)

    found = compare_with_exact(prior, SIMULATIONS, DRAWS, read, lambda s: SampleStreams(s, range(DRAWS)))
    assert found.draws == SIMULATIONS * DRAWS
    assert found.right == (width == 1.0), found.words
    assert ("does not distinguish" in found.words) == (width == 1.0)


def test_where_the_exact_posterior_is_not_known():
    """Of a flow, or of data that are not linear and Gaussian, there is no reference."""
    blank = measurement()
    prior = gaussian_prior(Matern(nu=1.5, length=0.3), blank.grid)
    assert not is_known(object(), blank)
    assert not is_known(prior, replace(blank, operator=Exponential(blank.grid, 1)))
