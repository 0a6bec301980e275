"""Sampling masks: against fastMRI's own, against their definitions, and Poisson-disc points by their distances."""

import numpy as np
import pytest

from infield import InfieldError
from infield.datasets.mri.masks import MASKS, centre_lines, discs, name_seed, sampling_mask

LINES = [name for name in MASKS if name != "poisson"]

# Lines that fastMRI 0.3.0 itself keeps, acceleration 4, centre fraction 0.08: of 40 with seed 3, of 41 with the seed of
# the name "file1.h5". In all 450 masks were compared when this was written (5 kinds, 6 widths, 3 accelerations,
# 5 seeds): equal, line by line.
FASTMRI = {
    "random": ([6, 8, 10, 16, 19, 20, 21, 23, 35], [6, 13, 19, 20, 21, 36, 40]),
    "equispaced": (
        [2, 6, 10, 14, 18, 19, 20, 21, 22, 26, 30, 34, 38],
        [3, 7, 11, 15, 19, 20, 21, 23, 27, 31, 35, 39],
    ),
    "equispaced-fraction": (
        [2, 7, 13, 18, 19, 20, 21, 23, 28, 34],
        [3, 8, 13, 19, 20, 21, 24, 29, 34, 40],
    ),
    "magic": (
        [3, 7, 11, 15, 19, 20, 21, 23, 27, 31, 35, 39],
        [1, 5, 9, 13, 17, 19, 20, 21, 25, 29, 33, 37],
    ),
    "magic-fraction": ([3, 9, 15, 19, 20, 21, 23, 29, 35], [5, 11, 17, 19, 20, 21, 25, 31, 37]),
}


def kept(name, count, acceleration, fraction, seed):
    return np.flatnonzero(sampling_mask(name, (2, count), acceleration, centre_fraction=fraction, seed=seed)[0])


@pytest.mark.parametrize("name", LINES)
def test_the_lines_are_those_of_fastmri(name):
    even, odd = FASTMRI[name]
    assert kept(name, 40, 4, 0.08, 3).tolist() == even
    assert kept(name, 41, 4, 0.08, name_seed("file1.h5")).tolist() == odd
    others = [kept(name, 41, 4, 0.08, name_seed(f"file{i}.h5")).tolist() for i in range(2, 8)]
    assert any(lines != odd for lines in others)


def test_random_lines_are_kept_with_their_probability():
    """320 lines, R 4, 26 in the middle: 80 expected; counts over 400 seeds within 4.5 standard errors."""
    masks = np.array([sampling_mask("random", (1, 320), 4, seed=s)[0] for s in range(400)])
    assert masks[:, 147:173].all() and centre_lines(320, 26)[147:173].all() and centre_lines(320, 26).sum() == 26
    p, outside = (80 - 26) / (320 - 26), 294
    error = np.sqrt(p * (1 - p) * outside / len(masks))
    assert abs(masks.sum(1).mean() - 80) < 4.5 * error
    assert abs(masks.sum(1).mean() - 320 / 4.2) > 4.5 * error  # negative control: another acceleration is told apart
    each = masks.mean(0)[~centre_lines(320, 26)]
    z = (each - p) / np.sqrt(p * (1 - p) / len(masks))
    assert np.abs(z).max() < 4.5 and 0.7 < z.var() < 1.4  # no line is preferred


@pytest.mark.parametrize("acceleration", [4, 8])
@pytest.mark.parametrize("name", ["equispaced-fraction", "magic-fraction"])
def test_fractions_meet_the_acceleration_and_the_others_do_not(name, acceleration):
    for count in (320, 368, 213):
        counts = [len(kept(name, count, acceleration, 0.32 / acceleration, s)) for s in range(40)]
        assert abs(np.mean(counts) - count / acceleration) < 0.09 * count / acceleration
        denser = [len(kept(name.split("-")[0], count, acceleration, 0.32 / acceleration, s)) for s in range(40)]
        assert np.mean(denser) > 1.15 * count / acceleration


@pytest.mark.parametrize("count", [40, 41])
def test_equispaced_lines_are_equally_spaced(count):
    lines = np.setdiff1d(kept("equispaced", count, 4, 0.0, 5), [])
    assert (np.diff(lines) == 4).all() and lines[0] < 4 and lines[-1] >= count - 4


@pytest.mark.parametrize("count", [320, 321])
def test_magic_lines_and_their_mirror_images_differ(count):
    """A line k and its mirror image -k hold the same of a real image: magic keeps hardly both, equispaced may."""

    def both(name, seed):
        lines = set((kept(name, count, 4, 0.0, seed) - count // 2).tolist())
        return len([k for k in lines if k and -k in lines]) / len(lines)

    assert max(both("magic", s) for s in range(20)) == 0
    assert max(both("equispaced", s) for s in range(20)) > 0.9


def test_lines_run_along_either_axis():
    across = sampling_mask("equispaced", (32, 48), 4, seed=1, lines=0)
    assert across.shape == (32, 48) and (across.all(1) | ~across.any(1)).all() and not across.all(1).all()
    along = sampling_mask("equispaced", (32, 48), 4, seed=1)
    assert (along.all(0) | ~along.any(0)).all()


def _kept_and_apart(radius, free, seed):
    rng = np.random.default_rng(seed)
    shape = radius.shape
    places = np.indices(shape) + rng.uniform(-0.5, 0.5, (2, *shape))
    kept = discs(radius, free, rng.permutation(radius.size), places)
    at = (places / (np.array(shape) / max(shape))[:, None, None]).reshape(2, -1).T
    return kept, np.linalg.norm(at[:, None] - at[None], axis=-1)


def _too_close(kept, apart, radius):
    chosen = kept.ravel()
    pairs = apart[np.ix_(chosen, chosen)] + 1e9 * np.eye(chosen.sum())
    return int((pairs < np.minimum.outer(radius.ravel()[chosen], radius.ravel()[chosen])).sum())


@pytest.mark.parametrize("shape", [(32, 24), (31, 25), (28, 28)])
def test_poisson_disc_points_keep_their_distance_and_none_could_be_added(shape):
    y, x = np.indices(shape)
    radius = 1.5 + 0.1 * np.hypot(y - shape[0] // 2, x - shape[1] // 2)
    free = np.hypot((y - shape[0] // 2) / shape[0], (x - shape[1] // 2) / shape[1]) < 0.5
    kept, apart = _kept_and_apart(radius, free, 3)
    assert _too_close(kept, apart, radius) == 0 and not kept[~free].any()
    forbidden = (apart[:, kept.ravel()] < radius.ravel()[kept.ravel()]).any(1).reshape(shape)
    assert forbidden[free].all()
    scattered = np.zeros(shape, dtype=bool)  # negative control: as many points anywhere
    scattered.flat[np.random.default_rng(0).choice(np.flatnonzero(free), kept.sum(), replace=False)] = True
    assert _too_close(scattered, apart, radius) > 10


@pytest.mark.parametrize(
    ("shape", "acceleration"), [((64, 48), 4), ((63, 51), 6), ((90, 90), 8), ((64, 64), 2), ((64, 64), 1.5)]
)
def test_poisson_disc_meets_the_acceleration(shape, acceleration):
    mask = sampling_mask("poisson", shape, acceleration, centre_fraction=0.12, seed=4)
    assert mask.size / mask.sum() == pytest.approx(acceleration, rel=0.02)
    middle = np.logical_and.outer(*(centre_lines(n, round(0.12 * n)) for n in shape))
    assert mask[middle].all() and not mask[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    radius = np.hypot(*np.meshgrid(*((np.arange(n) - n // 2) / (n / 2) for n in shape), indexing="ij"))
    density = [mask[(radius >= a) & (radius < a + 0.25) & ~middle].mean() for a in (0.15, 0.4, 0.65)]
    assert density[0] > density[1] > density[2] > 0 or acceleration < 2.5


def test_poisson_disc_depends_on_its_seed_alone():
    first, again, other = (sampling_mask("poisson", (40, 44), 5, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert sampling_mask("poisson", (40, 44), 5, seed=name_seed("file1.h5")).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("spiral", (8, 8), 4), "found 'spiral', expected one of random, equispaced"),
        (("random", (8, 8), 1), "expected an acceleration above 1"),
        (("random", (8, 8), float("nan")), "expected an acceleration above 1"),
        (("magic", (8, 64), 2.5), "found acceleration 2.5, expected a whole number"),
        (("poisson", (40, 40), 1.05), "found no points of acceleration 1.05 on 40 x 40 samples"),
    ],
)
def test_bad_numbers(arguments, words):
    with pytest.raises(InfieldError, match=words):
        sampling_mask(*arguments)


@pytest.mark.parametrize("name", ["random", "equispaced-fraction"])
def test_more_lines_in_the_middle_than_there_may_be(name):
    with pytest.raises(InfieldError, match=r"found 20 lines in the middle of 64, expected fewer than the 16\.0"):
        sampling_mask(name, (8, 64), 4, centre_fraction=0.31)
