"""`dataset.infield`: quantiles with units, at probabilities that the samples reach, and a plot."""

import matplotlib
import numpy as np
import pytest
import xarray as xr

from infield import InfieldError
from infield.datasets.formats.accessor import PosteriorAccessor

RNG = np.random.default_rng(0)


def posterior(n=19, dims=("y", "x"), channels=0, **attributes):
    shape = (*((channels,) if channels else ()), *range(5, 5 + len(dims)))
    names = (*(("channel",) if channels else ()), *dims)
    samples = RNG.standard_normal((n, *shape))
    coordinates = {d: (d, np.arange(k) * 0.5, {"units": "km"}) for d, k in zip(dims, range(5, 9), strict=False)}
    if channels:
        coordinates["channel"] = ("channel", np.arange(channels), {"flag_meanings": "u v"})
    units = {"units": "m s-1"}
    variables = {"samples": (("sample", *names), samples, units)}
    variables |= {name: (names, getattr(samples, name)(0), units) for name in ("mean", "std")}
    return xr.Dataset(variables, coordinates, attributes)


def test_quantiles_are_order_statistics_with_units():
    dataset = posterior()
    assert isinstance(dataset.infield, PosteriorAccessor)
    found = dataset.infield.quantile(0.9)  # the 18th of 19
    np.testing.assert_allclose(found, np.sort(dataset["samples"].values, axis=0)[17])
    assert found.attrs["units"] == "m s-1" and found.dims == ("y", "x")
    both = dataset.infield.interval(0.9)
    assert both.sizes["quantile"] == 2
    np.testing.assert_allclose(both[0], dataset["samples"].min("sample"))
    assert not np.allclose(found, np.sort(dataset["samples"].values, axis=0)[16])  # negative control


@pytest.mark.parametrize("q", [0.01, 0.96, 1.5, [0.5, 0.99], []])
def test_probabilities_that_the_samples_do_not_reach(q):
    with pytest.raises(InfieldError, match=r"for 19 samples, expected probabilities from 0\.05 to 0\.95"):
        posterior().infield.quantile(q)


def test_what_is_no_posterior_is_refused():
    with pytest.raises(InfieldError, match="expected a posterior with samples"):
        xr.Dataset({"a": 1}).infield.quantile(0.5)


def test_plots():
    with matplotlib.rc_context({"backend": "agg"}):
        assert [ax.get_title() for ax in posterior().infield.plot().axes[:2]] == ["mean", "standard deviation"]
        assert len(posterior(dims=("x",)).infield.plot().axes) == 1
        assert posterior(channels=2).infield.plot("v").axes
        with pytest.raises(InfieldError, match="found 'w', expected one of u, v"):
            posterior(channels=2).infield.plot("w")
        with pytest.raises(InfieldError, match="select a slice"):
            posterior(dims=("z", "y", "x")).infield.plot()
        matplotlib.pyplot.close("all")


def test_trust_in_words():
    assert posterior().infield.trusted == "unchecked"
    assert posterior(trusted=1, trusted_because="all is well").infield.trusted == "yes: all is well"


def test_other_units():
    """Standard deviations are scaled, values are shifted as well; the original is left alone."""
    dataset = posterior()
    for name in ("samples", "mean", "std"):
        dataset[name].attrs["units"] = "degC"
    dataset["cost"] = ("block", [3.0], {"units": "s"})
    found = dataset.infield.to("K")
    np.testing.assert_allclose(found["mean"], dataset["mean"] + 273.15)
    np.testing.assert_allclose(found["std"], dataset["std"])  # negative control: no shift
    assert found["samples"].attrs["units"] == "K" and dataset["samples"].attrs["units"] == "degC"
    assert found["cost"].attrs["units"] == "s" and found["mean"].dims == ("y", "x") and "y" in found.coords
    wind = posterior()
    np.testing.assert_allclose(wind.infield.to("km/h")["std"], 3.6 * wind["std"])
    with pytest.raises(InfieldError, match="units of one quantity"):
        posterior().infield.to("kg")
