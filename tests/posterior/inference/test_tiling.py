"""Tiles with halos on a ring, beside sets of points written out."""

from __future__ import annotations

import pytest

from infield.core.errors import InfieldError
from infield.posterior.inference.tiling import Tiling


@pytest.mark.parametrize(("n", "size", "halo"), [(20, 6, 2), (20, 5, 0), (9, 4, 3), (12, 3, 1), (7, 7, 2), (10, 3, 5)])
def test_cores_and_regions_are_sets_of_points(n, size, halo):
    """By points modulo n: cores part the ring, a region is its core and the halo, neighbours are those that meet."""
    tiling = Tiling((n,), (size,), (halo,))
    cores, regions = {}, {}
    for tile in tiling.tiles:
        (core,), (region,), (own,) = tiling.core(tile), tiling.region(tile), tiling.own(tile)
        cores[tile] = set(core)
        around = {(i + d) % n for i in core for d in range(-halo, halo + 1)}
        regions[tile] = {i % n for i in region}
        assert regions[tile] == around and len(region) == len(around)  # each point once
        assert [i % n for i in list(region)[own]] == list(core)
        assert tiling.whole(tile) == (len(around) == n)
    assert sorted(i for core in cores.values() for i in core) == list(range(n))
    assert tiling.counts == (len(cores),)
    for tile in tiling.tiles:
        expected = [j for j in tiling.tiles if regions[tile] & cores[j] or regions[j] & cores[tile]]
        assert tiling.neighbours(tile) == expected


def test_tiles_of_two_axes():
    tiling = Tiling((8, 9), (4, 3), (1, 0))
    assert tiling.counts == (2, 3) and len(tiling.tiles) == 6
    assert tiling.core((1, 2)) == (range(4, 8), range(6, 9))
    assert tiling.region((1, 2)) == (range(3, 9), range(6, 9)) and not tiling.whole((1, 2))
    assert tiling.own((1, 2)) == (slice(1, 5), slice(0, 3))
    assert tiling.neighbours((0, 1)) == [(0, 1), (1, 1)]


@pytest.mark.parametrize(("tile", "halo"), [((0,), (1,)), ((3,), (-1,)), ((3, 3), (1,))])
def test_wrong_tiles(tile, halo):
    with pytest.raises(InfieldError, match="tiles: found"):
        Tiling((8,), tile, halo)
    Tiling((8,), (1,), (0,))
