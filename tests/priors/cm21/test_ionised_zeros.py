"""Zeros of draws: as many as the place says, where temperatures are nearest to them."""

import torch

from infield.priors.cm21.ionised_zeros import zero_ionised
from infield.priors.cm21.voxel_transform import FAINTEST


def fields():
    generator = torch.Generator().manual_seed(0)
    place = torch.randn(3, 2, 8, 8, 10, generator=generator)
    place[..., 4:] -= 9  # nothing is ionised farther away
    temperature = torch.randn(3, 2, 8, 8, 10, generator=generator, dtype=torch.float64)
    temperature += torch.tensor([5.0, 5, -5, -5, 5, 5, -5, -5, 0.5, 0.5])
    temperature[0, 0, 0, 0, 9] = 0
    return temperature, place


def test_slices_have_the_zeros_that_the_place_tells():
    temperature, place = fields()
    found = zero_ionised(temperature, place)
    assert found.shape == temperature.shape and found.dtype == temperature.dtype
    assert torch.equal((found == 0).sum((2, 3)), (place > 0).sum((2, 3)))
    assert found[0, 0, 0, 0, 9] == FAINTEST  # no zero of its own


def test_zeros_are_where_temperatures_are_nearest_to_them_and_the_rest_stays():
    temperature, place = fields()
    found = zero_ionised(temperature, place)
    zero = found == 0
    assert torch.equal(found[~zero], torch.where(temperature == 0, FAINTEST, temperature)[~zero])
    for z, sign in ((0, 1.0), (3, -1.0)):  # warmer and colder than the background
        for t, here in zip(sign * temperature[..., z].flatten(0, 1), zero[..., z].flatten(0, 1), strict=True):
            assert t[here].max() < t[~here].min()
    by_place = torch.where(place > 0, 0.0, temperature)
    change = [(one - temperature)[..., :4].square().mean() for one in (found, by_place)]
    assert change[0] < 0.9 * change[1]  # a control: zeros at the place change more
