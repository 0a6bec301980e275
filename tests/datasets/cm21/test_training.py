"""The data module of lightcones: which numbers it takes. What it reads is tested where lightcones are trained on."""

import pytest

from infield import InfieldError
from infield.datasets.cm21.training import LightconeFile

LEAST = {"batch_size": 1, "windows": 1, "window": 2, "workers": 0, "num_workers": 0, "starts": 0, "validation": 0.0}


def test_the_least_numbers_are_taken_and_smaller_ones_are_refused():
    LightconeFile("cones.h5", **LEAST)
    for name, least in LEAST.items():
        with pytest.raises(InfieldError, match="lightcones to train on"):
            LightconeFile("cones.h5", **{**LEAST, name: least - 1})
    with pytest.raises(InfieldError, match="validation 1"):
        LightconeFile("cones.h5", **{**LEAST, "validation": 1.0})
