"""Noise models: the probability of the data `y` given the noiseless data `z = A x`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from infield.core import registry
from infield.core.checks import is_positive
from infield.core.errors import InfieldError


@runtime_checkable
class NoiseModel(Protocol):
    """The distribution of the data given the noiseless data.

    `y` is `(1, *data)` or `(batch, *data)`, `z` is `(batch, *data)`. `observed` is a bool tensor of shape `data`: which
    entries count; all of them when it is omitted. A model inherits from this class. A model of independent errors may
    also have `fisher(z)`, the Fisher information of each datum about its noiseless value: fits to data behind links,
    and `mgvi`, require it.
    """

    def check(self, y: Tensor, observed: Tensor | None = None) -> None:
        """Refuse data that the model cannot have produced.

        Arguments:
            y: The data, shape `data`; entries that are not observed may hold anything.
            observed: As above.

        Raises:
            InfieldError: The variance has another shape than the data, or a datum is impossible.
        """
        variance, data = getattr(self, "variance", None), tuple(y.shape)
        if not isinstance(variance, Tensor) or not variance.ndim:
            return
        trailing = data[len(data) - variance.ndim :]
        if variance.ndim > len(data) or any(v not in (1, n) for v, n in zip(variance.shape, trailing, strict=True)):
            raise InfieldError(
                where="measurement", found=f"noise variance of shape {tuple(variance.shape)}", expected=data
            )

    def to(self, device: torch.device | str | None) -> Self:
        """The same model with its tensors on a device."""
        moved = copy.copy(self)
        for name, value in vars(moved).items():
            if isinstance(value, Tensor):
                object.__setattr__(moved, name, value.to(device))
        return moved

    def of_mean(self, count: float) -> NoiseModel:
        """The model of the mean of several independent data of one field, if their mean is a sufficient statistic.

        Raises:
            InfieldError: The mean is no sufficient statistic, or not known to be one.
        """
        raise InfieldError(
            where=f"noise {type(self).__name__}",
            found="a model of which two data cannot be joined",
            expected="one for which the mean of several data is sufficient: Gaussian noise, or counts",
        )

    def log_prob(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        """Log density of `y` with its normalising constant, shape `(batch,)`."""
        ...

    def gradient(self, y: Tensor, z: Tensor) -> Tensor:
        """Derivative of `log_prob` with respect to `z`, shape of `z`."""
        ...

    def chi_square(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        """Sum of the squared standardised residuals, shape `(batch,)`; each real datum contributes 1 on average."""
        ...

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """Draw data, shape of `z`."""
        ...

    def to_json(self) -> dict[str, Any]:
        """A description in plain JSON types; arrays appear as the names under which `arrays` holds them."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that `to_json` names."""
        ...


@runtime_checkable
class GaussianNoiseModel(NoiseModel, Protocol):
    """A Gaussian model whose covariance R does not depend on the field; its maps act on `(batch, *data)`."""

    @property
    def variance(self) -> Tensor:
        """Diagonal of R, broadcastable to the data's shape."""
        ...

    def apply(self, r: Tensor) -> Tensor:
        """R r."""
        ...

    def solve(self, r: Tensor) -> Tensor:
        """The inverse of R times r."""
        ...

    def root(self, w: Tensor) -> Tensor:
        """A square root of R times w: for white noise w the result has covariance R."""
        ...


@dataclass(frozen=True)
class NoiseDescription:
    """A noise model as described in a file, the argument of a model's `from_description`.

    Arguments:
        law: Its name.
        entries: The other entries of the description, in plain JSON types.
        arrays: Variables by name, which entries may name.
    """

    law: str
    entries: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    def expect(self, *entries: str, optional: tuple[str, ...] = ()) -> None:
        """Refuse other entries.

        Raises:
            InfieldError: An entry is missing or unknown.
        """
        found, expected = sorted(set(self.entries) - set(optional)), sorted(entries)
        if found != expected:
            raise InfieldError(where=f"noise '{self.law}'", found=f"the entries {found}", expected=expected)

    def value(self, entry: str) -> Any:
        """An entry, or a copy of the variable that it names.

        Raises:
            InfieldError: There is no such variable.
        """
        content = self.entries[entry]
        if not isinstance(content, str):
            return content
        if content not in self.arrays:
            raise InfieldError(
                where=f"noise '{self.law}': {entry}",
                found=f"no variable '{content}'",
                expected=f"one of {sorted(self.arrays)}",
                remedy=f"add '{content}', or name another one",
            )
        return np.array(self.arrays[content])

    def tensor(self, entry: str) -> Tensor:
        """The variable that an entry names.

        Raises:
            InfieldError: The entry names none, or there is no such variable.
        """
        value = self.value(entry)
        if not isinstance(value, np.ndarray):
            raise InfieldError(
                where=f"noise '{self.law}'", found=f"{entry} {value!r}", expected="the name of a variable"
            )
        return torch.as_tensor(value)


def positive_number(value: Any, law: str, quantity: str) -> float:
    """The value as a float.

    Raises:
        InfieldError: It is not one finite number above zero.
    """
    if not is_positive(value):
        raise InfieldError(
            where=f"noise '{law}'", found=f"{quantity} {value!r}", expected="one finite number above zero"
        )
    return float(value)


def positive_tensor(value: Any, law: str, quantity: str) -> Tensor:
    """The value as a float64 tensor, a scalar or one entry per datum.

    Raises:
        InfieldError: An entry is not finite or not above zero.
    """
    if not isinstance(value, Tensor | np.ndarray):
        return torch.tensor(positive_number(value, law, quantity), dtype=torch.float64)
    tensor = torch.as_tensor(value).to(torch.float64)
    wrong = ~(torch.isfinite(tensor) & (tensor > 0))
    if wrong.any():
        raise InfieldError(
            where=f"noise '{law}'",
            found=f"{quantity} {tensor[wrong][0].item()} ({int(wrong.sum())} of {tensor.numel()} values are wrong)",
            expected="finite values above zero",
            remedy=f"write a positive {quantity} for every datum",
        )
    return tensor


def sum_observed(terms: Tensor, observed: Tensor | None) -> Tensor:
    """Sum of `terms` (batch, *data) over the observed data; the others may hold anything, NaN included."""
    if observed is not None:
        terms = torch.where(observed, terms, torch.zeros_like(terms))
    return terms.flatten(1).sum(1)


def standard_normal_like(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape of `like`, drawn on the generator's device."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)


def noise_from_json(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> NoiseModel:
    """Build the noise model that a file describes.

    Arguments:
        description: `{"law": "gaussian", "variance": 0.01}`, with the name of a variable in place of a number where
            each datum has its own variance, and `{"estimate": true}` where it is to be estimated;
            `{"law": "coil-gaussian", "covariance": NAME}`, and `"k_dimensions": 3` for several slices;
            `{"law": "low-rank-gaussian", "diagonal": 0.01, "factors": NAME}`, the diagonal a number or a name;
            `{"law": "stack", "laws": [...], "sizes": [...]}` of data that the operator `stack` made;
            `{"law": "poisson", "gain": 1.0}`; `{"law": "poisson-gaussian", "gain": 1.0, "variance": 0.01}`.
        arrays: Variables by name.

    Raises:
        InfieldError: If the law is unknown, an entry is missing, unknown or no valid noise level, or a variable is
            missing.
    """
    law = description.get("law")
    if not isinstance(law, str) or not registry.known("noise_models", law):
        expected = ", ".join(registry.names("noise_models"))
        raise InfieldError(where="noise", found=f"law {law!r}", expected=f"one of {expected}")
    entries = {entry: content for entry, content in description.items() if entry != "law"}
    model: NoiseModel = registry.load("noise_models", law).from_description(NoiseDescription(law, entries, arrays))
    return model
