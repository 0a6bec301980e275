"""A Fourier neural operator: one network for every resolution (Li et al. 2021, arXiv:2010.08895)."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from infield.core.errors import InfieldError
from infield.priors.networks.time_embedding import TimeEmbedding

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class FNO(nn.Module):
    """Maps a field `(batch, channel, *space)` and times `(batch,)` to a field of the same shape; zero before training.

    Arguments:
        channels: Channels of the field.
        ndim: Number of space axes, 1 to 3.
        modes: Fourier modes of the spectral layers, along each half-axis; a coarser grid uses those that it has.
        width: Channels of the hidden layers.
        layers: Number of spectral layers.
        coordinates: Positions as further input channels: `linear` in [0, 1), `circle` (cosine and sine, for periodic
            axes), or `none`, with which the network commutes with shifts of a periodic domain.
        padding: Zeros that are joined to the far end of each axis before the spectral layers and cut off after them, as
            a fraction of the domain: without them a non-periodic axis is treated as periodic.
        gates: Multiply the features of every spectral layer by learned functions of position, for laws that vary over
            the domain; needs coordinates.
    """

    def __init__(
        self,
        channels: int,
        ndim: int = 1,
        modes: int = 16,
        width: int = 32,
        layers: int = 4,
        coordinates: Literal["linear", "circle", "none"] = "linear",
        padding: float = 0.0,
        gates: bool = False,
    ) -> None:
        super().__init__()
        if ndim not in _CONVOLUTIONS or min(channels, modes, width, layers) < 1:
            raise InfieldError(
                where="FNO",
                found=f"ndim {ndim}, channels {channels}, modes {modes}, width {width}, layers {layers}",
                remedy="expected ndim 1 to 3 and positive numbers",
            )
        if coordinates not in ("linear", "circle", "none"):
            raise InfieldError(where="FNO: coordinates", found=f"{coordinates!r}", expected="linear, circle or none")
        if not 0 <= padding <= 4 or (gates and coordinates == "none"):
            raise InfieldError(
                where="FNO",
                found=f"padding {padding} and gates {gates} with coordinates {coordinates}",
                remedy="expected a padding from 0 to 4, and gates only where there are coordinates",
            )
        self.channels, self.ndim, self.coordinates, self.padding = channels, ndim, coordinates, padding
        self.arguments: dict[str, Any] = {
            "channels": channels,
            "ndim": ndim,
            "modes": modes,
            "width": width,
            "layers": layers,
            "coordinates": coordinates,
            "padding": padding,
            "gates": gates,
        }
        self.places: tuple[tuple[float, float], ...] | None = None
        point = _CONVOLUTIONS[ndim]
        positions = {"linear": ndim, "circle": 2 * ndim, "none": 0}[coordinates]
        self.time = TimeEmbedding(2 * width)
        self.lift = point(channels + positions, width, kernel_size=1)
        self.lift_time = nn.Linear(2 * width, width)  # with `lift`: the features of time as constant input channels
        self.spectral = nn.ModuleList(_SpectralConvolution(width, modes, ndim) for _ in range(layers))
        self.local = nn.ModuleList(point(width, width, kernel_size=1) for _ in range(layers))
        self.modulation = nn.ModuleList(nn.Linear(2 * width, 2 * width) for _ in range(layers))
        self.place: nn.Module | None = None
        if gates:
            self.place = nn.Sequential(
                point(positions, width, kernel_size=1), nn.GELU(), point(width, 2 * width, kernel_size=1), nn.GELU()
            )
            self.gates = nn.ModuleList(point(2 * width, 2 * width, kernel_size=1) for _ in range(layers))
        self.project = point(width, 2 * width, kernel_size=1)
        self.head = point(2 * width, channels, kernel_size=1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def placed(self, places: tuple[tuple[float, float], ...]) -> FNO:
        """The same weights, not copied, for another grid of the domain that the network was trained on.

        Arguments:
            places: For each axis where its first point lies and how far apart neighbours are, as shares of that domain;
                in training, and where this was not called, 0 and 1 / n.
        """
        other = copy.copy(self)
        other.places = places
        return other

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Fields `(batch, channel, *space)` at times `(batch,)`; the result has the shape of `x`."""
        embedding, one, space = self.time(t), [1] * self.ndim, x.shape[2:]
        inside: tuple[Any, ...] = (..., *(slice(n) for n in space))
        steps = [step for _, step in self._places(space)]
        padded = [max(round((1 + self.padding) / h), n) for h, n in zip(steps, space, strict=True)]
        positions = self._positions(padded, x)
        fields = [x] if positions is None else [x, positions[inside].expand(len(x), -1, *space)]
        h = self.lift(torch.cat(fields, dim=1)) + self.lift_time(embedding).reshape(len(x), -1, *one)
        h = functional.pad(h, [w for n, m in zip(reversed(space), reversed(padded), strict=True) for w in (0, m - n)])
        place = None if self.place is None else self.place(positions)
        for layer, (spectral, local) in enumerate(zip(self.spectral, self.local, strict=True)):
            modulation = self.modulation[layer](embedding).reshape(len(x), -1, *one)
            if place is not None:
                modulation = modulation + self.gates[layer](place)
            scale, shift = modulation.chunk(2, dim=1)
            h = h + functional.gelu((spectral(h) + local(h)) * (1 + scale) + shift)
        return self.head(functional.gelu(self.project(h[inside])))

    def _places(self, space: torch.Size) -> tuple[tuple[float, float], ...]:
        return self.places or tuple((0.0, 1 / n) for n in space)

    def _positions(self, shape: list[int], x: Tensor) -> Tensor | None:
        """Coordinates of a grid as shares of the domain, shape `(1, positions, *shape)`; None for none."""
        if self.coordinates == "none":
            return None
        positions = []
        for axis, (n, (first, step)) in enumerate(zip(shape, self._places(x.shape[2:]), strict=True)):
            s = first + step * torch.arange(n, device=x.device, dtype=x.dtype)
            s = s.reshape([-1 if a == axis else 1 for a in range(self.ndim)]).expand(shape)
            positions += [s] if self.coordinates == "linear" else [(2 * math.pi * s).cos(), (2 * math.pi * s).sin()]
        return torch.stack(positions)[None]


class _SpectralConvolution(nn.Module):
    """Multiplies the lowest Fourier coefficients of a field by learned matrices, and drops the others."""

    def __init__(self, width: int, modes: int, ndim: int) -> None:
        super().__init__()
        self.modes, self.ndim = modes, ndim
        kept = [2 * modes - 1] * (ndim - 1) + [modes]
        # Real and imaginary parts: averaging, clipping and reduced precision are implemented for real parameters.
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
