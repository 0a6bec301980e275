r"""Data of an interferometer, conditioned on mode by mode across the sky.

Where neither operator nor covariance prefers a place across, they keep Fourier modes across apart: with X_k the mode of
a field at each cell of the line of sight (and in each channel of the field), orthonormal,

.. math:: y_k = A_k X_k + n_k, \qquad E\,X_k X_k^H = F^H D_k F, \qquad E\,n_k n_k^H = 2 V_k,

V_k the variances of real and imaginary parts, F the identity or the Fourier transform along the line of sight. So the
data-by-data matrix falls apart into

.. math:: \Gamma_k = (A_k F^H) D_k (A_k F^H)^H + 2 V_k,

one small matrix a mode, and with real and imaginary parts in the place of complex numbers
:math:`(A K A^T + R)^{-1} r` is :math:`2 \Gamma_k^{-1} r_k`. Exact to rounding, where conjugate gradients stop early;
few modes are measured, so that what they leave would all be in these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from infield.physics.cm21.interferometer import Interferometer
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.composition import LinearComposition
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley, HartleyAcross, Modes

ENTRIES = 40_000_000
"""Of all A_k together, at most: 640 MiB."""

FLOAT32_RTOL = 1e-6
"""Largest difference, relative, that is taken for one of rounding: a part of a lightcone is in single precision."""

SYMMETRY_RTOL = 1e-9
"""The same for the variances of k and -k."""

MAX_VALUES_PER_BATCH = 4_000_000
"""Values of fields that the operator is shown together."""


@dataclass(frozen=True)
class TransverseModeSolver:
    """The parts A_k F^H and V_k of linear data.

    Arguments:
        matrices: A_k F^H, complex, shape `(modes, channels of data, channel of field * los)`.
        variance: V_k, shape `(modes, channels of data)`; 1 where nothing was measured.
        places: Of the modes, kx and ky in the data, each of shape `(modes,)`.
        modes: F and the basis of the covariances that it supports.
    """

    matrices: Tensor
    variance: Tensor
    places: tuple[Tensor, Tensor]
    modes: Modes

    @classmethod
    def of(cls, measurement: Measurement, modes: Modes) -> TransverseModeSolver | None:
        """The parts of a measurement by an interferometer, perhaps of innovations; None where modes are not apart.

        Arguments:
            measurement: With Gaussian noise, of fields `(channel, x, y, los)`.
            modes: Basis of the covariances to come.
        """
        outer = measurement.operator
        while isinstance(outer, LinearComposition):
            outer = outer.operators[0]
        along = isinstance(modes, Hartley) and modes.ndim == 3
        if not isinstance(outer, Interferometer) or not isinstance(measurement.noise, GaussianNoise):
            return None
        if not (isinstance(modes, HartleyAcross) or along) or not _apart(measurement):
            return None
        shape = tuple(outer.data_shape)
        seen = measurement.observed if measurement.observed is not None else torch.ones(shape, dtype=torch.bool)
        seen = seen & outer.observed
        variance = measurement.noise.variance.expand(shape)
        if (seen[0] != seen[1]).any() or (variance[0] != variance[1])[seen[0]].any():
            return None
        kx, ky = seen[0].any(-1).nonzero(as_tuple=True)
        places = (kx, ky)
        channels, *_, depth = measurement.event_shape
        if len(places[0]) * shape[-1] * channels * depth > ENTRIES:
            return None
        matrices = _responses(measurement, places)
        if along:  # F^H of columns
            matrices = torch.fft.ifft(matrices.unflatten(-1, (channels, depth)), norm="ortho").flatten(-2)
        at = seen[0][places]
        return cls(torch.where(at[..., None], matrices, 0.0), torch.where(at, variance[0][places], 1.0), places, modes)

    def applies_to(self, covariance: Covariance) -> bool:
        """Whether a covariance keeps modes apart, as those do that are even in the wavenumber."""
        d = covariance.diagonal
        if covariance.rank or covariance.modes != self.modes or d[..., 0, 0, :].numel() != self.matrices.shape[-1]:
            return False
        axes = (1, 2, 3) if isinstance(self.modes, Hartley) else (1, 2)
        opposite = d.flip(axes).roll([1] * len(axes), axes)
        return bool(((d - opposite).abs() <= SYMMETRY_RTOL * (d + d.mean())).all())

    def solve(self, r: Tensor, covariance: Covariance) -> Tensor:
        """(A K A^T + R)^{-1} r for r of shape `(batch, 2, kx, ky, channels)`, 0 where nothing was measured; same shape.

        Arguments:
            r: Data.
            covariance: K, for which `applies_to` is true.
        """
        kx, ky = self.places
        D = covariance.diagonal[:, kx, ky].movedim(0, 1).flatten(1)  # of mode, channel and place
        gamma = (self.matrices * D[:, None]) @ self.matrices.mH
        gamma = gamma + torch.diag_embed(2 * self.variance).to(gamma)
        r_k = torch.complex(r[:, 0, kx, ky], r[:, 1, kx, ky]).permute(1, 2, 0).to(gamma)
        z_k = 2 * torch.cholesky_solve(r_k, torch.linalg.cholesky(gamma)).permute(2, 0, 1)
        z = torch.zeros_like(r)
        z[:, 0, kx, ky], z[:, 1, kx, ky] = z_k.real.to(r), z_k.imag.to(r)
        return z


def _apart(measurement: Measurement) -> bool:
    """Whether a field that is moved across gives the data of the same field times phases: shown by one random field."""
    x = torch.randn(measurement.event_shape, generator=Generator().manual_seed(0), dtype=torch.float64)
    x = x[None].to(measurement.y)
    steps = (1, 2)
    here, moved = (_complex(measurement.operator.A(field)) for field in (x, x.roll(steps, (2, 3))))
    nx, ny = x.shape[2:4]
    turns = steps[0] * torch.fft.fftfreq(nx).to(x)[:, None] + steps[1] * torch.fft.rfftfreq(ny).to(x)
    expected = here * torch.polar(torch.ones_like(turns), -2 * math.pi * turns)[..., None]
    return bool((moved - expected).abs().max() <= FLOAT32_RTOL * here.abs().max())


def _responses(measurement: Measurement, places: tuple[Tensor, Tensor]) -> Tensor:
    """A_k: what fields give that are 1 in one cell of the line of sight at x = y = 0, all of whose modes are alike."""
    channels, nx, ny, depth = measurement.event_shape
    columns = torch.arange(channels * depth)
    found = []
    for some in columns.split(max(MAX_VALUES_PER_BATCH // math.prod(measurement.event_shape), 1)):
        x = measurement.y.new_zeros((len(some), channels, nx, ny, depth))
        x[torch.arange(len(some)), some // depth, 0, 0, some % depth] = math.sqrt(nx * ny)
        found.append(_complex(measurement.operator.A(x))[:, places[0], places[1]])
    return torch.cat(found).permute(1, 2, 0)


def _complex(y: Tensor) -> Tensor:
    return torch.complex(y[:, 0], y[:, 1])
