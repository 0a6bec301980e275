"""The digest of a prior in closed form is of its law, not of one processor's rounding nor of a basis."""

from dataclasses import replace

import pytest
import torch
from examples.draws import OPEN, digests, priors, rng

from infield.core.grid import Grid
from infield.pipelines.run.digests import former_prior_digest, prior_digest
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior


def rounded_otherwise(tensor):
    """A tensor whose values differ in their last bits, as those of another processor do."""
    return tensor * (1 + 4e-16 * torch.randn(tensor.shape, generator=rng(7), dtype=torch.float64).clamp(-2, 2))


def elsewhere(prior):
    C, units = prior.covariance, prior.standardisation
    turn = torch.linalg.qr(torch.randn(C.rank, C.rank, generator=rng(8), dtype=torch.float64))[0]
    factors = (turn @ C.factors.flatten(1)).reshape(C.factors.shape)  # F^T F is the same
    return replace(
        prior,
        covariance=replace(C, diagonal=rounded_otherwise(C.diagonal), factors=factors),
        mean=rounded_otherwise(prior.mean),
        standardisation=replace(units, scale=rounded_otherwise(units.scale)),
    )


@pytest.mark.parametrize("name", ["dense in eigenvectors", "by FFT", "on a torus", "empirical", "fitted"])
def test_it_does_not_depend_on_last_bits_or_a_basis(name):
    prior = priors()[name]
    there = elsewhere(prior)
    assert prior_digest(there) == prior_digest(prior)
    assert former_prior_digest(there) != former_prior_digest(prior)


CHANGES = {
    "variance": lambda p: replace(p, covariance=replace(p.covariance, diagonal=p.covariance.diagonal * (1 + 1e-5),
                                                        factors=p.covariance.factors * (1 + 0.5e-5))),
    "one mode": lambda p: replace(p, covariance=replace(p.covariance, diagonal=scaled_at_one(p.covariance.diagonal))),
    "a factor left out": lambda p: replace(p, covariance=replace(p.covariance, factors=p.covariance.factors[1:])),
    "mean at one place": lambda p: replace(p, mean=p.mean + at_one(p.mean, 1e-4)),
    "shift": lambda p: p.in_units(1e-4, 1.0),
    "scale": lambda p: p.in_units(0.0, 1 + 1e-5),
    "description": lambda p: replace(p, provenance={**p.provenance, "law": "another"}),
}  # fmt: skip


def at_one(like, value):
    place = torch.zeros_like(like)
    place.view(-1)[like.numel() // 3] = value
    return place


def scaled_at_one(diagonal):
    return diagonal * (1 + at_one(diagonal, 1e-2))


@pytest.mark.parametrize("change", CHANGES)
def test_another_law_has_another_digest(change):
    prior = priors()["empirical"]
    assert prior_digest(CHANGES[change](prior)) != prior_digest(prior)


def test_so_have_other_lengths_grids_and_weights():
    laws = [gaussian_prior(Matern(1.5, length), grid) for length in (0.2, 0.2001)
            for grid in (OPEN, Grid.regular((6, 6), (1.0, 1.01)))]  # fmt: skip
    assert len({prior_digest(law) for law in laws}) == 4
    mixed = priors()["mixture"]
    assert prior_digest(replace(mixed, weights=torch.tensor([0.5001, 0.4999]).double())) != prior_digest(mixed)
    assert len(set(digests(prior_digest).values())) == len(priors())


def test_what_is_rounding_in_a_description_does_not_count():
    prior = priors()["on a torus"]
    about = prior.provenance
    rounding = replace(prior, provenance={**about, "clipped": about["clipped"] + 1e-17, "torus": tuple(about["torus"])})
    assert prior_digest(rounding) == prior_digest(prior)
    assert prior_digest(replace(prior, provenance={**about, "clipped": about["clipped"] + 1e-3})) != prior_digest(prior)
