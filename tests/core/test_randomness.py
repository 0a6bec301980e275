"""Random numbers belong to samples: number i is the same in every batch."""

from __future__ import annotations

import itertools

import pytest
import torch

from infield.core.randomness import SampleStreams, normal


def numbers(seed: int, indices: list[int]) -> dict[int, torch.Tensor]:
    """Three successive draws of different shapes, by the number of the sample."""
    streams = SampleStreams(seed, indices)
    parts = [normal(streams, len(indices), shape).flatten(1) for shape in ((2, 3), (5,), (0,), (1, 4))]
    return dict(zip(indices, torch.cat(parts, dim=1), strict=True))


@pytest.mark.parametrize("batches", [[[0], [1], [2], [3]], [[3, 2, 1, 0]], [[2, 0], [1, 3]], [[0, 1, 2], [3, 100]]])
def test_sample_i_is_the_same_bits_in_every_batch_and_order(batches):
    together = numbers(5, [0, 1, 2, 3])
    for batch in batches:
        for i, row in numbers(5, batch).items():
            assert i not in together or torch.equal(row, together[i])


def test_one_generator_for_the_batch_would_not_do():
    """Negative control: rows of a common stream depend on the batch."""

    def common(n: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(5)
        return torch.cat([normal(generator, n, (3,)), normal(generator, n, (3,))], dim=1)

    assert not torch.equal(common(4)[:2], common(2))


def test_another_seed_changes_every_sample_and_every_number():
    one, other = numbers(5, list(range(20))), numbers(6, list(range(20)))
    for i in range(20):
        assert (one[i] != other[i]).all()


def test_seed_and_number_are_not_exchangeable():
    pairs = {(s, i): numbers(s, [i])[i][0].item() for s, i in itertools.product(range(6), range(6))}
    assert len(set(pairs.values())) == 36


def test_streams_are_standard_normal_and_independent():
    n = 4000
    x = torch.stack(list(numbers(0, list(range(n))).values()))
    assert x.dtype == torch.float64
    assert float(x.mean(0).abs().max()) * n**0.5 < 4.5
    second = x.mT @ x / n - torch.eye(x.shape[1])
    assert float((second / (1 + torch.eye(x.shape[1])).sqrt()).abs().max()) * n**0.5 < 4.5
    neighbours = (x[1:] * x[:-1]).mean(0)  # sample i beside sample i + 1
    assert float(neighbours.abs().max()) * n**0.5 < 4.5


def test_as_many_streams_as_samples():
    streams = SampleStreams(0, range(3))
    assert len(streams) == 3
    with pytest.raises(ValueError, match="3 sample streams for a batch of 4"):
        normal(streams, 4, (2,))


def test_large_seeds_and_numbers_have_their_own_streams():
    i = 2**40
    assert not torch.equal(numbers(2**63, [i])[i], numbers(2**63, [i + 1])[i + 1])
    assert torch.equal(numbers(2**63, [i])[i], numbers(2**63, [7, i])[i])
