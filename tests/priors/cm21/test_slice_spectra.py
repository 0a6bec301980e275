"""Spectra of slices as functions of parameters and distance, found from fields of known spectra."""

import pytest
import torch

from infield.priors.cm21.slice_spectra import KNOTS, Filters, SliceSpectra, fit_slice_spectra, hats
from infield.priors.cm21.slice_statistics import fit_slice_statistics
from infield.priors.cm21.whitening import vecchia_whitening

SIDE, DEPTH = 12, 96


def known(theta, s):
    """Amplitudes that fall with |k|, the faster the greater the parameter, and with distance; `(cones, 1, f, los)`."""
    knots = torch.arange(KNOTS).repeat(2)[:, None]
    steep = 0.1 + 0.4 * theta[:, :, None]
    along = torch.tensor([1.0, 0.6]).repeat_interleave(KNOTS)[:, None]
    return (along * 2 * torch.exp(-steep * knots) * (1.3 - 0.6 * s))[:, None]


def cones(n, seed):
    generator = torch.Generator().manual_seed(seed)
    theta, s = torch.rand(n, 1, generator=generator), torch.linspace(0, 1, DEPTH)
    white = torch.randn(n, 1, 1, SIDE, SIDE, DEPTH, generator=generator)
    fields = [vecchia_whitening(a, (SIDE, SIDE)).colour(xi)[0] for a, xi in zip(known(theta, s), white, strict=True)]
    return fields, theta, s


def test_hats_sum_to_one_and_tell_directions_apart():
    k = torch.linspace(0.01, 6, 50, dtype=torch.float64)
    across, along = hats(k, 0 * k), hats(0 * k, k)
    both = hats(k / 2**0.5, k / 2**0.5)
    for h in (across, along, both):
        assert torch.allclose(h.sum(0), torch.ones_like(k)) and (h >= 0).all()
    assert not across[KNOTS:].any() and not along[:KNOTS].any()
    assert torch.allclose(both[:KNOTS], both[KNOTS:])


def test_before_the_fit_it_is_white():
    assert torch.equal(SliceSpectra(2, 3)(torch.rand(4, 2), torch.rand(4, 7)), torch.ones(4, 3, 2 * KNOTS, 7))


def test_spectra_are_found_between_the_parameters_of_training():
    fields, theta, s = cones(60, 0)
    model = fit_slice_spectra(fields, theta, s, seed=0, steps=500, batch=512)
    elsewhere = torch.tensor([[0.2], [0.5], [0.8]])
    M = Filters((SIDE, SIDE, DEPTH)).expected.float()

    def powers(a):
        return torch.einsum("ncjz,ijl,nclz->nciz", a, M, a)

    found, expected = powers(model(elsewhere, s.expand(3, -1))), powers(known(elsewhere, s))
    many = (expected > 1e-3).all(-1)  # functions that this box has modes of
    error = (found / expected).log()[many][:, 12:-12]
    assert error.square().mean().sqrt() < 0.07 and many.sum() > 10
    # A control: at the parameters of the others they are off.
    wrong = (found.flip(0) / expected).log()[many][:, 12:-12]
    assert wrong.square().mean().sqrt() > 0.5


@pytest.mark.slow
def test_the_course_of_the_mean_tells_where_spectra_change():
    """A front that parameters move; sigma, by which fields are standardised, is known badly, and that does no harm."""
    generator = torch.Generator().manual_seed(3)
    theta, s = torch.rand(60, 1, generator=generator), torch.linspace(0, 1, DEPTH)

    def front(theta):
        return torch.sigmoid((s - 0.3 - 0.4 * theta) / 0.03)

    def loudness(theta):
        return (0.2 + 1.8 * front(theta))[:, None, None]

    mean = 2 * front(theta)[:, None] - 1
    statistics = fit_slice_statistics(mean, torch.full_like(mean, 0.5), theta, s, seed=0, steps=600, batch=512)
    white = torch.randn(60, 1, SIDE, SIDE, DEPTH, generator=generator)
    _, sigma = statistics(theta, s.expand(60, -1))
    fields = loudness(theta)[:, None] * white / sigma[:, :, None, None]
    elsewhere = torch.tensor([[0.2], [0.5], [0.8]])
    _, sigma = statistics(elsewhere, s.expand(3, -1))
    model = fit_slice_spectra(fields, theta, s, statistics=statistics, seed=0, steps=400, batch=512)
    many = [4, 5, 6, KNOTS + 4, KNOTS + 5, KNOTS + 6]  # functions that this box has many modes of
    found = (model(elsewhere, s.expand(3, -1)) * sigma[:, :, None])[:, :, many, 12:-12]
    expected = loudness(elsewhere)[..., 12:-12]
    assert (found / expected).log().square().mean().sqrt() < 0.14
    assert (model.statistics.course(elsewhere, s.expand(3, -1))[0].std(1) > 0.03).all()
    # A control: at the parameters of the others the front is elsewhere.
    assert (found.flip(0) / expected).log().square().mean().sqrt() > 0.5


def test_the_same_seed_gives_the_same_bits():
    fields, theta, s = cones(4, 1)
    first, again, other = (fit_slice_spectra(fields, theta, s, seed=seed, steps=20, batch=64) for seed in (0, 0, 1))
    assert torch.equal(first.layers[0].weight, again.layers[0].weight)
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)
