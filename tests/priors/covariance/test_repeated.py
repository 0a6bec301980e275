"""Values of modes of one variance."""

from __future__ import annotations

import pytest
import torch

from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Eigenbasis, Hartley, LeadingDirections, Pixels
from infield.priors.covariance.repeated import level_where_repeated

SPECTRUM = torch.tensor([[1.0, 4.0, 1.0 + 1e-11, 9.0, 4.0, 2.0]], dtype=torch.float64)
VALUES = torch.tensor([[1.0, 5.0, 4.0, 7.0, 8.0, -3.0]], dtype=torch.float64)


def orthogonal(seed: int, n: int, k: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(n, k, generator=generator, dtype=torch.float64)).Q


def test_modes_of_one_variance_have_one_value():
    source = Covariance.diagonal_in(Eigenbasis(orthogonal(0, 6, 6), (6,)), SPECTRUM)
    found = level_where_repeated(VALUES, source)
    torch.testing.assert_close(found, torch.tensor([[2.5, 6.5, 2.5, 7.0, 6.5, -3.0]], dtype=torch.float64))
    assert VALUES[0, 0] == 1.0  # what was given is left


def test_it_is_one_channel_at_a_time():
    source = Covariance.diagonal_in(Eigenbasis(orthogonal(0, 6, 6), (6,)), torch.cat([SPECTRUM, SPECTRUM.flip(1)]))
    found = level_where_repeated(torch.cat([VALUES, VALUES]), source)
    first = [2.5, 6.5, 2.5, 7.0, 6.5, -3.0]
    second = [1.0, 6.5, 4.0, 2.0, 6.5, 2.0]  # its variances are 2, 4, 9, 1, 4, 1
    torch.testing.assert_close(found, torch.tensor([first, second], dtype=torch.float64))


def test_leading_directions_are_levelled_and_what_is_off_them_is_not():
    spectrum = torch.tensor([[3.0, 3.0, 1.0, 0.5, 0.5, 0.5]], dtype=torch.float64)
    source = Covariance.diagonal_in(LeadingDirections.of(orthogonal(1, 6, 3), (6,)), spectrum)
    expected = torch.tensor([[3.0, 3.0, 4.0, 7.0, 8.0, -3.0]], dtype=torch.float64)
    torch.testing.assert_close(level_where_repeated(VALUES, source), expected)


@pytest.mark.parametrize("modes", [Hartley(1), Pixels()])
def test_in_a_fixed_basis_values_stay(modes):
    values = level_where_repeated(VALUES, Covariance.diagonal_in(modes, torch.ones_like(VALUES)))
    assert torch.equal(values, VALUES)


def test_the_covariance_then_depends_on_no_basis():
    V, turn = orthogonal(2, 6, 6), torch.eye(6, dtype=torch.float64)
    turn[[[1], [4]], [1, 4]] = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def of(vectors: torch.Tensor, levelled: bool) -> torch.Tensor:
        source = Covariance.diagonal_in(Eigenbasis(vectors, (6,)), SPECTRUM)
        variance = source.modes.analyse(x[:, None]).square().mean(0)
        diagonal = level_where_repeated(variance, source) if levelled else variance
        return (vectors * diagonal) @ vectors.mT

    torch.testing.assert_close(of(V, True), of(V @ turn, True))
    assert (of(V, False) - of(V @ turn, False)).abs().max() > 0.01  # negative control
