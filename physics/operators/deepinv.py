"""Any operator of deepinv by the name of its class."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from infield.core._deepinv import MRI, Inpainting, MultiCoilMRI, Physics, deepinv
from infield.core.checks import is_whole
from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.physics.operators.base import ComplexBuffers, index_grid
from infield.physics.operators.complex_channels import real_channels
from infield.physics.operators.description import OperatorDescription
from infield.physics.operators.linear_product import LinearProduct
from infield.physics.operators.rebuilt import check_rebuilt, generators_at

COMPLEX_FIELD = "complex_field"
"""Parameter of a file: whether the channels of the field are real and imaginary parts of complex ones."""

SEED = "seed"
"""Parameter of a file for operators that draw their numbers: of the generators while one is built."""


class _PicklableDeepinv(ComplexBuffers):
    """Pickles an operator of deepinv as its class name, its arguments and its buffers: deepinv keeps lambdas inside.

    A noise model set on the operator is not kept; here noise belongs to the measurement.
    """

    recipe: tuple[Any, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return _build, self.recipe, self.state_dict()

    def __setstate__(self, state: Mapping[str, Tensor]) -> None:
        self.load_state_dict(state, strict=False, assign=True)


class _FieldByField:
    """deepinv's `Tomography` with the exact adjoint in every precision, and with memory for one field at a time.

    deepinv's own keeps a graph of float32 for the adjoint, which grows with the batch (93 MB a field of 128 x 128 under
    120 angles) and refuses data in float64.
    """

    def A(self, x: Tensor, **settings: Any) -> Tensor:
        return LinearProduct.apply(x, self._forward, self._backward)

    def A_adjoint(self, y: Tensor, **settings: Any) -> Tensor:
        return LinearProduct.apply(y, self._backward, self._forward)

    def _forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([super(_FieldByField, self).A(field) for field in x.split(1)])  # type: ignore[misc]

    def _backward(self, y: Tensor) -> Tensor:
        fields = []
        for data in y.split(1):
            with torch.enable_grad():
                x = data.new_zeros((1, data.shape[1], self.img_width, self.img_width), requires_grad=True)  # type: ignore[attr-defined]
                z = super().A(x)  # type: ignore[misc]
            fields += torch.autograd.grad(z, x, data)
        return torch.cat(fields)


class _OneCallAtATime:
    """deepinv's `DynamicMRI`, which holds the mask of all fields and frames in place of its own while it is called:
    blocks of draws in other threads would meet it."""

    calls: ClassVar = threading.RLock()

    def A(self, x: Tensor, **settings: Any) -> Tensor:
        with self.calls:
            return super().A(x, **settings)  # type: ignore[misc]

    def A_adjoint(self, y: Tensor, **settings: Any) -> Tensor:
        with self.calls:
            return super().A_adjoint(y, **settings)  # type: ignore[misc]


MENDED: Mapping[str, type] = {"Tomography": _FieldByField, "DynamicMRI": _OneCallAtATime}


@cache
def _class(name: str) -> type[Physics]:
    """deepinv's class, with complex buffers that survive `.to` and with pickling."""
    mended = (MENDED[name],) if name in MENDED else ()
    return type(name, (_PicklableDeepinv, *mended, getattr(deepinv.physics, name)), {})


def _build(
    name: str,
    arguments: Mapping[str, Any],
    grid: Grid | PointSet,
    channels: int,
    seed: int | None = None,
    state: int | None = None,
) -> Physics:
    """The operator; `seed` is that of its file, `state` that of the global generators meanwhile where it differs."""
    own = dict(arguments)
    if seed is not None and "rng" in inspect.signature(getattr(deepinv.physics, name)).parameters:
        own["rng"] = torch.Generator().manual_seed(seed)
    precision = inspect.signature(getattr(deepinv.physics, name)).parameters.get("dtype")
    if precision is not None and isinstance(precision.default, torch.dtype) and name != "Tomography":  # follows data
        own.setdefault("dtype", torch.complex128 if precision.default.is_complex else torch.float64)
    complex_field = bool(own.pop(COMPLEX_FIELD, False))
    with generators_at(state if state is not None else seed or 0), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deepinv's own defaults to come, which a file cannot mend
        operator = _class(name)(**own).to(torch.float64)
        operator = _behind_real_channels(operator, grid, channels, complex_field)
    operator.builder, operator.recipe = _build, (name, arguments, grid, channels, seed)
    operator.name = f"deepinv:{name}"
    operator.grid = grid
    operator.channels = channels
    with torch.no_grad():
        y = operator.A(torch.zeros(1, channels, *grid.shape, dtype=torch.float64))
    if y.ndim < 2 or y.shape[0] != 1:
        raise TypeError(f"it makes data of shape {tuple(y.shape)} of one field, whose first axis is not the field's")
    operator.data_shape = tuple(y.shape[1:])
    operator.data_grid = grid if operator.data_shape[1:] == grid.shape else index_grid(operator.data_shape[1:])
    operator.register_buffer("observed", _observed(operator, y))
    return operator


def _behind_real_channels(operator: Physics, grid: Grid | PointSet, channels: int, complex_field: bool) -> Physics:
    """The operator itself where fields and data are real tensors and no attribute clashes with those of Infield."""
    taken = {"grid", "channels", "data_shape", "data_grid", "observed"} & _tensors_of(operator)
    if not taken and not complex_field:
        try:
            with torch.no_grad():
                y = operator.A(torch.zeros(1, channels, *grid.shape, dtype=torch.float64))
        except Exception:  # perhaps it takes complex numbers only
            y = None
        if isinstance(y, Tensor) and not y.is_complex():
            return operator
    return real_channels(operator, grid, channels, complex_field=complex_field)


def _tensors_of(operator: Physics) -> set[str]:
    """Names of parameters, buffers and modules, which no other attribute can have."""
    return set(operator._parameters) | set(operator._buffers) | set(operator._modules)


def _observed(operator: Physics, y: Tensor) -> Tensor | None:
    """Return which entries of the data are measured, for operators that have a mask."""
    if not isinstance(operator, Inpainting | MRI | MultiCoilMRI):
        return None
    mask = operator.mask[:, :, None] if isinstance(operator, MultiCoilMRI) else operator.mask
    return (mask != 0).expand(y.shape)[0].clone()


def build_deepinv(description: OperatorDescription) -> Physics:
    """The operator `deepinv:<ClassName>`; parameters and arrays are its keyword arguments.

    Unless it was checked, it is built twice, see `operators.rebuilt`: an operator whose numbers are drawn when it is
    built needs a parameter `seed`.

    `img_size` is filled in from the field where the constructor takes it and the file does not give it. Arrays arrive
    as float64, complex128 or integer tensors, and must have the shapes that deepinv documents. For `Inpainting`,
    `MRI` and `MultiCoilMRI` the observed entries are those where the mask is not zero.

    Raises:
        InfieldError: deepinv has no such operator, an argument is unknown, deepinv refuses the arguments or the field,
            the operator differs from one process to the next, or its adjoint is wrong.
    """
    name = description.name.removeprefix("deepinv:")
    found = getattr(deepinv.physics, name, None)
    if not (inspect.isclass(found) and issubclass(found, Physics)):
        raise description.error(
            found=f"no class {name} in deepinv.physics {deepinv.__version__}",
            expected="a class of an operator",
            remedy="see the classes of deepinv.physics",
        )
    constructors = [inspect.signature(cls) for cls in found.__mro__ if issubclass(cls, Physics)]
    known = {parameter for constructor in constructors for parameter in constructor.parameters} - {"kwargs"}
    ours = SEED not in known
    description.expect(tuple(sorted({*known, SEED, COMPLEX_FIELD})), tuple(sorted(known)))
    arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in description.parameters.items()}
    for role, array in description.arrays.items():
        tensor = torch.tensor(array)
        floats = not tensor.is_complex() and array.dtype.kind in "fb"
        arguments[role] = tensor.to(
            torch.float64 if floats else torch.complex128 if tensor.is_complex() else tensor.dtype
        )
    if "img_size" in inspect.signature(found).parameters:
        halves = 2 if description.parameters.get(COMPLEX_FIELD) else 1
        arguments.setdefault("img_size", (description.channels // halves, *description.grid.shape))
    seed = arguments.pop(SEED, None) if ours else None
    if seed is not None and not is_whole(seed):
        raise description.error(found=f"seed {seed!r}", expected="a whole number from 0 on")
    try:
        construction = (name, arguments, description.grid, description.channels, seed)
        operator = _build(*construction)
        if not description.checked:
            twin = _build(*construction, state=1 if seed is None else seed)
            remedy = "give them as arrays" + ("" if "seed" in description.parameters else ", or add a parameter 'seed'")
            shape = (description.channels, *description.grid.shape)
            check_rebuilt(f"deepinv {deepinv.__version__}", operator, twin, shape, remedy)
        return operator
    except InfieldError as error:
        raise error.within(f"operator '{description.name}'") from error
    except Exception as error:  # whatever deepinv raises, the file is what has to be mended
        reason = " ".join(str(error).split()) or type(error).__name__
        field = (description.channels, *description.grid.shape)
        raise description.error(
            found=f"an error of deepinv for a field of shape {field} ({reason})", expected="an operator"
        ) from error
