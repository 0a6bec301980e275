"""Priors in a few words of YAML."""

from __future__ import annotations

import textwrap

import pytest
import torch
import yaml

from infield import InfieldError
from infield.core.grid import Grid, PointSet
from infield.priors.gaussian.kernels import Matern, White
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior
from infield.priors.storage import from_yaml as module
from infield.priors.storage.from_yaml import prior_from_description

GRID = Grid.regular((8,), 1.0, periodic=True)

GAUSSIAN = """
prior: gaussian
law: {law: matern, nu: 1.5, length: 0.1}
mean: 20
scale: 3.5
units: mK
name: from a survey
"""

MIXTURE = """
prior: mixture
components:
  - {weight: 0.25, law: {law: matern, nu: 1.5, length: 0.05}, name: small}
  - {weight: 0.75, law: {law: matern, nu: 1.5, length: 0.3}}
source: {law: matern, nu: 0.5, length: 0.01}
mean: -1.0
"""


def read(text: str, grid: Grid | PointSet = GRID, channels: int = 1) -> GaussianPrior | MixturePrior:
    return prior_from_description(yaml.safe_load(text), grid, channels)


def apply(prior, x):
    return prior.covariance.apply(x)


def test_a_gaussian_prior():
    prior = read(GAUSSIAN)
    assert isinstance(prior, GaussianPrior) and prior.units == "mK" and prior.name == "from a survey"
    x = torch.randn((2, 1, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    same = gaussian_prior(Matern(1.5, 0.1), GRID)
    torch.testing.assert_close(apply(prior, x), apply(same, x))
    torch.testing.assert_close(prior.standardisation.to_units(x), 20 + 3.5 * x)
    assert not torch.allclose(apply(prior, x), apply(gaussian_prior(Matern(1.5, 0.2), GRID), x))


def test_what_is_left_out():
    prior = read("{prior: gaussian, law: {law: matern}}")
    assert prior.units is None and prior.name == str(Matern())
    assert float(prior.standardisation.shift) == 0 and float(prior.standardisation.scale) == 1
    assert torch.equal(prior.source.diagonal, torch.ones_like(prior.source.diagonal))  # white
    with_source = read("{prior: gaussian, law: {law: matern}, source: {law: matern, nu: 0.5, length: 0.05}}")
    torch.testing.assert_close(with_source.source.diagonal, Matern(0.5, 0.05).covariance(GRID).diagonal)


def test_a_mixture():
    prior = read(MIXTURE)
    assert isinstance(prior, MixturePrior) and prior.weights.tolist() == [0.25, 0.75]
    assert prior.components[0].name == "small"
    for part, length in zip(prior.components, (0.05, 0.3), strict=True):
        expected = gaussian_prior(Matern(1.5, length), GRID, source=Matern(0.5, 0.01))
        torch.testing.assert_close(part.covariance.diagonal, expected.covariance.diagonal)
        assert float(part.standardisation.shift) == -1
    equal = read("{prior: mixture, components: [{law: {law: matern}}, {law: {law: white}}], source: {law: white}}")
    assert equal.weights.tolist() == [0.5, 0.5]


def test_channels_and_points():
    two = read("{prior: gaussian, law: {law: matern}, mean: 2}", channels=2)
    assert two.mean.shape == (2, 8) and two.standardisation.shift.shape == (2, 1)
    points = PointSet(((0.0, 0.1), (0.5, 0.3), (0.7, 0.9)), ("y", "x"))
    assert read("{prior: gaussian, law: {law: matern}}", points).mean.shape == (1, 3)
    assert read(MIXTURE, points).velocity(torch.zeros(1, 1, 3).double(), 0.5).shape == (1, 1, 3)


def test_the_examples_of_the_page_are_valid():
    blocks = [block.split("\n\n")[0] for block in module.__doc__.split("::\n\n")[1:]]
    kinds = [type(read(textwrap.dedent(block))) for block in blocks]
    assert kinds == [GaussianPrior, MixturePrior]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "key 'prior': found None, expected one of gaussian, mixture"),
        ("[1, 2]", "key 'prior'"),
        ("just words", "key 'prior'"),
        ("prior: flow", "found 'flow'"),
        ("prior: [gaussian]", "key 'prior'"),
        ("prior: gaussian", "found no key 'law'"),
        ("{prior: gaussian, law: {law: matern}, lenght: 3}", "found key 'lenght'"),
        ("{prior: gaussian, law: {law: matern}, 3: 3}", "found key '3'"),
        ("{prior: gaussian, law: matern}", "found 'matern'"),
        ("{prior: gaussian, law: {law: matern, lenght: 3}}", "lenght"),
        ("{prior: gaussian, law: {law: matern, length: -3}}", "positive"),
        ("{prior: gaussian, law: {law: matern}, source: {law: pink}}", "found 'pink'"),
        ("{prior: gaussian, law: {law: matern}, mean: high}", "key 'mean': found 'high', expected a finite number"),
        ("{prior: gaussian, law: {law: matern}, mean: true}", "key 'mean'"),
        ("{prior: gaussian, law: {law: matern}, mean: .nan}", "key 'mean'"),
        ("{prior: gaussian, law: {law: matern}, scale: 0}", "expected a positive number"),
        ("{prior: gaussian, law: {law: matern}, scale: .inf}", "key 'scale'"),
        ("{prior: mixture, source: {law: white}}", "found no key 'components'"),
        ("{prior: mixture, source: {law: white}, components: []}", "at least one component"),
        ("{prior: mixture, source: {law: white}, components: 3}", "at least one component"),
        ("{prior: mixture, source: {law: white}, components: [matern]}", "component 0: found 'matern'"),
        ("{prior: mixture, source: {law: white}, components: [{weight: 1}]}", "component 0: found no key 'law'"),
        ("{prior: mixture, source: {law: white}, components: [{law: {law: white}, wait: 1}]}", "found key 'wait'"),
        ("{prior: mixture, source: {law: white}, components: [{law: {law: white}, weight: 0.4}]}", "sum to 1"),
        ("{prior: mixture, source: {law: white}, components: [{law: {law: white}, weight: x}]}", "key 'weight'"),
        ("{prior: mixture, components: [{law: {law: white}}]}", "key 'source': found none"),
        ("{prior: mixture, law: {law: white}, components: []}", "found key 'law'"),
    ],
)
def test_errors_are_one_line_that_says_what_and_where(text, message):
    with pytest.raises(InfieldError, match=message) as caught:
        read(text)
    assert "\n" not in str(caught.value)


def test_white_law_of_any_variance():
    prior = read("{prior: gaussian, law: {law: white, variance: 4.0}}")
    assert prior.covariance.trace == pytest.approx(4 * 8) == White(4.0).covariance(GRID).trace
