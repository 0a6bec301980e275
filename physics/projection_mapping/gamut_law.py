r"""A likelihood without data: pictures that projectors can show.

    log p = -sum over pixels of d^2 / 2 s^2,

d the distance of the picture's light from the gamut of each pixel, s a tolerance. It has no normalising constant in the
data, which are zeros, and no data can be drawn from it. Gradient and curvature are those of `gamut`: -r / s^2, and
(1 - P) / s^2, which couples the channels of a pixel. Light of shape `(batch, 3, *space)` may come flattened, `(batch,
n)`, as within stacked data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.noise.base import NoiseDescription, NoiseModel, positive_number
from infield.physics.projection_mapping.gamut import curvature, nearest

STAGES = (1e-2, 1e-4, 1e-6)


@dataclass(frozen=True, eq=False)
class GamutNoise(NoiseModel):
    """Distance from the gamut of each pixel.

    Arguments:
        mixing: V, shape `(projector, 3, 3, *space)`, 0 where a projector is not seen.
        background: Camera light with all drives at 0, shape `(3, *space)`.
        tolerance: s, in linear camera light.

    Raises:
        InfieldError: Shapes do not match, values are not finite, or s is not above zero.
    """

    mixing: Tensor
    background: Tensor
    tolerance: float
    _columns: np.ndarray = field(init=False, repr=False)
    _last: tuple[Tensor, Tensor] | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tolerance", positive_number(self.tolerance, "gamut", "tolerance"))
        mixing, background = torch.as_tensor(self.mixing), torch.as_tensor(self.background)
        space = tuple(background.shape[1:])
        if mixing.ndim < 3 or tuple(mixing.shape[1:]) != (3, 3, *space) or background.shape[0] != 3:
            raise InfieldError(
                where="noise 'gamut'",
                found=f"mixing of shape {tuple(mixing.shape)} and background of {tuple(background.shape)}",
                expected="(projector, 3, 3, *space) and (3, *space)",
            )
        if not torch.isfinite(mixing).all() or not torch.isfinite(background).all():
            raise InfieldError(where="noise 'gamut'", found="NaN or Inf", expected="finite light")
        object.__setattr__(self, "mixing", mixing)
        object.__setattr__(self, "background", background)
        flat = mixing.flatten(3).permute(3, 0, 2, 1).reshape(-1, 3 * mixing.shape[0], 3)
        object.__setattr__(self, "_columns", np.ascontiguousarray(flat.cpu().numpy(), np.float32))

    @classmethod
    def from_description(cls, description: NoiseDescription) -> GamutNoise:
        """The model that a file describes."""
        description.expect("mixing", "background", "tolerance")
        return cls(description.tensor("mixing"), description.tensor("background"), description.entries["tolerance"])

    def check(self, y: Tensor, observed: Tensor | None = None) -> None:
        if tuple(y.shape) not in (tuple(self.background.shape), (self.background.numel(),)):
            expected = f"{tuple(self.background.shape)}, those of the gamut"
            raise InfieldError(where="measurement", found=f"data of shape {tuple(y.shape)}", expected=expected)
        if (y if observed is None else y[observed]).any():
            raise InfieldError(where="measurement", found="data beside a gamut", expected="zeros: it has no data")

    def log_prob(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        return -0.5 * self.chi_square(y, z, observed)

    def chi_square(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        return self.distances(z, observed).square().flatten(1).sum(1) / self.tolerance**2

    def gradient(self, y: Tensor, z: Tensor) -> Tensor:
        return -self._nearest(z)[1] / self.tolerance**2

    def information(self, z: Tensor, v: Tensor) -> Tensor:
        """Minus the second derivative of `log_prob` at one z, or at one for each v, applied to v; shape of v."""
        matrix = self._curvature_at(z).to(v)
        flat = v.reshape(len(v), 3, -1)
        if len(z) == 1:
            return torch.einsum("pij,bjp->bip", matrix, flat).reshape(v.shape) / self.tolerance**2
        each = matrix.reshape(len(z), -1, 3, 3)
        return torch.einsum("bpij,bjp->bip", each, flat).reshape(v.shape) / self.tolerance**2

    def _curvature_at(self, z: Tensor) -> Tensor:
        """1 - P of each pixel, `(batch * pixels, 3, 3)`; that of the last z is kept, for conjugate gradients there."""
        if self._last is None or not torch.equal(self._last[0], z):
            s, _ = self._nearest(z)
            found = torch.from_numpy(curvature(self._columns_of(len(z)), s))
            object.__setattr__(self, "_last", (z.clone(), found))
        assert self._last is not None
        return self._last[1]

    def residual_rows(self, z: Tensor, observed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """d / s of each pixel, and its derivative in the light of that pixel, 0 inside the gamut.

        Returns:
            Shapes `(batch, pixels)` and `(batch, pixels, 3)`.
        """
        r = self._nearest(z)[1].reshape(len(z), 3, -1)
        if observed is not None:
            r = torch.where(observed.reshape(3, -1), r, 0.0)
        d = r.norm(dim=1)
        normal = torch.where(d[:, None] > 0, r / d[:, None].clamp(min=1e-300), 0.0)
        return d / self.tolerance, normal.transpose(1, 2) / self.tolerance

    def distances(self, z: Tensor, observed: Tensor | None = None) -> Tensor:
        """d, shape `(batch, *space)`, 0 where not observed."""
        space = self.background.shape[1:]
        d = self._nearest(z)[1].reshape(len(z), 3, *space).norm(dim=1)
        return d if observed is None else torch.where(observed.reshape(3, *space).all(0), d, 0.0)

    def _columns_of(self, batch: int) -> np.ndarray:
        return self._columns if batch == 1 else np.tile(self._columns, (batch, 1, 1))

    def _nearest(self, z: Tensor) -> tuple[np.ndarray, Tensor]:
        """Drives and residuals, the latter of the shape of z."""
        batch = len(z)
        above = (
            (z.reshape(batch, 3, -1) - self.background.to(z).flatten(1))
            .transpose(1, 2)
            .reshape(-1, 3)
            .detach()
            .cpu()
            .double()
            .numpy()
        )
        found = nearest(self._columns_of(batch), np.nan_to_num(above), stages=STAGES)
        residual = torch.from_numpy(found.residual).to(z).reshape(batch, -1, 3).transpose(1, 2)
        return found.drives, residual.reshape(z.shape)

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """There are no data to draw.

        Raises:
            InfieldError: Always.
        """
        raise InfieldError(where="noise 'gamut'", found="data to draw", expected="none: the gamut is no noise")

    def to_json(self) -> dict[str, Any]:
        return {"law": "gamut", "mixing": "gamut_mixing", "background": "gamut_background", "tolerance": self.tolerance}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"gamut_mixing": self.mixing.cpu().numpy(), "gamut_background": self.background.cpu().numpy()}
