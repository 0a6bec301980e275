"""Whether an array is k-space at all, centred, and of distinguishable coils."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from infield.core.errors import InfieldError
from infield.datasets.mri.coil_maps import centre_block
from infield.datasets.mri.kspace import KSpace, inverse_fourier

PEAK, LINES = 4.0, 16
"""Least ratio of the strongest line to the mean one, along axes of at least so many lines.

Of k-space the ratio is 24 to 118 at 64 lines and more, and 9 to 13 at 24 (it cannot exceed the number of lines); of
images, spokes and half-transformed data 1.1 to 3.
"""

SHIFT = 2
"""Lines by which the peak of k-space may lie off the middle: the phase of an image moves it so far."""

WIDEST_SHIFT = 0.25
"""Share of an axis up to which k-space is moved back; what lies further off was never centred."""

LEAST_WIDTH, VISIBLE, FAINTEST = 6, 0.25, 1e-3
"""Of a calibration block; the share of visible points outside the maps above which a person is warned; and the power,
of the largest, below which the side lobes of the taper hide anatomy: 3 % of the brightness."""

DOUBTFUL, UNEXPLAINED = 0.05, 0.15
"""Shares of the calibration block's energy, its noise taken off, above which coil maps are doubted and refused: 0.003
where they are right, 0.23 to 0.99 where they are conjugated, flipped, shifted or in another order; less of coils that
are nearly alike."""

DEPENDENT = 1e-10
"""Smallest over largest eigenvalue of the coils' Gram matrix of coils that are not copies of one another."""


def line_energy(kspace: KSpace) -> dict[str, float]:
    """Largest over mean energy of the measured lines along each axis of at least 16 lines; energy is per sample."""
    power = np.sum(np.abs(kspace.samples) ** 2, axis=0) * kspace.mask
    found = {}
    for axis, name in enumerate(("ky", "kx")):
        count = kspace.mask.sum(1 - axis)
        if kspace.mask.shape[axis] < LINES or (count > 0).sum() < LINES:
            continue
        energy = power.sum(1 - axis)[count > 0] / count[count > 0]
        found[name] = float(energy.max() / energy.mean())
    return found


def check_lines(kspace: KSpace) -> None:
    """Refuse what is no k-space.

    Raises:
        InfieldError: The energy of the lines along an axis has no peak.
    """
    for name, ratio in line_energy(kspace).items():
        if ratio < PEAK:
            raise InfieldError(
                found=f"lines along {name} of which the strongest has {ratio:.2g} times the mean energy",
                expected=f"k-space, with a peak of at least {PEAK:g}",
                remedy="images, spokes, half-transformed data and slices taken for coils are none: name the axes "
                "({order}), say that these are images ({image}), or take it as it is ({unchecked})",
                parameters={"order": ("coil", "ky", "kx"), "image": True, "unchecked": True},
            )


def without_dead_coils(kspace: KSpace) -> KSpace:
    """The slice without coils that are 0 everywhere.

    Raises:
        InfieldError: A coil is a copy of others.
    """
    power = np.sum(np.abs(kspace.samples) ** 2, axis=(1, 2))
    alive = power > 1e-20 * power.max()
    if not alive.all():
        kspace = dataclasses.replace(
            kspace,
            samples=kspace.samples[alive],
            calibration=None if kspace.calibration is None else kspace.calibration[alive],
            coil_maps=None if kspace.coil_maps is None else kspace.coil_maps[alive],
            noise_covariance=None if kspace.noise_covariance is None else kspace.noise_covariance[np.ix_(alive, alive)],
            history=(*kspace.history, f"empty coils dropped: {', '.join(map(str, np.flatnonzero(~alive)))}"),
        )
    measured = kspace.samples[:, kspace.mask] / np.sqrt(power[alive])[:, None]
    smallest, *_, largest = (*np.linalg.eigvalsh(measured @ measured.conj().T), 1.0)
    if len(measured) > 1 and smallest < DEPENDENT * largest:
        raise InfieldError(
            found=f"{len(measured)} coils of which one is a combination of others, to {smallest:.0e}",
            expected="coils that each measure something of their own",
            remedy="are two coils the same? Leave one out",
        )
    return kspace


def off_centre(kspace: KSpace) -> tuple[int, int]:
    """Lines by which the strongest sample, of power smoothed over 3 x 3, lies off the middle `(ky, kx)`."""
    power = np.sum(np.abs(kspace.samples) ** 2, axis=0)
    for axis in (0, 1):
        power = np.roll(power, 1, axis) + 2 * power + np.roll(power, -1, axis)
    peak = np.unravel_index(int(power.argmax()), power.shape)
    ky, kx = (int(p) - n // 2 for p, n in zip(peak, power.shape, strict=True))
    return ky, kx


def recentred(kspace: KSpace) -> tuple[KSpace, str | None]:
    """The slice with its peak in the middle where it lies off it, and a warning then.

    Samples that fall outside are dropped, and those of the other side count as not measured.
    """
    shift = off_centre(kspace)
    far = any(abs(s) > WIDEST_SHIFT * n for s, n in zip(shift, kspace.mask.shape, strict=True))
    if max(map(abs, shift)) <= SHIFT or far:
        return kspace, None
    words = f"k-space lay off its centre by {shift[0]} lines along ky and {shift[1]} along kx: moved back"
    calibration = None if kspace.calibration is None else _moved(kspace.calibration, shift)
    moved = dataclasses.replace(
        kspace,
        samples=_moved(kspace.samples, shift),
        mask=_moved(kspace.mask, shift),
        calibration=calibration,
        history=(*kspace.history, words),
    )
    return moved, words


def _moved(values: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    moved = np.zeros_like(values)
    there, here = zip(*(_overlap(n, s) for n, s in zip(values.shape[-2:], shift, strict=True)), strict=True)
    moved[..., there[0], there[1]] = values[..., here[0], here[1]]
    return moved


def _overlap(n: int, shift: int) -> tuple[slice, slice]:
    return slice(max(-shift, 0), n - max(shift, 0)), slice(max(shift, 0), n - max(-shift, 0))


@dataclass(frozen=True)
class Fit:
    """How coil maps fit the calibration block; shares are of its energy, from which the noise's part is taken off.

    Arguments:
        unexplained: Share that no image times the maps gives, of what lies where the maps are not 0.
        outside: Share of the energy where the maps are 0.
        visible_outside: Fraction of the points that exceed three times the noise, and where the maps are 0.
    """

    unexplained: float
    outside: float
    visible_outside: float

    @property
    def words(self) -> tuple[str, ...]:
        """The line of it in the file's history."""
        found: tuple[str, ...] = (
            f"the maps leave {self.unexplained:.2%} of the calibration block's energy unexplained",
        )
        if self.outside or self.visible_outside:
            found += (
                f"{self.outside:.2%} of that energy, and {self.visible_outside:.1%} of the points above the noise, lie "
                "outside the maps' support",
            )
        return found


def fit_of_maps(calibration: np.ndarray, maps: np.ndarray, width: int, psi: np.ndarray) -> Fit | None:
    """How maps fit; None of one coil, of a tiny block, or of one that holds mostly noise.

    Of images X_c of the tapered block, maps of unit power leave X - s (s^H X).

    Arguments:
        calibration: Samples `(coil, ky, kx)`.
        maps: Normalised, `(coil, y, x)`.
        width: Width of the block.
        psi: Covariance of the noise of the samples, `(coil, coil)`.
    """
    coils = len(maps)
    if coils < 2 or width < LEAST_WIDTH:
        return None
    images, noise = _calibration_images(calibration, width, psi)
    inside = maps.any(0)
    power = (np.abs(images) ** 2).sum(0)
    left = (np.abs(images - maps * (maps.conj() * images).sum(0)) ** 2).sum(0)
    signal = float((power - noise).sum())
    covered = float((power - noise)[inside].sum())
    if signal <= float(noise * power.size) or covered <= 0:
        return None
    visible = power > max(9 * noise, FAINTEST * float(power.max()))  # the taper's own side lobes are below
    return Fit(
        unexplained=max(float((left - noise * (1 - 1 / coils))[inside].sum()) / covered, 0.0),
        outside=max(1 - covered / signal, 0.0),
        visible_outside=float((visible & ~inside).sum() / max(visible.sum(), 1)),
    )


def _calibration_images(calibration: np.ndarray, width: int, psi: np.ndarray) -> tuple[np.ndarray, float]:
    """Images of the tapered block `(coil, y, x)`, and the noise's power in a point of all of them."""
    middle = centre_block(calibration.shape[1:], width)
    taper = np.hanning(width + 2)[1:-1]
    window = taper[:, None] * taper
    block = np.zeros_like(calibration)
    block[:, *middle] = calibration[:, *middle] * window
    return inverse_fourier(block), float(np.trace(psi).real * (window**2).sum()) / calibration[0].size


def check_maps(fit: Fit | None, words: str) -> tuple[str, ...]:
    """Refuse maps that do not fit the data; warnings where it is doubtful that they do.

    Raises:
        InfieldError: They leave too much of the calibration block unexplained.
    """
    if fit is None:
        return ()
    if fit.unexplained > UNEXPLAINED:
        raise InfieldError(
            found=f"{words} that leave {fit.unexplained:.0%} of the calibration block's energy unexplained",
            expected=f"at most {UNEXPLAINED:.0%}",
            remedy="conjugated, flipped, shifted or reordered maps do that, and slices taken for coils: estimate the "
            "maps ({coils_from}), or take it as it is ({unchecked})",
            parameters={"coils_from": "espirit", "unchecked": True},
        )
    found: tuple[str, ...] = ()
    if fit.unexplained > DOUBTFUL:
        found += (f"{words} leave {fit.unexplained:.0%} of the calibration block's energy unexplained",)
    if fit.outside > DOUBTFUL or fit.visible_outside > VISIBLE:
        found += (
            f"{fit.outside:.0%} of the calibration block's energy, and {fit.visible_outside:.0%} of the points above "
            "its noise, lie outside the support of the coil maps: a lower crop keeps more",
        )
    return found
