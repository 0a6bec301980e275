r"""A preconditioner for data that do not cover the domain: coil maps that end at a head, gaps in an image.

With the prior's precision Q = K^{-1} and information c where the data cover the field (the indicator D), the
posterior's precision is about M = Q + D c D. What is smooth and outside D is as improbable for Q + c as anything seen,
though the prior alone rules there; conjugate gradients preconditioned by Q + c take as many iterations as the
signal-to-noise ratio is large. An overlapping additive Schwarz method (Dryja & Widlund 1987; Toselli & Widlund 2005,
chapter 2) has no such factor:

    B = (Q + c)^{-1} + sum_j phi_j (Q + c_j)^{-1} phi_j,    c_j = Q(k_j),    k_j = 0.2 / rho_j.

The windows phi_j vanish on D and pass over one another where the distance to D is about rho_j, which grows by a
constant factor. A field that is seen up to a border is known beyond it on the scales that are longer than the distance
from the border; so c_j, what is known at rho_j, is the prior's precision of waves of that length.

The preconditioner is M^{-1} to a few steps of Chebyshev's iteration with B (Saad 2003, algorithm 12.1), a fixed
polynomial and so a symmetric matrix. It costs transforms of single fields, and no call of the data's operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from infield.core.spectra import wavenumbers
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley

NEAREST, GROWTH = 0.7, 2**1.5
"""The first distance, in grid points, at which a window begins, and the factor between neighbours."""

WAVES = 0.2
"""Wavenumber in cycles per point, times the distance to the seen region, of the longest waves unknown there."""

STEPS, CONDITION, POWERS = 6, 60.0, 12
"""Chebyshev's steps; the ratio of the largest to the smallest eigenvalue of B M for which they are made, see
`tests/posterior/inference/test_unseen_regions.py`; and the power iterations that find the largest."""

SINGLE = 2e3
"""Ratio of the prior's to the data's standard deviation of a mode up to which single precision suffices: the
eigenvalues of what is preconditioned change by less than a tenth then, and stay positive up to 5,000."""

MARGIN = 1.2
"""The largest eigenvalue is taken so much larger than it was found: then the polynomial is positive."""

WHOLE = 0.8
"""A region counts as one, and not as scattered sensors, where so much of it survives an opening by 3 points."""


@dataclass(frozen=True)
class UnseenRegions:
    """Windows on the regions without data.

    Arguments:
        inside: D, bool, shape `(*space)`.
        windows: phi_1, phi_2, ... of shape `(windows, *space)`.
        wavenumbers: k_1, k_2, ..., cycles per point.
    """

    inside: Tensor
    windows: Tensor
    wavenumbers: tuple[float, ...]

    @property
    def seen(self) -> float:
        """Fraction of the domain that the data cover."""
        return float(self.inside.double().mean())

    @classmethod
    def of(cls, seen: Tensor) -> UnseenRegions | None:
        """The windows of a field on a torus; None where all is seen, or what is seen is scattered points.

        Arguments:
            seen: Which values the data depend on, bool, shape `(*space)`.
        """
        inside = seen.numpy(force=True)
        if inside.all() or not inside.any():
            return None
        from scipy import ndimage  # a fifth of a second of a processor, for data with gaps

        wide = np.pad(inside, [(n // 2, n - n // 2) for n in inside.shape], mode="wrap")
        middle = tuple(slice(n // 2, n // 2 + n) for n in inside.shape)
        cube = np.ones([3 if n > 1 else 1 for n in inside.shape], dtype=bool)
        opened = ndimage.binary_dilation(ndimage.binary_erosion(wide, cube), cube)[middle]
        if (opened & inside).sum() < WHOLE * inside.sum():
            return None
        distance = torch.from_numpy(ndimage.distance_transform_edt(~wide)[middle]).to(seen.device)
        level = (distance / NEAREST).clamp_min(1.0).log() / math.log(GROWTH)
        numbers = range(1, math.ceil(float(level.max())) + 1)
        bumps = [_smooth_step(1 - (level - j).abs()).sqrt() for j in numbers]
        k = tuple(min(WAVES / (NEAREST * GROWTH**j), 0.5) for j in numbers)
        return cls(seen, torch.stack(bumps) * ~seen, k)

    def preconditioner(self, covariance: Covariance, information: Tensor) -> Callable[[Tensor], Tensor]:
        """An approximation of M^{-1} on coordinates w that the prior makes white, x = S w, S^2 = K.

        Arguments:
            covariance: K, whose diagonal part is taken.
            information: c of each mode, shape of the diagonal; an estimate, averaged over neighbours against its noise.

        Returns:
            A map of `(batch, modes)`.
        """
        information = _smooth(information)
        waves = _Waves.of(covariance, information)
        B, shape, modes = self.schwarz(covariance, information, waves), covariance.diagonal.shape, covariance.modes
        S, c, inside = waves.half(covariance.diagonal.sqrt()), waves.half(information), self.inside

        def M(w: Tensor) -> Tensor:
            x = inside * waves.fields(S * w)
            return w + S * waves.spectrum(inside * waves.fields(c * waves.spectrum(x)))

        v = torch.randn((1, *shape), generator=Generator().manual_seed(0), dtype=torch.float64).to(S)
        largest = 1.0
        for _ in range(POWERS):
            v = waves.fields(B(M(waves.spectrum(v / v.norm()))))
            largest = float(v.norm())
        upper, lower = MARGIN * largest, MARGIN * largest / CONDITION
        theta, delta = (upper + lower) / 2, (upper - lower) / 2

        def apply(w: Tensor) -> Tensor:
            r = waves.spectrum(modes.synthesise(w.to(S).reshape(-1, *shape)))
            d = B(r) / theta
            z, rho = d, delta / theta
            for _ in range(STEPS - 1):
                r = r - M(d)
                rho_next = 1 / (2 * theta / delta - rho)
                d = rho_next * rho * d + 2 * rho_next / delta * B(r)
                z, rho = z + d, rho_next
            return modes.analyse(waves.fields(z)).flatten(1).to(w)

        return apply

    def schwarz(
        self, covariance: Covariance, information: Tensor, waves: _Waves | None = None
    ) -> Callable[[Tensor], Tensor]:
        r"""B on half spectra of those coordinates, see `_Waves`.

        Its windows are S^{-1} phi_j S (1 + c_j S^2)^{-1} S phi_j S^{-1}. Modes without information in the data are
        damped by c S^2 / (1 + c S^2) before S^{-1}: the unit matrix is right for them already.
        """
        waves = waves or _Waves.of(covariance, information)
        S2 = covariance.diagonal
        whole = 1 + information * S2
        seen, damped = waves.half(whole), waves.half(information * S2.sqrt() / whole)
        k = wavenumbers(S2.shape[1:]).to(S2)
        terms = []
        for window, k_j in zip(self.windows, self.wavenumbers, strict=True):
            shell = (k - max(k_j, float(k[k > 0].min()))).abs()
            near = shell <= max(float(shell.min()), 0.15 * k_j)
            power = torch.stack([of_channel[near].mean() for of_channel in S2]).reshape(-1, *[1] * k.ndim)
            kernel = S2 / (1 + S2 * torch.minimum(1 / power, information))
            terms.append((window.to(seen), waves.half(kernel)))

        def apply(w: Tensor) -> Tensor:
            x = waves.fields(damped * w)
            found = torch.zeros_like(x)
            for window, kernel in terms:
                found += window * waves.fields(kernel * waves.spectrum(window * x))
            return w / seen + damped * waves.spectrum(found)

        return apply


@dataclass(frozen=True)
class _Waves:
    """Real fields by one half of their Fourier spectrum, the other half being its conjugate.

    What multiplies modes is symmetric in the wavenumber here, so that it acts on half spectra: half the transforms'
    cost. In single precision, a quarter, unless the ratio of the prior's to the data's standard deviations would lose
    its digits.

    Arguments:
        shape: Of space.
        dtype: Of the fields.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, covariance: Covariance, information: Tensor) -> _Waves:
        ratio = float((information * covariance.diagonal).max()) ** 0.5
        return cls(tuple(covariance.diagonal.shape[1:]), torch.float32 if ratio < SINGLE else torch.float64)

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(range(-len(self.shape), 0))

    def half(self, of_modes: Tensor) -> Tensor:
        """A half of what multiplies modes `(channel, *space)`, made symmetric."""
        turned = of_modes.flip(self.axes).roll([1] * len(self.shape), self.axes)
        return ((of_modes + turned) / 2)[..., : self.shape[-1] // 2 + 1].to(self.dtype).contiguous()

    def spectrum(self, x: Tensor) -> Tensor:
        """The half spectrum of fields `(batch, channel, *space)`."""
        return torch.fft.rfftn(x, dim=self.axes, norm="ortho")

    def fields(self, w: Tensor) -> Tensor:
        """The fields of half spectra."""
        return torch.fft.irfftn(w, self.shape, dim=self.axes, norm="ortho")


def applies_to(covariance: Covariance) -> bool:
    """Whether the basis has wavenumbers of all axes of space."""
    return isinstance(covariance.modes, Hartley) and covariance.diagonal.ndim == covariance.modes.ndim + 1


def _smooth(of_modes: Tensor, reach: int = 2) -> Tensor:
    """The mean over the neighbours up to `reach` modes away along each axis of space."""
    for axis in range(1, of_modes.ndim):
        shifts = range(-reach, reach + 1)
        of_modes = torch.stack([of_modes.roll(shift, axis) for shift in shifts]).mean(0)
    return of_modes


def _smooth_step(t: Tensor) -> Tensor:
    """From 0 to 1 for t from 0 to 1, with two continuous derivatives."""
    t = t.clamp(0, 1)
    return t**3 * (t * (6 * t - 15) + 10)
