"""What a run does with a law that was fitted to point data: who draws from it, and what makes it the same run."""

import argparse

import pytest
import torch
from examples.kriging_example import GRID, data_on

from infield.core.errors import InfieldError
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.pipelines.run.fit_options import (
    FitOptions,
    add_fit_arguments,
    fit_options,
    refuse_fit_of_others,
    refuse_unused_fit,
)
from infield.pipelines.run.fitted_field import Judged, fit_to_points
from infield.pipelines.run.prior_choice import fitted_prior
from infield.posterior.kriging.fitted import FittedField
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.kriging import Kriging


def measured(noise=0.05):
    _, y, operator = data_on(GRID, n=40)
    law = GaussianNoise(torch.tensor(noise, dtype=torch.float64))
    return Measurement(y=y[None, None], operator=operator, noise=law, grid=GRID, units="K")


def test_hyperparameters_are_drawn_for_the_sampler_that_uses_them_alone():
    own, other = (fit_to_points(measured(), 1.5, FitOptions(), 0, sampler) for sampler in (None, Exact()))
    assert len(own.states) > 1 and len(other.states) == 1
    assert isinstance(fitted_prior(None, own, None).prior, FittedField)
    assert fitted_prior(None, other, Exact()).prior.gaussian
    assert fitted_prior(None, own, None).sha256 == fitted_prior(None, other, Exact()).sha256  # one law


def test_a_law_that_does_not_fit_is_not_trusted_whoever_draws():
    good, bad = (fit_to_points(measured(noise), 1.5, FitOptions(), 0, Exact()) for noise in (0.05, 50.0))
    assert Judged.without_validation(good).verdict.trusted == "unchecked"
    assert Judged.without_validation(bad).verdict.trusted == 0
    assert Judged.without_validation(None).verdict.because.startswith("the prior was named")
    assert Judged.without_validation(None, "a doubt").attributes["trusted_because"] == "a doubt"


def given(*options):
    parser = argparse.ArgumentParser()
    add_fit_arguments(parser)
    return fit_options(parser.parse_args(options))


def test_options_that_have_no_effect_are_refused_even_with_their_default():
    for options in (["--trend", "constant"], ["--isotropic"], ["--hyper", "auto"], ["--no-validation"]):
        with pytest.raises(InfieldError, match=f"{options[0]}: found no fit to data at points"):
            refuse_unused_fit(given(*options))
    with pytest.raises(InfieldError, match="--trend: found no fit"):
        refuse_unused_fit(FitOptions(trend="linear"))
    refuse_unused_fit(given())
    assert given().of_law() == FitOptions().of_law() == {"trend": "constant", "isotropic": False, "hyper": "auto"}


@pytest.mark.parametrize("options", [["--no-validation"], ["--hyper", "sample"], ["--hyper", "auto"]])
def test_what_kriging_alone_heeds_is_refused_beside_another_sampler(options):
    with pytest.raises(InfieldError, match=f"{options[0]}: found the sampler exact, expected kriging"):
        refuse_fit_of_others(given(*options), Exact())
    for sampler in (None, Kriging()):
        refuse_fit_of_others(given(*options), sampler)
    refuse_fit_of_others(given("--trend", "linear", "--isotropic", "--hyper", "plug-in"), Exact())  # heeded by the fit


def test_collapsed_weights_are_not_trusted():
    judged = Judged.without_validation(None)
    assert judged.weighed({"chi_square": 1.0}) is judged and judged.weighed({"weights_collapsed": 0.0}) is judged
    found = judged.weighed({"weights_collapsed": 0.25, "effective_share": 0.004}).verdict
    assert found.trusted == 0 and "collapsed (effective share 0.004)" in found.because
