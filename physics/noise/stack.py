"""A noise model for each part of stacked data: instruments with errors of their own kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.noise.base import GaussianNoiseModel, NoiseDescription, NoiseModel, noise_from_json


class StackedNoise(NoiseModel):
    """Noise of stacked data, `y` of shape `(1, n)`; the parts are independent, and each model is of flat data.

    Arguments:
        models: Of each part.
        sizes: Number of data of each part.
    """

    def __init__(self, models: Sequence[NoiseModel], sizes: Sequence[int]) -> None:
        self.models, self.sizes = tuple(models), tuple(sizes)

    @property
    def estimated(self) -> bool:
        """Whether the level of a part is to be estimated."""
        return any(getattr(model, "estimated", False) for model in self.models)

    @classmethod
    def from_description(cls, description: NoiseDescription) -> StackedNoise:
        """The model that a file describes."""
        description.expect("laws", "sizes")
        laws, sizes = description.entries["laws"], description.entries["sizes"]
        listed = isinstance(laws, list | tuple) and isinstance(sizes, list | tuple) and len(laws) == len(sizes) > 0
        if not listed or not all(isinstance(n, int) and n > 0 for n in sizes):
            raise InfieldError(
                where="noise 'stack'", found=f"{laws!r} of sizes {sizes!r}", expected="a law and a size for each part"
            )
        return stacked([noise_from_json(law, description.arrays) for law in laws], sizes)

    def _split(self, values: Tensor) -> list[Tensor]:
        return list(values.squeeze(-2).split(list(self.sizes), -1))

    def _joined(self, act: Callable[..., Tensor], *values: Tensor) -> Tensor:
        """What each model makes of its parts, one behind the other again."""
        parts = zip(self.models, *map(self._split, values), strict=True)
        return torch.cat([act(model, *own) for model, *own in parts], -1)[..., None, :]

    def _summed(self, act: Callable[..., Tensor], y: Tensor, z: Tensor, observed: Tensor | None) -> Tensor:
        masks = [None] * len(self.models) if observed is None else self._split(observed)
        parts = zip(self.models, self._split(y), self._split(z), masks, strict=True)
        return torch.stack([act(model, *own) for model, *own in parts]).sum(0)

    def check(self, y: Tensor, observed: Tensor | None = None) -> None:
        if tuple(y.shape) != (1, sum(self.sizes)):
            raise InfieldError(
                where="measurement", found=f"data of shape {tuple(y.shape)} under noise of {self.sizes} data",
                expected=f"(1, {sum(self.sizes)})",
            )  # fmt: skip
        masks = [None] * len(self.models) if observed is None else self._split(observed)
        for number, (model, part, mask) in enumerate(zip(self.models, self._split(y), masks, strict=True)):
            try:
                model.check(part, mask)
            except InfieldError as error:
                raise error.within(f"part {number + 1}") from error

    def to(self, device: torch.device | str | None) -> Self:
        return type(self)([model.to(device) for model in self.models], self.sizes)

    def log_prob(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        return self._summed(lambda model, *own: model.log_prob(*own), y, z, observed)

    def gradient(self, y: Tensor, z: Tensor) -> Tensor:
        return self._joined(lambda model, *own: model.gradient(*own), y, z)

    def fisher(self, z: Tensor) -> Tensor:
        """Fisher information of each datum about its noiseless value, shape of `z`."""
        return self._joined(lambda model, own: model.fisher(own), z)

    def chi_square(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        return self._summed(lambda model, *own: model.chi_square(*own), y, z, observed)

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        return self._joined(lambda model, own: model.sample(own, generator), z)

    def to_json(self) -> dict[str, Any]:
        laws = []
        for number, model in enumerate(self.models):
            own, names = model.to_json(), model.arrays()
            laws.append(
                {k: f"part_{number + 1}_{v}" if isinstance(v, str) and v in names else v for k, v in own.items()}
            )
        return {"law": "stack", "laws": laws, "sizes": list(self.sizes)}

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            f"part_{number + 1}_{name}": values
            for number, model in enumerate(self.models)
            for name, values in model.arrays().items()
        }


class StackedGaussianNoise(StackedNoise, GaussianNoiseModel):
    """Where all parts are Gaussian: their covariance is block diagonal."""

    @property
    def variance(self) -> Tensor:
        """Shape `(1, n)`."""
        own = zip(self.models, self.sizes, strict=True)
        return torch.cat([model.variance.expand(n) for model, n in own])[None]  # type: ignore[attr-defined]

    def apply(self, r: Tensor) -> Tensor:
        return self._joined(lambda model, own: model.apply(own), r)

    def solve(self, r: Tensor) -> Tensor:
        return self._joined(lambda model, own: model.solve(own), r)

    def root(self, w: Tensor) -> Tensor:
        return self._joined(lambda model, own: model.root(own), w)


class StackedCoupledNoise(StackedNoise):
    """Where a part gives its own curvature, which may tie its data together: the whole is block diagonal."""

    def information(self, z: Tensor, v: Tensor) -> Tensor:
        """Minus the second derivative of `log_prob` at one z, or at one for each v, applied to v; shape of v.

        Raises:
            InfieldError: A part has no curvature in closed form.
        """
        return self._joined(_information, z, v)


def _information(model: Any, z: Tensor, v: Tensor) -> Tensor:
    if isinstance(model, GaussianNoiseModel):
        return model.solve(v)
    if hasattr(model, "information"):
        return torch.as_tensor(model.information(z, v))
    if not hasattr(model, "fisher"):
        raise InfieldError(
            where=f"noise '{model.to_json()['law']}' beside a law of its own curvature",
            found="no curvature",
            expected="a law that has `information` or `fisher`",
        )
    return torch.as_tensor(model.fisher(z) * v)


def stacked(models: Sequence[NoiseModel], sizes: Sequence[int]) -> StackedNoise:
    """Noise of stacked data, Gaussian where all of its parts are."""
    if all(isinstance(model, GaussianNoiseModel) for model in models):
        return StackedGaussianNoise(models, sizes)
    coupled = any(hasattr(model, "information") for model in models)
    return (StackedCoupledNoise if coupled else StackedNoise)(models, sizes)


def flat(model: NoiseModel, size: int, shape: Sequence[int]) -> NoiseModel:
    """The same model of flattened data.

    Raises:
        InfieldError: Its arrays belong to axes that flat data lack.
    """
    from infield.physics.noise.gaussian import GaussianNoise
    from infield.physics.noise.low_rank import LowRankGaussianNoise

    if isinstance(model, LowRankGaussianNoise):
        whole = model.diagonal if model.diagonal.ndim == 0 else model.diagonal.flatten()
        return LowRankGaussianNoise(whole, model.factors.flatten(1))
    variance = getattr(model, "variance", None)
    if not isinstance(variance, Tensor) or variance.ndim == 0:
        return model
    if isinstance(model, GaussianNoise) and math.prod(shape) == size:
        return type(model)(variance.expand(tuple(shape)).flatten())
    raise InfieldError(
        where=f"noise '{model.to_json()['law']}'", found="arrays along axes of the data", expected="independent errors"
    )
