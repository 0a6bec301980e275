"""Which k-space samples an accelerated scan keeps: fastMRI's masks of whole lines, and Poisson-disc points.

The masks of lines follow the definitions of fastMRI's public code (Zbontar et al. 2018, arXiv:1811.08839; its file
`fastmri/data/subsample.py`, version 0.3), down to its random numbers: the same seed gives the same lines. With N lines,
acceleration R and L = round(N * centre fraction) lines in the middle, which are always kept:

| name | the other lines |
| --- | --- |
| `random` | each with probability (N / R - L) / (N - L), so that N / R are expected in all |
| `equispaced` | every R-th from a random offset: denser than R in all |
| `equispaced-fraction` | at multiples, rounded, of R (L - N) / (L R - N) from a random offset: about N / R in all |
| `magic` | every R-th, at offsets that differ by one between the two halves, so that a line and its mirror image (which hold the same of a real image) are not both kept (Defazio 2019, arXiv:1912.01101): denser than R in all |
| `magic-fraction` | the same with fewer of them, so that about N / R are kept in all |

`poisson` is no mask of lines: points whose distance from one another grows towards the outside, for scans that encode
two phases.
"""  # noqa: E501 - a table

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from infield.core.errors import ArgumentError

Seed = int | Sequence[int]

POISSON = "poisson"


def sampling_mask(
    name: str,
    shape: tuple[int, int],
    acceleration: float,
    *,
    centre_fraction: float | None = None,
    lines: int = 1,
    seed: Seed = 0,
) -> np.ndarray:
    """A mask by its name.

    Arguments:
        name: One of `MASKS`.
        shape: Samples `(ky, kx)`; frequency zero lies at `n // 2`.
        acceleration: R, above 1.
        centre_fraction: Share of the lines that is kept in the middle, for `poisson` the share of each axis; by default
            0.32 / R, which is fastMRI's 0.08 for R = 4 and 0.04 for R = 8.
        lines: The axis along which lines are left out.
        seed: An integer, or several as fastMRI makes them of a file's name (`name_seed`).

    Returns:
        Bool `(ky, kx)`.

    Raises:
        ArgumentError: There is no such mask, or its numbers do not fit the shape.
    """
    if name not in MASKS:
        raise ArgumentError(where="mask", found=f"'{name}'", expected=f"one of {', '.join(MASKS)}")
    fraction = 0.32 / acceleration if centre_fraction is None and acceleration > 0 else centre_fraction
    if not acceleration > 1 or fraction is None or not 0 <= fraction < 1:
        raise ArgumentError(
            where=f"mask '{name}'",
            found=f"acceleration {acceleration:g} and centre fraction {fraction}",
            expected="an acceleration above 1 and a share of at least 0 and below 1",
        )
    if name == POISSON:
        return poisson_disc(shape, acceleration, fraction, seed)
    count = shape[lines]
    kept = _LINES[name](count, acceleration, round(count * fraction), np.random.RandomState(seed))
    return np.broadcast_to(kept[:, None] if lines == 0 else kept, shape).copy()


def name_seed(name: str) -> tuple[int, ...]:
    """The seed that fastMRI's validation derives from the name of a volume's file, e.g. `file1000000.h5`."""
    return tuple(map(ord, name))


def centre_lines(count: int, centre: int) -> np.ndarray:
    """fastMRI's block of `centre` lines in the middle of `count`, bool."""
    kept = np.zeros(count, dtype=bool)
    start = (count - centre + 1) // 2
    kept[start : start + centre] = True
    return kept


def _check(name: str, count: int, acceleration: float, centre: int) -> None:
    if centre >= count / acceleration:
        raise ArgumentError(
            where=f"mask '{name}'",
            found=f"{centre} lines in the middle of {count}",
            expected=f"fewer than the {count / acceleration:.1f} that acceleration {acceleration:g} leaves",
            remedy="lower the centre fraction",
        )


def _random(count: int, acceleration: float, centre: int, rng: np.random.RandomState) -> np.ndarray:
    _check("random", count, acceleration, centre)
    probability = (count / acceleration - centre) / (count - centre)
    return (rng.uniform(size=count) < probability) | centre_lines(count, centre)


def _equispaced(count: int, acceleration: float, centre: int, rng: np.random.RandomState) -> np.ndarray:
    spacing = _whole("equispaced", acceleration)
    kept = centre_lines(count, centre)
    kept[rng.randint(0, spacing) :: spacing] = True
    return kept


def _equispaced_fraction(count: int, acceleration: float, centre: int, rng: np.random.RandomState) -> np.ndarray:
    _check("equispaced-fraction", count, acceleration, centre)
    spacing = acceleration * (centre - count) / (centre * acceleration - count)
    kept = centre_lines(count, centre)
    kept[np.around(np.arange(rng.randint(0, round(spacing)), count - 1, spacing)).astype(int)] = True
    return kept


def _magic(count: int, acceleration: float, centre: int, rng: np.random.RandomState) -> np.ndarray:
    spacing = _whole("magic", acceleration)
    return _two_combs(count, spacing, rng.randint(0, spacing)) | centre_lines(count, centre)


def _magic_fraction(count: int, acceleration: float, centre: int, rng: np.random.RandomState) -> np.ndarray:
    wanted = round(count / acceleration)
    centre = max(min(centre, wanted), 1)
    kept = centre_lines(count, centre)
    if wanted > centre:
        spacing = round(count / (wanted - centre))
        kept |= _two_combs(count, spacing, rng.randint(0, spacing))
    return kept


def _two_combs(count: int, spacing: int, offset: int) -> np.ndarray:
    """Every `spacing`-th line, counted outwards from frequency zero, from another offset on either side."""
    even = offset - offset % 2
    outwards, inwards = (even + 1, even + 2) if offset == even else (even + 3, even)
    positive, negative = np.zeros((count + 1) // 2, dtype=bool), np.zeros(count // 2, dtype=bool)
    positive[outwards::spacing] = True
    negative[inwards::spacing] = True
    return np.concatenate([negative[::-1], positive])


def _whole(name: str, acceleration: float) -> int:
    if acceleration != int(acceleration):
        raise ArgumentError(where=f"mask '{name}'", found=f"acceleration {acceleration:g}", expected="a whole number")
    return int(acceleration)


def poisson_disc(shape: tuple[int, int], acceleration: float, centre_fraction: float, seed: Seed = 0) -> np.ndarray:
    """Poisson-disc points of variable density inside the ellipse of the axes, with a fully sampled rectangle.

    Every sample has a random place in its cell. In random order it is kept unless one that was kept before is closer
    than that one's distance, which grows linearly from 1 at the rectangle: so no two are closer than the smaller of
    their distances, and none could be added. The growth is what gives the acceleration; below about 2.5 there is none,
    and the distance is less than 1 everywhere. (Not sigpy's function, which does much the same: where no growth gives
    the acceleration to a tenth, as on small shapes, it searches without end.)

    Arguments:
        shape: Samples `(ky, kx)`.
        acceleration: Samples over kept samples; met to 2 %, or to one sample.
        centre_fraction: Share of each axis that the rectangle takes.
        seed: Of the order.

    Raises:
        ArgumentError: No growth gives that acceleration.
    """
    rng = np.random.default_rng(seed)
    order, places = rng.permutation(shape[0] * shape[1]), rng.uniform(-0.5, 0.5, (2, *shape)) + np.indices(shape)
    centre = [round(n * centre_fraction) for n in shape]
    middle = np.logical_and.outer(*(centre_lines(n, c) for n, c in zip(shape, centre, strict=True)))
    outside = [np.maximum(np.abs(np.arange(n) - n // 2) - c / 2, 0.0) for n, c in zip(shape, centre, strict=True)]
    distance = np.hypot(*np.meshgrid(*(d / d.max() for d in outside), indexing="ij"))
    wanted = shape[0] * shape[1] / acceleration
    slow, fast = -1.0, float(max(shape))
    best = np.zeros(shape, dtype=bool)
    for _ in range(40):
        growth = (slow + fast) / 2
        mask = discs(1 + growth * (distance if growth > 0 else np.ones(shape)), distance < 1, order, places) | middle
        if abs(mask.sum() - wanted) < abs(best.sum() - wanted):
            best = mask
        if abs(mask.sum() - wanted) <= max(1.0, 0.005 * wanted):
            break
        slow, fast = (growth, fast) if mask.sum() > wanted else (slow, growth)
    if abs(best.sum() - wanted) > max(1.0, 0.02 * wanted):
        raise ArgumentError(
            where="mask 'poisson'",
            found=(
                f"no points of acceleration {acceleration:g} on {shape[0]} x {shape[1]} samples with centre fraction "
                f"{centre_fraction:g}, the nearest has {best.size / max(best.sum(), 1):.2f}"
            ),
            remedy="choose others",
        )
    return best


def discs(radius: np.ndarray, free: np.ndarray, order: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Keep points one after the other that no earlier one forbids.

    Arguments:
        radius: Distance within which a point forbids others, `(ky, kx)`, in samples of the longer axis.
        free: Which points may be kept, bool `(ky, kx)`.
        order: Flat indices of all points, in the order in which they are tried.
        places: Where they are, in samples, `(2, ky, kx)`, each within half a sample of its index.

    Returns:
        Bool `(ky, kx)`.
    """
    shape, free = radius.shape, free.copy()
    scale = [n / max(shape) for n in shape]
    y, x = (place / s for place, s in zip(places, scale, strict=True))
    kept = np.zeros(shape, dtype=bool)
    for row, column in zip(*(index.tolist() for index in np.unravel_index(order, shape)), strict=True):
        if not free[row, column]:
            continue
        kept[row, column] = True
        r = radius[row, column]
        up, left = int(r * scale[0]) + 1, int(r * scale[1]) + 1
        near = slice(max(row - up, 0), row + up + 1), slice(max(column - left, 0), column + left + 1)
        free[near] &= (y[near] - y[row, column]) ** 2 + (x[near] - x[row, column]) ** 2 >= r**2
    return kept


_LINES: dict[str, Callable[[int, float, int, np.random.RandomState], np.ndarray]] = {
    "random": _random,
    "equispaced": _equispaced,
    "equispaced-fraction": _equispaced_fraction,
    "magic": _magic,
    "magic-fraction": _magic_fraction,
}
MASKS = (*_LINES, POISSON)
"""Names of masks."""
