r"""From 21 cm brightness temperatures to the values that a flow models, and back.

Values are made voxel by voxel with one law for all of them, after Xia & Wise 2026 (arXiv:2605.29016), whose released
code has the formulas (the full text was not at hand):

.. math:: x = (f(T) - mean) / scale, \qquad z = A x \;\text{ or, with } k > 0, \; z = A \, \mathrm{arcsinh}(x / k).

========================  =====================================================================
paper                     ours
========================  =====================================================================
YJ, one lambda            `kind` "yeo-johnson"; lambda by maximum likelihood (scipy)
z-score                   `kind` "linear", f(T) = T
arcsinh(T / mK)           `kind` "log", like a logarithm on both sides of 0; here standardised too
squish (A, k)             `amplitude` A, `knee` k; the paper's runs have k = 0
t = T ... 0, source last  t = 0 ... 1, source first
========================  =====================================================================

What the paper lacks: ionised voxels are exactly 0 mK, a third to a half of all of them. That is an atom of the law of a
voxel, and a continuous flow draws it with probability zero. So, as for two-phase media (`physics.operators.level_set`),
a second channel gives the ionised region: the signed distance to its boundary, positive inside. The first
channel then either leaves the zeros where they are, so that with `kind` "linear" it is the temperature itself, and what
a telescope measures is linear in it; or (`fill`) continues smoothly into the ionised region, which is easier to learn.

*No trace of the mean.* With the paper's 1000 steps from 1e-4 to 0.02, the last one keeps 0.00635 of the data: the mean
m of a cube of 64 x 64 x 1024 = 4.2 M voxels, in standard deviations of a voxel, then lies 0.00635 sqrt(4.2e6) |m| =
13 |m| sigma above the mean of the noise, in training; but sampling starts from noise without it. An A below 1 lessens
that, since it scales m. Our path is t x_1 + (1 - t) x_0, and at t = 0, where sampling starts, it is the source alone:
0 |m| sigma, for every A. A test computes both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import ndimage, stats
from torch import Tensor

from infield.core.errors import InfieldError

KINDS = ("yeo-johnson", "linear", "log")
VERSION = 1

LAMBDAS = (0.0, 2.0)
"""Between these the transform of Yeo & Johnson is onto all numbers, so that whatever a flow draws is a temperature."""

FITTED = 500_000
"""Maximum number of voxels, evenly spaced, from which lambda is estimated."""

HALO_WIDTHS = 4
"""Range of the ionised region's boundary in widths: a segment of a lightcone with a halo of this many widths has the
same values as the whole lightcone."""

IONISED_WEIGHT = 0.01
"""Weight of the value 0 beside that of the neutral voxels about an ionised one, see `_filled`."""

FAINTEST = 1e-6
"""Temperature in mK of a neutral voxel that would otherwise be drawn as 0, see `VoxelTransform.inverse`."""


@dataclass(frozen=True)
class VoxelTransform:
    """A pointwise transform of temperatures in mK, and beside it the place of those that are exactly 0.

    Arguments:
        kind: "yeo-johnson", "linear" or "log".
        mean, scale: Mean and scale of f(T) over the training voxels: neutral ones with the atom, else all. scale > 0.
        exponent: Lambda of Yeo & Johnson, 0 to 2; not used by the others.
        amplitude: A > 0.
        knee: k: 0 for a plain factor A, else > 0.
        atom: Whether a second channel marks exact zeros.
        width: In cells, > 0: the second channel is tanh(distance / width).
        fill: With the atom: whether values of neutral voxels continue into the ionised region.
        periodic: Whether each axis (x, y, line of sight) is periodic.

    Raises:
        InfieldError: A name or a number is out of range.
    """

    kind: str
    mean: float
    scale: float
    exponent: float = 1.0
    amplitude: float = 1.0
    knee: float = 0.0
    atom: bool = True
    width: float = 2.0
    fill: bool = True
    periodic: tuple[bool, bool, bool] = (True, True, False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InfieldError(
                where="voxel transform", found=f"kind '{self.kind}'", expected=f"one of {', '.join(KINDS)}"
            )
        low, high = LAMBDAS
        for name, good, expected in (
            ("mean", math.isfinite(self.mean), "a finite number"),
            ("scale", 0 < self.scale < math.inf, "a finite number > 0"),
            ("exponent", low <= self.exponent <= high, f"{low:g} to {high:g}"),
            ("amplitude", 0 < self.amplitude < math.inf, "a finite number > 0"),
            ("knee", 0 <= self.knee < math.inf, "0 or a finite number > 0"),
            ("width", 0 < self.width < math.inf, "a finite number of cells > 0"),
        ):
            if not good:
                raise InfieldError(where="voxel transform", found=f"{name} {getattr(self, name)}", expected=expected)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of transformed fields."""
        return ("temperature", "ionised") if self.atom else ("temperature",)

    @property
    def affine(self) -> bool:
        """Whether the first channel is an affine function of the temperature, ionised voxels included."""
        return self.kind == "linear" and not self.knee and not (self.atom and self.fill)

    @property
    def reach(self) -> int:
        """Range of the boundary of the ionised region in cells."""
        return math.ceil(HALO_WIDTHS * self.width)

    def forward(self, temperature: Tensor) -> Tensor:
        """Values of lightcones, shape `(batch, channels, x, y, los)`, float64.

        A voxel is ionised if its temperature is exactly 0 (of either sign), and else neutral, however near to 0. A file
        that rounds, to hundredths of a mK, say, has ionised those that it rounded to 0.

        Arguments:
            temperature: In mK, shape `(batch, 1, x, y, los)`.

        Raises:
            InfieldError: A temperature is not finite.
        """
        if temperature.ndim != 5 or temperature.shape[1] != 1:
            raise ValueError(f"voxel transform: found shape {tuple(temperature.shape)}, expected (batch, 1, x, y, los)")
        _finite(temperature)
        value = self.pointwise(temperature.to(torch.float64))
        if not self.atom:
            return value
        ionised = (temperature == 0).numpy(force=True)[:, 0]
        first = value.numpy(force=True)[:, 0]
        if self.fill:
            first = np.stack([self._filled(*pair) for pair in zip(first, ionised, strict=True)])
        place = [np.tanh(self._distance(cone) / self.width) for cone in ionised]
        return torch.from_numpy(np.stack([first, np.stack(place)], axis=1)).to(value.device)

    def inverse(self, value: Tensor) -> Tensor:
        """Temperatures in mK, shape `(batch, 1, x, y, los)`: exactly 0 where the second channel is positive.

        They are 0 nowhere else: a neutral voxel whose temperature rounds to 0 is given `FAINTEST`, so that what is
        ionised follows from the temperatures alone, before and after, in any precision.

        Arguments:
            value: Shape `(batch, channels, x, y, los)`; its dtype is that of the temperatures.
        """
        if value.ndim != 5 or value.shape[1] != len(self.channels):
            raise ValueError(f"voxel transform: found shape {tuple(value.shape)}, expected channels {self.channels}")
        temperature = self.pointwise_inverse(value[:, :1].to(torch.float64)).to(value.dtype)
        if not self.atom:
            return temperature
        neutral = torch.where(temperature == 0, torch.full_like(temperature, FAINTEST), temperature)
        return torch.where(value[:, 1:] > 0, torch.zeros_like(neutral), neutral)

    def pointwise(self, temperature: Tensor) -> Tensor:
        """z of temperatures T in mK, of any shape; differentiable everywhere."""
        x = (curve(self.kind, temperature, self.exponent) - self.mean) / self.scale
        return self.amplitude * (torch.asinh(x / self.knee) if self.knee else x)

    def pointwise_inverse(self, value: Tensor) -> Tensor:
        """T in mK of z, the inverse of `pointwise`."""
        x = value / self.amplitude
        y = self.mean + self.scale * (self.knee * torch.sinh(x) if self.knee else x)
        if self.kind == "linear":
            return y
        if self.kind == "log":
            return torch.sinh(y)
        up, down = _sides(y)
        return torch.where(y >= 0, _unpower(up, self.exponent), -_unpower(down, 2 - self.exponent))

    def _distance(self, ionised: np.ndarray) -> np.ndarray:
        """In cells, from a voxel to the ionised region's boundary, positive inside, at most `reach`, shape of a cone.

        The boundary lies midway between an ionised voxel and a neutral one, so that the distance is never 0.
        """
        margin = [min(self.reach, n) if p else 0 for n, p in zip(ionised.shape, self.periodic, strict=True)]
        inside = np.pad(ionised, [(m, m) for m in margin], mode="wrap")
        crop = tuple(slice(m, m + n) for m, n in zip(margin, ionised.shape, strict=True))

        def to_outside(region: np.ndarray) -> np.ndarray:
            if region.all():
                return np.full(ionised.shape, float(self.reach))
            return ndimage.distance_transform_edt(region)[crop] - 0.5

        return np.clip(np.where(ionised, to_outside(inside), -to_outside(~inside)), -self.reach, self.reach)

    def _filled(self, value: np.ndarray, ionised: np.ndarray) -> np.ndarray:
        """Values of a cone with those of ionised voxels replaced by what leaves no jump at the boundary.

        An ionised voxel gets the mean of the neutral ones about it, weighted by a Gaussian of half `width` that is cut
        off at half `reach`, and of the value 0 (the middle of the standardised values) with the weight
        `IONISED_WEIGHT`: neutral voxels' values continue into the region and fade to 0 in its depth.
        """
        neutral = (~ionised).astype(np.float64)

        def blurred(field: np.ndarray) -> np.ndarray:
            modes = ["grid-wrap" if p else "constant" for p in self.periodic]
            return ndimage.gaussian_filter(field, self.width / 2, mode=modes, radius=math.ceil(self.reach / 2))

        return np.where(ionised, blurred(neutral * value) / (blurred(neutral) + IONISED_WEIGHT), value)


def fit_voxel_transform(
    temperature: Tensor,
    kind: str = "yeo-johnson",
    *,
    amplitude: float = 1.0,
    knee: float = 0.0,
    atom: bool = True,
    width: float = 2.0,
    fill: bool = True,
) -> VoxelTransform:
    """The transform whose values have mean 0 and variance 1 (before A and k) over the fields of training.

    Arguments:
        temperature: In mK, of any shape. Exact zeros are left out if they have a channel of their own and are filled.
        kind, amplitude, knee, atom, width, fill: As in `VoxelTransform`.

    Raises:
        InfieldError: A temperature is not finite, all are the same, a name or number is out of range, or the likelihood
            of lambda has no maximum between 0 and 2.
    """
    _finite(temperature)
    fields = temperature.detach().to(torch.float64).flatten()
    fields = fields[fields != 0] if atom and fill else fields
    if not len(fields) or bool((fields == fields[0]).all()):
        found = f"{float(fields[0]):g} mK" if len(fields) else "nothing but exact zeros"
        raise InfieldError(
            where="voxel transform", found=f"{found} everywhere", expected="fields of training that vary"
        )
    exponent = _most_likely_lambda(fields.numpy(force=True)) if kind == "yeo-johnson" else 1.0
    chosen = VoxelTransform(kind, 0.0, 1.0, exponent, amplitude, knee, atom, width, fill)
    y = curve(kind, fields, exponent)
    return replace(chosen, mean=float(y.mean()), scale=float(y.std(correction=0)))


def _most_likely_lambda(fields: np.ndarray) -> float:
    """Lambda by maximum likelihood (Yeo & Johnson 2000, section 3)."""
    some = fields[:: math.ceil(len(fields) / FITTED)]
    with np.errstate(all="ignore"):
        exponent = float(stats.yeojohnson_normmax(some))
    low, high = LAMBDAS
    if not low < exponent < high:
        raise InfieldError(
            where=f"voxel transform: lambda of Yeo and Johnson does not converge between {low:g} and {high:g}",
            found=f"the greatest likelihood at {exponent:.4g}",
            remedy="choose 'linear' or 'log'",
        )
    return exponent


def curve(kind: str, temperature: Tensor, exponent: float = 1.0) -> Tensor:
    r"""f(T), shape of T: T itself, arcsinh(T / mK), or with lambda, :math:`((T + 1)^\lambda - 1) / \lambda` for T >= 0
    and :math:`-((1 - T)^{2 - \lambda} - 1) / (2 - \lambda)` below (Yeo & Johnson 2000, eq. 2.1)."""
    if kind == "linear":
        return temperature
    if kind == "log":
        return torch.asinh(temperature)
    up, down = _sides(temperature)
    return torch.where(temperature >= 0, _power(up, exponent), -_power(down, 2 - exponent))


def _sides(x: Tensor) -> tuple[Tensor, Tensor]:
    """x where it is at least 0, and -x where it is below; 0 elsewhere, so that no derivative is counted twice."""
    zero = torch.zeros_like(x)
    return torch.where(x >= 0, x, zero), torch.where(x >= 0, zero, -x)


def _power(x: Tensor, p: float) -> Tensor:
    """((1 + x)^p - 1) / p of x >= 0, without loss of digits near 0."""
    return torch.expm1(p * torch.log1p(x)) / p if p else torch.log1p(x)


def _unpower(y: Tensor, p: float) -> Tensor:
    """(1 + p y)^(1/p) - 1, the inverse."""
    return torch.expm1(torch.log1p(p * y) / p) if p else torch.expm1(y)


def _finite(temperature: Tensor) -> None:
    bad = int((~torch.isfinite(temperature)).sum())
    if bad:
        raise InfieldError(
            where="brightness temperature",
            found=f"{bad} of {temperature.numel()} voxels that are NaN or infinite",
            expected="finite numbers in mK",
            remedy="leave such cones out",
        )


def to_entry(transform: VoxelTransform) -> dict[str, Any]:
    """Return the checkpoint entry, in JSON types."""
    return {
        "version": VERSION,
        "kind": transform.kind,
        "mean": transform.mean,
        "scale": transform.scale,
        "lambda": transform.exponent,
        "amplitude": transform.amplitude,
        "knee": transform.knee,
        "atom": transform.atom,
        "width": transform.width,
        "fill": transform.fill,
        "periodic": list(transform.periodic),
    }


def from_entry(entry: Mapping[str, Any]) -> VoxelTransform:
    """The inverse of `to_entry`.

    Raises:
        InfieldError: The version is newer, a part is missing, or a name or a number is out of range.
    """
    if entry.get("version") != VERSION:
        raise InfieldError(
            where="voxel transform", found=f"version {entry.get('version')}", expected=VERSION, remedy="update infield"
        )
    parts = {"kind", "mean", "scale", "lambda", "amplitude", "knee", "atom", "width", "fill", "periodic"}
    missing = sorted(parts - set(entry))
    if missing:
        raise InfieldError(
            where="voxel transform", found=f"no {', '.join(missing)} in the checkpoint", remedy="fit the prior again"
        )
    x, y, los = (bool(value) for value in entry["periodic"])
    return VoxelTransform(
        kind=entry["kind"],
        mean=float(entry["mean"]),
        scale=float(entry["scale"]),
        exponent=float(entry["lambda"]),
        amplitude=float(entry["amplitude"]),
        knee=float(entry["knee"]),
        atom=bool(entry["atom"]),
        width=float(entry["width"]),
        fill=bool(entry["fill"]),
        periodic=(x, y, los),
    )
