"""Points of a cell as channels, and back, index by index: the weights of stored networks are in this order."""

from __future__ import annotations

import itertools

import torch

from infield.priors.cm21 import density_network, initial_density
from infield.priors.networks import local_unet

CELLS, CHANNELS = (2, 3, 1), 2


def places(side):
    """Each channel, cell and point within it, and the channel that a point of a cell becomes."""
    for c, *cell in itertools.product(range(CHANNELS), *map(range, CELLS)):
        for i, j, k in itertools.product(range(side), repeat=3):
            fine = tuple(side * n + offset for n, offset in zip(cell, (i, j, k), strict=True))
            yield c, tuple(cell), (i, j, k), fine


def numbered(*shape):
    """A tensor whose values are all different."""
    return torch.arange(torch.Size(shape).numel()).reshape(shape).float()


def test_cells_of_the_local_network():
    side = local_unet.UNSHUFFLE
    x = numbered(2, CHANNELS, *(side * n for n in CELLS))
    folded = local_unet._fold(x)
    assert folded.shape == (2, CHANNELS * side**3, *CELLS)
    for c, cell, (i, j, k), fine in places(side):
        assert torch.equal(
            folded[(slice(None), ((c * side + i) * side + j) * side + k, *cell)], x[(slice(None), c, *fine)]
        )
    assert torch.equal(local_unet._unfold(folded), x)


def test_cells_of_the_density_network():
    side = density_network.UNSHUFFLE
    h = numbered(2, density_network.OUTPUTS * side**3, *CELLS)
    points = density_network._unfold(h)
    assert points.shape == (2, density_network.OUTPUTS, *(side * n for n in CELLS))
    for c, cell, (i, j, k), fine in places(side):
        if c < density_network.OUTPUTS:
            assert torch.equal(
                points[(slice(None), c, *fine)], h[(slice(None), ((c * side + i) * side + j) * side + k, *cell)]
            )
    h = numbered(2, 8 * CHANNELS, *CELLS)
    finer = density_network._finer(h)
    assert finer.shape == (2, CHANNELS, *(2 * n for n in CELLS))
    for c, cell, (i, j, k), fine in places(2):
        assert torch.equal(
            finer[(slice(None), c, *fine)], h[(slice(None), ((i * 2 + j) * 2 + k) * CHANNELS + c, *cell)]
        )
    assert finer.stride(1) == 1  # channels are last in memory


def test_cells_of_the_initial_density():
    side = 2
    x = numbered(2, CHANNELS, *(side * n for n in CELLS))
    folded, mean = initial_density._fold(x, side), initial_density._fold(x, side, mean=True)
    assert folded.shape == (2, *CELLS, CHANNELS * side**3)
    for c, cell, (i, j, k), fine in places(side):
        assert torch.equal(
            folded[(slice(None), *cell, ((c * side + i) * side + j) * side + k)], x[(slice(None), c, *fine)]
        )
    torch.testing.assert_close(mean, folded.unflatten(-1, (CHANNELS, -1)).mean(-1))
