"""Spellings of units: which are one, and factors known from their definitions."""

import numpy as np
import pytest

from infield import InfieldError
from infield.physics.units import conversion, known_units, same_units


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("K", "kelvin"),
        ("Kelvin", "K"),
        ("m s-1", "m/s"),
        ("m.s-1", "m s^-1"),
        ("degC", "celsius"),
        ("1e-3", "g kg-1"),
        ("0.001", "1e-3"),
        ("hPa", "mbar"),
        ("1", ""),
        ("furlongs of the moon", "furlongs of  the moon"),
    ],
)
def test_the_same(one, other):
    assert same_units(one, other) and same_units(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [("K", "degC"), ("m", "km"), ("K", "m"), ("1", "1e-3"), ("1", "K"), ("bananas", "K"), ("bananas", "apples")],
)
def test_not_the_same(one, other):
    assert not same_units(one, other) and not same_units(other, one)


@pytest.mark.parametrize(
    ("one", "other", "values", "expected"),
    [
        ("degC", "K", [0.0, 20.0], [273.15, 293.15]),
        ("K", "celsius", [273.15], [0.0]),
        ("degF", "degC", [32.0, 212.0], [0.0, 100.0]),
        ("knots", "m s-1", [1.0], [1852 / 3600]),
        ("km", "m", [1.5], [1500.0]),
        ("1e-3", "1", [35.0], [0.035]),
        ("g kg-1", "1e-3", [35.0], [35.0]),
        ("%", "1", [50.0], [0.5]),
    ],
)
def test_conversions(one, other, values, expected):
    np.testing.assert_allclose(conversion(one, other)(np.array(values)), expected, rtol=1e-12, atol=1e-10)


def test_a_standard_deviation_takes_the_slope_alone():
    assert conversion("degF", "K").slope == pytest.approx(5 / 9)


@pytest.mark.parametrize(("one", "other"), [("K", "m"), ("bananas", "K"), ("K", "bananas")])
def test_no_conversion(one, other):
    with pytest.raises(InfieldError, match="units"):
        conversion(one, other)


def test_what_is_known():
    assert known_units("m s-1") and known_units("1") and not known_units("bananas")
