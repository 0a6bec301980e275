"""The battery of forward operators."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from infield.core._deepinv import LinearPhysics, Physics
from infield.core.errors import InfieldError
from infield.physics.operators.callables import as_operator
from infield.physics.operators.registry import build_operator
from infield.testing.failure import CheckFailed, require, require_close, require_shape

SINGLE = 1e-4
"""Relative error that single precision is allowed."""


def check_operator(
    operator: Any,
    fields: Tensor | None = None,
    *,
    grid: Any = None,
    channels: int | None = None,
    description: Mapping[str, Any] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    tolerance: float = 1e-9,
    jacobian_tolerance: float = 1e-5,
    single: bool = True,
    pickled: bool = True,
    seed: int = 0,
) -> None:
    """Check a forward operator.

    Data have the shape `data_shape`, are finite, and the same when they are computed again; the field is left
    as it was, and row i of a batch is the same as alone; a linear operator is linear, and its adjoint is the transposed
    map; the transposed Jacobian (`A_vjp`) and, if there is one, the Jacobian (`A_jvp`) agree with central differences;
    the operator works in single precision, on other devices that are there, after pickling, and, if it has a
    description, built from that again.

    Arguments:
        operator: An operator of Infield or deepinv, or a function, which is then wrapped (`as_operator`).
        fields: At least two fields of its domain, shape `(batch, channel, *space)`, float64; standard normal by
            default.
        grid: Grid of the field, where the operator has none.
        channels: Channels of the field, if the operator does not define them.
        description: The operator as a measurement file describes it; by default what `infield.operator` noted.
        arrays: The arrays that the description names.
        tolerance: Of linearity, adjoint and batches, relative.
        jacobian_tolerance: Of derivatives beside finite differences, relative.
        single: Whether single precision is to work.
        pickled: Whether it is to survive pickling, as tasks on other machines need.
        seed: Of the random fields.

    Raises:
        CheckFailed: A check does not hold; the first one is named.
    """
    grid = grid if grid is not None else getattr(operator, "grid", None)
    channels = channels or getattr(operator, "channels", None) or (1 if fields is None else fields.shape[1])
    description, arrays = _described(operator, description, arrays)
    try:
        A = as_operator(operator, grid, channels)
    except InfieldError as error:
        raise CheckFailed("operator", str(error)) from error
    rng = Generator().manual_seed(seed)
    x = torch.randn((3, channels, *grid.shape), generator=rng, dtype=torch.float64) if fields is None else fields
    require(len(x) >= 2, "fields", f"found {len(x)}, expected at least two")
    kept = x.clone()
    y = A.A(x)
    require_shape(y, (len(x), *A.data_shape), "data")
    require(torch.equal(x, kept), "field", "A changes the field that it is given")
    require_close(A.A(x), y, 1e-12, "repeatable", "data of the same field")
    alone = torch.cat([A.A(x[i : i + 1]) for i in range(len(x))])
    require_close(alone, y, tolerance, "batch", "data of a field alone and in a batch")
    w = torch.randn(y.shape, generator=rng, dtype=torch.float64)
    observed = getattr(A, "observed", None)
    if observed is not None:
        require(tuple(observed.shape) == tuple(A.data_shape), "observed", "its mask has another shape than the data")
        require(bool((y[:, ~observed] == 0).all()), "observed", "data that are not observed are not zero")
    linear = isinstance(A, LinearPhysics)
    if linear:
        _check_linear(A, x, rng, tolerance)
        back = A.A_adjoint(w)
        require_shape(back, tuple(x.shape), "adjoint")
        _check_pairs(A, x, w, back, tolerance)
        alone = torch.cat([A.A_adjoint(w[i : i + 1]) for i in range(len(w))])
        require_close(alone, back, tolerance, "batch", "adjoints of data alone and in a batch")
    _check_jacobian(A, x, w, rng, jacobian_tolerance)
    for name, other in _copies(A, description, arrays, pickled):
        require_close(other.A(x), y, 1e-12, name, "data before and after")
    if single:
        half = copy.deepcopy(A).to(torch.float32)
        z = half.A(x.float())
        require(z.dtype == torch.float32, "single precision", f"found data of type {z.dtype}, expected torch.float32")
        require_close(z, y, SINGLE, "single precision", "data in single and double precision")
    if torch.cuda.is_available():
        there = copy.deepcopy(A).to("cuda").A(x.to("cuda"))
        require(there.device.type == "cuda", "device", f"found data on {there.device}, expected those of the field")
        require_close(there.cpu(), y, 1e-8, "device", "data on the processor and on the accelerator")


def _described(
    operator: Any, description: Mapping[str, Any] | None, arrays: Mapping[str, np.ndarray] | None
) -> tuple[Mapping[str, Any] | None, Mapping[str, np.ndarray]]:
    if description is None and hasattr(operator, "described"):
        description, arrays = operator.described
    return description, arrays or {}


def _check_linear(A: Physics, x: Tensor, rng: Generator, tolerance: float) -> None:
    z = torch.randn(x.shape, generator=rng, dtype=x.dtype)
    parts = 1.5 * A.A(x) - 0.3 * A.A(z)
    require_close(A.A(1.5 * x - 0.3 * z), parts, tolerance, "linear", "A(a x + b z) and a A(x) + b A(z)")
    require(bool((A.A(torch.zeros_like(x)) == 0).all()), "linear", "A(0) is not zero")


def _check_pairs(A: Physics, x: Tensor, w: Tensor, back: Tensor, tolerance: float) -> None:
    """<A x, w> = <x, A^T w> for every pair by itself: errors of one must not make up for those of another."""
    y = A.A(x)
    one, other = y.flatten(1) @ w.flatten(1).T, x.flatten(1) @ back.flatten(1).T
    size = torch.outer(y.flatten(1).norm(dim=1), w.flatten(1).norm(dim=1))
    size = torch.maximum(size, torch.outer(x.flatten(1).norm(dim=1), back.flatten(1).norm(dim=1)))
    error = float(((one - other).abs() / size.clamp_min(1e-300)).max())
    require(error <= tolerance, "adjoint", f"<A x, w> and <x, A^T w> differ by {error:.2g}, expected {tolerance:.2g}")


def _check_jacobian(A: Physics, x: Tensor, w: Tensor, rng: Generator, tolerance: float) -> None:
    back = A.A_vjp(x, w)
    require_shape(back, tuple(x.shape), "vjp")
    v = torch.randn(x.shape, generator=rng, dtype=x.dtype)
    step = 1e-5 * float(x.abs().max().clamp_min(1e-3))
    slope = (A.A(x + step * v) - A.A(x - step * v)) / (2 * step)
    one, other = (slope * w).flatten(1).sum(1), (v * back).flatten(1).sum(1)
    size = slope.flatten(1).norm(dim=1) * w.flatten(1).norm(dim=1)
    error = float(((one - other).abs() / size.clamp_min(1e-300)).max())
    require(error <= tolerance, "vjp", f"<J v, w> and <v, J^T w> differ by {error:.2g}, expected {tolerance:.2g}")
    if hasattr(A, "A_jvp"):
        require_close(A.A_jvp(x, v), slope, 10 * tolerance, "jvp", "J v and the central difference")


def _copies(
    A: Physics, description: Mapping[str, Any] | None, arrays: Mapping[str, np.ndarray], pickled: bool
) -> list[tuple[str, Physics]]:
    """The operator after pickling, and built from its description again."""
    found = []
    if pickled:
        try:
            found.append(("pickle", pickle.loads(pickle.dumps(A))))
        except Exception as error:  # whatever its parts raise
            raise CheckFailed("pickle", f"it cannot be pickled ({error})") from error
    if description:
        again = json.loads(json.dumps(description))
        found.append(("description", build_operator(again, arrays, A.grid, A.channels)))
    return found
