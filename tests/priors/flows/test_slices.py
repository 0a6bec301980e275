"""A prior of slices as a prior of volumes: what it is slice by slice, and that nothing couples them."""

from __future__ import annotations

import pytest
import torch

from infield import InfieldError
from infield.core.grid import Grid
from infield.priors.covariance.base import Covariance
from infield.priors.flows.slices import SlicePrior
from infield.priors.gaussian.kernels import Matern, White
from infield.priors.gaussian.prior import empirical_prior, gaussian_prior
from infield.priors.storage.from_yaml import prior_from_description

GRID = Grid.regular((6, 8), 1.0, periodic=True)
DEPTH = 3


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def priors():
    fields = gaussian_prior(Matern(1.5, 0.3), GRID, channels=2).in_units(2.0, 3.0).covariance.sample(9, rng(4)) + 1
    components = [{"law": {"law": "matern", "nu": 1.5, "length": length}} for length in (0.1, 0.5)]
    description = {"prior": "mixture", "components": components, "source": {"law": "matern", "nu": 0.5, "length": 0.2}}
    return {
        "diagonal": gaussian_prior(Matern(1.5, 0.3), GRID).in_units(1.0, 2.0),
        "low rank, two channels": empirical_prior(fields, GRID, rank=4, source=Matern(0.5, 0.2)),
        "mixture": prior_from_description(description, GRID, 1),
    }


@pytest.mark.parametrize("name", sorted(priors()))
def test_each_slice_is_the_slice_priors(name):
    slices = priors()[name]
    volumes = SlicePrior(slices=slices, depth=DEPTH)
    x = volumes.source.sample(2, rng(1))
    assert x.shape == (2, volumes.source.event_shape[0], DEPTH, 6, 8)
    for z in range(DEPTH):
        torch.testing.assert_close(volumes.velocity(x, 0.3)[:, :, z], slices.velocity(x[:, :, z], 0.3))
        torch.testing.assert_close(volumes.covariance.apply(x)[:, :, z], slices.covariance.apply(x[:, :, z]))
        torch.testing.assert_close(volumes.source.apply(x)[:, :, z], slices.source.apply(x[:, :, z]))
        torch.testing.assert_close(volumes.mean[:, z], slices.mean)
        units = slices.standardisation.to_units(x[:, :, z])
        torch.testing.assert_close(volumes.standardisation.to_units(x)[:, :, z], units)
    moved = x.clone()
    moved[:, :, 1] += 1.0
    difference = (volumes.velocity(moved, 0.3) - volumes.velocity(x, 0.3)).abs().amax((0, 1, 3, 4))
    assert difference[1] > 0.01 and difference[[0, 2]].max() < 1e-12


def test_draws_of_its_low_rank_covariance_have_it():
    volumes = SlicePrior(slices=priors()["low rank, two channels"], depth=2)
    assert volumes.covariance.rank == 8
    draws = volumes.covariance.sample(20000, rng(1))
    unit = torch.eye(2 * 2 * 48, dtype=torch.float64).reshape(-1, *volumes.mean.shape)
    expected = volumes.covariance.apply(unit).flatten(1)
    found = draws.flatten(1).mT @ draws.flatten(1) / len(draws)
    assert (found - expected).abs().max() < 0.06 * expected.diagonal().max()
    blocks = expected.reshape(2, 2, 48, 2, 2, 48)  # (channel, z, point) twice
    assert not blocks[:, 0, :, :, 1].any() and blocks[0, 0, :, 1, 0].abs().max() > 1e-3


def test_through_a_window():
    """Slices that do not close live on a torus around them; the volume too, and no slice more."""
    grid = Grid.regular((40, 30), 1.0)
    slices = gaussian_prior(Matern(1.5, 0.1), grid, source=White())
    volumes = SlicePrior(slices=slices, depth=2)
    assert volumes.source.event_shape == (1, 2, *slices.source.event_shape[1:])
    x = volumes.source.sample(1, rng())
    assert volumes.standardisation.to_units(x).shape == (1, 1, 2, 40, 30)


def test_what_outgrows_memory(monkeypatch):
    monkeypatch.setattr("infield.priors.flows.slices.FACTOR_ENTRIES", 10)
    low_rank = priors()["low rank, two channels"]
    with pytest.raises(InfieldError, match='use sampler="dds"'):
        _ = SlicePrior(slices=low_rank, depth=2).covariance
    assert SlicePrior(slices=priors()["diagonal"], depth=2).covariance.rank == 0


def test_the_exact_posterior_is_known_of_gaussian_slices_only():
    exact, mixture = (SlicePrior(slices=priors()[name], depth=2) for name in ("diagonal", "mixture"))
    assert mixture.components is None and not mixture.gaussian
    (component,) = exact.components
    x = exact.source.sample(2, rng())
    torch.testing.assert_close(component.velocity(x, 0.4), exact.velocity(x, 0.4))
    assert isinstance(component.covariance, Covariance)
