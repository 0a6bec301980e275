"""A Fourier neural operator: one network for every resolution (Li et al. 2021, arXiv:2010.08895)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from infield import InfieldError
from infield.priors.time_embedding import TimeEmbedding

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class FNO(nn.Module):
    """Maps a field `(batch, channel, *space)` and times `(batch,)` to a field of the same shape; zero before training.

    Arguments:
        channels: Channels of the field.
        ndim: Number of space axes, 1 to 3.
        modes: Fourier modes that the spectral layers see, along each half-axis; a coarser grid uses those that it has.
        width: Channels of the hidden layers.
        layers: Number of spectral layers.
        coordinates: Positions as further input channels: `linear` in [0, 1), `circle` (cosine and sine, for periodic
            axes), or `none`, with which the network commutes with shifts of a periodic domain.
    """

    def __init__(
        self,
        channels: int,
        ndim: int = 1,
        modes: int = 16,
        width: int = 32,
        layers: int = 4,
        coordinates: Literal["linear", "circle", "none"] = "linear",
    ) -> None:
        super().__init__()
        if ndim not in _CONVOLUTIONS or min(channels, modes, width, layers) < 1:
            raise InfieldError(
                f"FNO: found ndim {ndim}, channels {channels}, modes {modes}, width {width}, layers {layers}; expected "
                "ndim 1 to 3 and positive numbers"
            )
        if coordinates not in ("linear", "circle", "none"):
            raise InfieldError(f"FNO: coordinates: found {coordinates!r}, expected linear, circle or none")
        self.channels, self.ndim, self.coordinates = channels, ndim, coordinates
        self.arguments: dict[str, Any] = {
            "channels": channels,
            "ndim": ndim,
            "modes": modes,
            "width": width,
            "layers": layers,
            "coordinates": coordinates,
        }
        point = _CONVOLUTIONS[ndim]
        positions = {"linear": ndim, "circle": 2 * ndim, "none": 0}[coordinates]
        self.time = TimeEmbedding(2 * width)
        self.lift = point(channels + positions, width, kernel_size=1)
        self.lift_time = nn.Linear(2 * width, width)  # with `lift`: the features of time as constant input channels
        self.spectral = nn.ModuleList(_SpectralConvolution(width, modes, ndim) for _ in range(layers))
        self.local = nn.ModuleList(point(width, width, kernel_size=1) for _ in range(layers))
        self.modulation = nn.ModuleList(nn.Linear(2 * width, 2 * width) for _ in range(layers))
        self.project = point(width, 2 * width, kernel_size=1)
        self.head = point(2 * width, channels, kernel_size=1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Fields `(batch, channel, *space)` at times `(batch,)`; the result has the shape of `x`."""
        embedding, one = self.time(t), [1] * self.ndim
        h = self.lift(torch.cat([x, *self._positions(x)], dim=1)) + self.lift_time(embedding).reshape(len(x), -1, *one)
        for spectral, local, modulation in zip(self.spectral, self.local, self.modulation, strict=True):
            scale, shift = modulation(embedding).reshape(len(x), -1, *one).chunk(2, dim=1)
            h = h + functional.gelu((spectral(h) + local(h)) * (1 + scale) + shift)
        return self.head(functional.gelu(self.project(h)))

    def _positions(self, x: Tensor) -> list[Tensor]:
        positions = []
        for axis, n in enumerate(x.shape[2:]):
            s = torch.arange(n, device=x.device, dtype=x.dtype) / n
            s = s.reshape([-1 if a == axis else 1 for a in range(self.ndim)]).expand(len(x), 1, *x.shape[2:])
            if self.coordinates == "linear":
                positions.append(s)
            elif self.coordinates == "circle":
                positions += [(2 * math.pi * s).cos(), (2 * math.pi * s).sin()]
        return positions


class _SpectralConvolution(nn.Module):
    """Multiplies the lowest Fourier coefficients of a field by learned matrices, and drops the others."""

    def __init__(self, width: int, modes: int, ndim: int) -> None:
        super().__init__()
        self.modes, self.ndim = modes, ndim
        kept = [2 * modes - 1] * (ndim - 1) + [modes]
        # Real and imaginary parts: averaging, clipping and reduced precision know real parameters best.
        self.weight = nn.Parameter(torch.randn(width, width, *kept, 2) / width)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            axes, space = tuple(range(-self.ndim, 0)), x.shape[2:]
            # norm="forward": coefficients of a function, the same on every grid that resolves it.
            spectrum = torch.fft.rfftn(x.to(self.weight.dtype), dim=axes, norm="forward")
            there, here = self._kept(space, x.device)
            product = torch.einsum("bi...,io...->bo...", spectrum[there], torch.view_as_complex(self.weight)[here])
            filtered = torch.zeros_like(spectrum)
            filtered[there] = product
            if (
                self.ndim > 1
            ):  # axis by axis: a joint inverse may assume a symmetry that the learned weights do not have
                filtered = torch.fft.ifftn(filtered, dim=axes[:-1], norm="forward")
            return torch.fft.irfft(filtered, n=space[-1], dim=-1, norm="forward")

    def _kept(self, space: torch.Size, device: torch.device) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Indices of the coefficients below the Nyquist frequency, in the spectrum and in the weights."""
        there: list[Tensor] = []
        here: list[Tensor] = []
        for axis, n in enumerate(space):
            m = min(self.modes, (n + 1) // 2)
            low = torch.arange(m, device=device)
            negative = torch.arange(1 - m, 0, device=device)
            shape = [-1 if a == axis else 1 for a in range(self.ndim)]
            last = axis == self.ndim - 1
            there.append((low if last else torch.cat([low, negative % n])).reshape(shape))
            here.append((low if last else torch.cat([low, negative % (2 * self.modes - 1)])).reshape(shape))
        everything = (slice(None), slice(None))
        return (*everything, *there), (*everything, *here)
