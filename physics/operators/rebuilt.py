"""Whether an operator that a file names is one and the same each time it is built, in whatever process and version.

Classes of other packages may draw numbers when they are built, and may change from version to version. Before a file
is written, or where a file does not state it, such an operator is built twice, with the generators of torch, numpy and
Python in two states, and its adjoint tested. A file that is written keeps its fingerprint: what it makes of fixed
fields. An operator with that fingerprint is taken as it is, another one is refused.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core import registry
from infield.core._deepinv import LinearPhysics, Physics
from infield.core.errors import InfieldError

ADJOINT_RTOL = 1e-5
"""Relative error of an adjoint up to which it is rounding; an adjoint of another map is off by 0.01 and more."""

SAME_RTOL = 1e-5
"""Relative difference of two fingerprints up to which operators are the same, on whatever processor."""

NAMED = "deepinv:"
"""Prefix of the names of deepinv's operators; the name of the class follows."""


def foreign(description: Mapping[str, Any]) -> bool:
    """Whether a description names an operator of another package, deepinv's included."""
    parts = description.get("operators")
    if isinstance(parts, list | tuple):
        return any(foreign(part) for part in parts if isinstance(part, Mapping))
    name = description.get("name")
    if not isinstance(name, str):
        return False
    return name.startswith(NAMED) or (
        registry.known("operators", name) and registry.find("operators", name).package != registry.HOUSE
    )


@torch.no_grad()
def fingerprint(operator: Physics, shape: tuple[int, ...]) -> list[float]:
    """Four numbers of A x, and four of A^T v where the operator is linear, for fixed x and v.

    Arguments:
        operator: In float64.
        shape: Of a field, `(channel, *space)`.

    Returns:
        Of each array the root mean square, and three weighted means of its values.
    """
    found = _numbers(operator.A(_fixed(shape, 0)[None])[0])
    if isinstance(operator, LinearPhysics):
        y = _fixed(tuple(operator.data_shape), 1)
        observed = getattr(operator, "observed", None)
        found += _numbers(operator.A_adjoint((y if observed is None else y * observed)[None])[0])
    return found


def same(one: list[float], other: list[float]) -> bool:
    """Whether two fingerprints are of one operator."""
    if len(one) != len(other):
        return False
    scales = [max(abs(a) for a in one[i : i + 4]) for i in range(0, len(one), 4) for _ in range(4)]
    return all(abs(a - b) <= SAME_RTOL * scale for a, b, scale in zip(one, other, scales, strict=False))


def _fixed(shape: tuple[int, ...], start: int) -> Tensor:
    """Values in (0, 1) that no generator draws: fractions of multiples of the golden ratio (Weyl's sequence)."""
    i = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64) + 0.25 * start
    return (i * ((5**0.5 - 1) / 2)).frac().reshape(shape)


def _numbers(values: Tensor) -> list[float]:
    flat = values.double().flatten()
    weights = [torch.ones_like(flat), *(2 * _fixed((len(flat),), start) - 1 for start in (2, 3))]
    return [float(flat.square().mean().sqrt()), *(float((flat * w).mean()) for w in weights)]


@contextmanager
def generators_at(seed: int) -> Iterator[None]:
    """The global generators of torch, numpy and Python at a seed; afterwards as they were."""
    states = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(states[0])  # noqa: NPY002
            random.setstate(states[1])


@torch.no_grad()
def check_rebuilt(name: str, operator: Physics, twin: Physics, shape: tuple[int, ...], remedy: str) -> None:
    """Refuse an operator that is another one each time it is built, or whose adjoint is not that of its map.

    Arguments:
        name: Of the operator, with the version of its package.
        operator: As it will be used.
        twin: The same, built once more, with global generators at another state.
        shape: Of a field.
        remedy: What to do about numbers that are drawn.

    Raises:
        InfieldError: It is.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((1, *shape), generator=generator, dtype=torch.float64)
    y = operator.A(x)
    other = twin.A(x)
    if other.shape != y.shape or not torch.allclose(other, y, rtol=1e-9, atol=1e-9 * float(y.abs().max())):
        raise InfieldError(
            found="numbers that are drawn anew each time it is built, so that no two processes have one operator",
            expected="the same operator each time",
            remedy=remedy,
        )
    if not isinstance(operator, LinearPhysics):
        return
    v = y / y.norm().clamp_min(1e-300) + torch.randn(y.shape, generator=generator, dtype=y.dtype) / y.numel() ** 0.5
    back = operator.A_adjoint(v)
    if not isinstance(back, Tensor) or back.shape != x.shape or back.is_complex():
        found = tuple(back.shape) if isinstance(back, Tensor) else type(back).__name__
        raise InfieldError(found=f"an adjoint that makes {found} of data", expected=f"a real field {tuple(x.shape)}")
    error = float(((y * v).sum() - (x * back).sum()).abs() / (y.norm() * v.norm()).clamp_min(1e-300))
    if not error <= ADJOINT_RTOL:
        raise InfieldError(
            found=f"an adjoint in {name} that is not the one of its map, relative error {error:.2g}",
            expected=f"at most {ADJOINT_RTOL:g}",
            remedy="samples would be wrong, use another operator",
        )
