r"""Synthetic brains: complex axial MR images of heads, for priors that no patient's data went into.

The anatomy is that of one template (`datasets.anatomy.brain_template`); all else is drawn for each sample: where
the slice lies, the head's size, turn and smooth deformation, how sharp and how individual its tissues are, a skull and
a scalp around the brain, lesions, the sequence of the scan with the tissues' relaxation, the coils' brightness, and a
smooth phase. The signal of each tissue is that of a spin echo, or of one after an inversion,

.. math:: M_0 (1 - e^{-T_R/T_1})\, e^{-T_E/T_2}, \qquad M_0 |1 - 2 e^{-T_I/T_1} + e^{-T_R/T_1}|\, e^{-T_E/T_2},

with relaxation times near those measured at 3 T (Wansapura et al. 1999, doi:10.1002/(SICI)1522-2586(199904)9:4;
Stanisz et al. 2005, doi:10.1002/mrm.20605), 10 % apart from head to head. The image is computed at twice the
resolution and its k-space cut, as a scanner does it: partial volumes and ringing at borders come from that.

A sample is the same head on every grid of a field of view, but for what the finer one resolves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.datasets.anatomy.brain_template import load_template

White = Callable[[tuple[int, ...]], Tensor]
"""Standard normal numbers, new ones each time: from a shape, a tensor `(batch, *shape)`, float64."""

TISSUES = {  # M_0, T_1 and T_2 in ms
    "white": (0.75, 850.0, 72.0),
    "grey": (0.85, 1350.0, 95.0),
    "fluid": (1.0, 4200.0, 1800.0),
    "marrow": (0.6, 450.0, 80.0),
    "fat": (0.95, 370.0, 120.0),
    "skin": (0.75, 1100.0, 40.0),
    "lesion": (0.9, 1900.0, 170.0),
}
"""Bone, and all that is around a head, has no signal."""

SEQUENCES = {  # T_R, T_E, T_I in ms from the least to the most; without an inversion T_I is 0
    "T1": ((400, 750), (8, 20), (0, 0)),
    "T1 after inversion": ((1800, 2500), (2, 5), (750, 1100)),
    "T2": ((3000, 6500), (75, 120), (0, 0)),
    "density": ((2000, 5000), (10, 30), (0, 0)),
    "FLAIR": ((8000, 11000), (80, 130), (2300, 2700)),
}

CENTRE = (0.0, -18.0)
"""Middle of the template's brain along x and y, mm."""

_SPREAD = 0.1
"""Relative spread of M_0 and relaxation times; M_0 has a third of it."""


@dataclass(frozen=True)
class BrainPhantom:
    """The law of such images on a square field of view, about 1 where they are bright.

    Arguments:
        fov: Field of view, mm, at least 180.
        lowest: Lowest height of a slice, mm (MNI152: 0 is at the anterior commissure).
        highest: Highest one.
        lesions: Probability that there are lesions, of either kind: a large one or two, or a few small ones.
        template: Folder of the template's files; empty for that of the package nilearn.
    """

    stored_name: ClassVar[str] = "Brains"

    fov: float = 240.0
    lowest: float = -12.0
    highest: float = 60.0
    lesions: float = 0.3
    template: str = ""

    def __post_init__(self) -> None:
        if not 180 <= self.fov < math.inf:
            raise InfieldError(where="brains: fov", found=f"{self.fov!r}", expected="at least 180 mm")
        if not -40 <= self.lowest < self.highest <= 75:
            raise InfieldError(
                where="brains",
                found=f"slices from {self.lowest!r} to {self.highest!r} mm",
                expected="them between -40 and 75, where there is a brain",
            )
        if not 0 <= self.lesions <= 1:
            raise InfieldError(where="brains: lesions", found=f"{self.lesions!r}", expected="a probability")

    def draw(self, grid: Grid, white: White) -> Tensor:
        """Images `(batch, y, x)`, complex128.

        Arguments:
            grid: Periodic axes y and x of `fov` mm; row 0 is at the front or at the back of the head.
            white: Random numbers.

        Raises:
            InfieldError: The template is not there, or the grid is of another field of view.
        """
        shape = grid.shape
        if grid.ndim != 2 or any(abs(a.spacing * a.size / self.fov - 1) > 1e-9 for a in grid.axes):
            raise InfieldError(
                where="brains", found="a grid of another field of view", expected=f"two axes of {self.fov:g} mm"
            )
        fine = [(torch.arange(2 * n, dtype=torch.float64) - n) * self.fov / (2 * n) for n in shape]
        waves = _Waves(fine, self.fov, white)
        fractions, bright = self._anatomy(fine, waves, white)
        magnitude = torch.einsum("tbyx,bt->byx", fractions, _signals(white)) * bright
        image = _truncated(torch.polar(magnitude, _phase(fine, self.fov, waves, white)), shape)
        peak = image.abs().flatten(1).quantile(0.99, dim=1)
        image = image * (torch.exp(0.1 + 0.15 * white(())) / peak)[:, None, None]
        return torch.where(_uniform(white)[:, None, None] < 0.5, image, _upside_down(image))

    def _anatomy(self, axes: list[Tensor], waves: _Waves, white: White) -> tuple[Tensor, Tensor]:
        """Shares of the tissues `(tissue, batch, y, x)`, and how bright the coils make each place, `(batch, y, x)`."""
        places = self._places(axes, waves, white)
        grey, wm, brain, distance = load_template(self.template).at(places)
        brain = brain.clamp(0, 1)  # but for rounding
        fluid = (brain - grey - wm).clamp_min(0)
        sharp = _between(white, 1.3, 2.6)[:, None, None, None]
        own = 0.7 * torch.stack([waves(4.0), waves(4.0), waves(4.0)], dim=1)
        share = torch.stack([wm, grey, fluid], dim=1).clamp_min(1e-3).log() * sharp + own
        wm, grey, fluid = (brain[:, None] * share.softmax(dim=1)).unbind(1)
        edges = _edges(white)
        distance = distance + 0.6 * waves(40.0)
        inside = [torch.sigmoid((edge[:, None, None] - distance) / 0.5) for edge in edges]
        layers = [(1 - brain) * share for share in (inside[0], *(b - a for a, b in itertools.pairwise(inside)))]
        around = {"fluid": layers[0], "marrow": layers[2], "fat": layers[4], "skin": layers[5]}
        lesion = self._lesions(axes, waves, white)
        healthy = 1 - lesion
        shares = {"white": wm * healthy, "grey": grey * healthy, "fluid": fluid * healthy + around["fluid"]}
        shares |= {"marrow": around["marrow"], "fat": around["fat"], "skin": around["skin"], "lesion": brain * lesion}
        y, x = torch.meshgrid(*axes, indexing="ij")
        shading = 1 + _between(white, 0.0, 0.8)[:, None, None] * (y.square() + x.square()) / 110**2
        bright = shading * torch.exp(0.15 * waves(60.0) + 0.03 * waves(2.5))
        return torch.stack([shares[name] for name in TISSUES]), bright

    def _places(self, axes: list[Tensor], waves: _Waves, white: White) -> Tensor:
        """Where each point of the image is in the template, `(batch, y, x, 3)`, mm."""
        y, x = torch.meshgrid(*axes, indexing="ij")
        flat = torch.stack([x, -y, torch.zeros_like(x)], dim=-1)  # row 0 is at the front
        degrees = torch.tensor([4.0, 4.0, 7.0], dtype=torch.float64)  # about x, y, z
        turn = _rotation(white((3,)) * degrees * math.pi / 180)
        turn = turn / torch.exp(0.04 * white((3,)))[:, None, :]
        height = self.lowest + (self.highest - self.lowest) * _uniform(white)
        middle = torch.stack([CENTRE[0] + 3 * white(()), CENTRE[1] + 3 * white(()), height], dim=-1)
        moved = torch.stack([2.5 * waves(45.0) + waves(14.0) for _ in range(3)], dim=-1)
        moved[..., 2] += 1.5 * waves(14.0)
        return torch.einsum("bij,yxj->byxi", turn, flat) + middle[:, None, None] + moved

    def _lesions(self, axes: list[Tensor], waves: _Waves, white: White) -> Tensor:
        """How much of each point is lesion, `(batch, y, x)`, from 0 to 1."""
        y, x = torch.meshgrid(*axes, indexing="ij")
        ragged = 0.25 * waves(6.0)
        large, small = (_uniform(white) < 1 - math.sqrt(1 - self.lesions) for _ in range(2))
        kinds = [(large, 2, 4.0, 17.0), (small, 6, 1.2, 3.5)]
        none = torch.ones_like(ragged)
        for there, count, least, most in kinds:
            for number in range(count):
                radius = least * (most / least) ** _uniform(white)
                centre = white((2,)) * torch.tensor([38.0, 30.0], dtype=torch.float64)
                angle, stretch = math.pi * _uniform(white), torch.exp(0.25 * white(()))
                wanted = there & (_uniform(white) < (1.0 if number == 0 else 0.5))
                dy, dx = (p - c[:, None, None] for p, c in zip((y, x), centre.unbind(1), strict=True))
                cos, sin = (f(angle)[:, None, None] for f in (torch.cos, torch.sin))
                s, r = stretch[:, None, None], radius[:, None, None]
                level = 1 - torch.hypot((cos * dy + sin * dx) * s, (cos * dx - sin * dy) / s) / r + ragged
                strength = torch.where(wanted, _between(white, 0.5, 1.0), 0.0)[:, None, None]
                none = none * (1 - strength * torch.sigmoid(level * r / 0.8))
        return 1 - none


class _Waves:
    """Smooth Gaussian fields of unit variance, the same ones whatever the resolution: sums of waves.

    Arguments:
        axes: Places along y and x, mm.
        fov: Field of view, mm; fields repeat beyond it.
        white: Random numbers.
    """

    def __init__(self, axes: list[Tensor], fov: float, white: White) -> None:
        self.axes, self.fov, self.white = axes, fov, white

    def __call__(self, length: float) -> Tensor:
        """A field `(batch, y, x)` with correlation exp(-r^2 / 2 length^2), length in mm."""
        step = 2 * math.pi / (self.fov + 4 * length)
        count = math.ceil(2.8 / (length * step))
        k = step * torch.arange(-count, count + 1, dtype=torch.float64)
        weight = torch.exp(-((length * k).square()) / 4)
        weight = weight / weight.square().sum().sqrt()
        real, imaginary = self.white((2, len(k), len(k))).unbind(1)
        coefficients = torch.complex(real, imaginary) * (weight[:, None] * weight)
        along_y, along_x = (torch.exp(1j * axis[:, None] * k) for axis in self.axes)
        return (along_y @ coefficients @ along_x.T).real


def _uniform(white: White, shape: tuple[int, ...] = ()) -> Tensor:
    return torch.special.ndtr(white(shape))


def _between(white: White, least: float, most: float) -> Tensor:
    return least + (most - least) * _uniform(white)


def _edges(white: White) -> list[Tensor]:
    """Distances from the brain's hull, mm, at which its surroundings change: the outer ends of fluid, inner table,
    marrow, outer table, fat and skin."""
    ranges = [(0.5, 3.0), (1.3, 2.8), (0.8, 3.5), (1.3, 2.8), (2.0, 6.5), (1.2, 2.2)]
    edges: list[Tensor] = []
    for least, most in ranges:
        thickness = _between(white, least, most)
        edges.append(thickness + edges[-1] if edges else thickness)
    return edges


def _signals(white: White) -> Tensor:
    """Signal of each tissue, `(batch, tissue)`."""
    ranges = torch.tensor(list(SEQUENCES.values()), dtype=torch.float64)
    chosen = ranges[(_uniform(white) * len(ranges)).long().clamp_max(len(ranges) - 1)]
    tr, te, ti = (chosen[..., 0] + (chosen[..., 1] - chosen[..., 0]) * _uniform(white, (3,))).unbind(-1)
    typical = torch.tensor(list(TISSUES.values()), dtype=torch.float64)
    m0, t1, t2 = (typical * torch.exp(_SPREAD * white(typical.shape))).unbind(-1)
    m0 = typical[:, 0] * (m0 / typical[:, 0]) ** (1 / 3)
    late, between = torch.exp(-tr[:, None] / t1), torch.exp(-ti[:, None] / t1)
    along = torch.where(ti[:, None] > 0, (1 - 2 * between + late).abs(), 1 - late)
    signal = m0 * along * torch.exp(-te[:, None] / t2)
    names = list(TISSUES)
    suppressed = torch.where(_uniform(white) < 0.25, _between(white, 0.1, 0.4), 1.0)
    for name in ("fat", "marrow"):
        signal[:, names.index(name)] *= suppressed
    return signal


def _phase(axes: list[Tensor], fov: float, waves: _Waves, white: White) -> Tensor:
    """Phase of the image, `(batch, y, x)`, rad: any constant, an echo off the centre of k-space, slow waves."""
    y, x = torch.meshgrid(*axes, indexing="ij")
    constant = 2 * math.pi * _uniform(white)
    slope = 2 * math.pi / fov * 0.4 * white((2,))
    slow = _between(white, 0.1, 1.2)[:, None, None] * waves(50.0)
    return constant[:, None, None] + slope[:, :1, None] * y + slope[:, 1:, None] * x + slow


def _rotation(angles: Tensor) -> Tensor:
    """Rotations about x, then y, then z, `(batch, 3, 3)`, by angles `(batch, 3)`, rad."""
    turns = torch.eye(3, dtype=torch.float64).expand(len(angles), 3, 3)
    for axis, angle in enumerate(angles.unbind(1)):
        one = torch.eye(3, dtype=torch.float64).repeat(len(angles), 1, 1)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        one[:, i, i] = one[:, j, j] = torch.cos(angle)
        one[:, i, j], one[:, j, i] = -torch.sin(angle), torch.sin(angle)
        turns = one @ turns
    return turns


def _truncated(image: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The image at `shape` points, of the middle of its k-space; point n // 2 stays where it is."""
    k = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(image, dim=(-2, -1))), dim=(-2, -1))
    starts = [m // 2 - n // 2 for m, n in zip(image.shape[-2:], shape, strict=True)]
    k = k[..., starts[0] : starts[0] + shape[0], starts[1] : starts[1] + shape[1]]
    small = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(k, dim=(-2, -1))), dim=(-2, -1))
    return small * (math.prod(shape) / math.prod(image.shape[-2:]))


def _upside_down(image: Tensor) -> Tensor:
    """Rows in reverse about point n // 2, columns as they are."""
    n = image.shape[-2]
    return image.flip(-2).roll(1 if n % 2 == 0 else 0, -2)
