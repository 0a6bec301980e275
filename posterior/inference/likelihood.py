"""The likelihood of a field as chains need it: value and gradient in one pass, and the information of the data on A
u."""

from __future__ import annotations

import torch
from torch import Tensor

from infield.core._deepinv import LinearPhysics, Physics
from infield.core.errors import InfieldError
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoiseModel
from infield.physics.operators.composition import is_affine
from infield.physics.operators.refusal import ForwardModelError


def value_and_gradient(measurement: Measurement, u: Tensor) -> tuple[Tensor, Tensor]:
    """log p(y | u) and its derivative with respect to the field, by one forward and one backward pass.

    A field that the operator refuses has no likelihood. It does not touch the others, which are then evaluated one by
    one.

    Arguments:
        measurement: Any operator, any noise model.
        u: Fields, shape `(batch, channel, *space)`.

    Returns:
        Values, shape `(batch,)`: -inf or NaN where the field is outside of the law's domain, is refused by the operator
        or a number is not finite; and gradients, shape of `u`, zero there.
    """
    try:
        return _value_and_gradient(measurement, u)
    except ForwardModelError:
        if len(u) == 1:
            return u.new_full((1,), -torch.inf), torch.zeros_like(u)
        values, gradients = zip(*(value_and_gradient(measurement, field) for field in u.split(1)), strict=True)
        return torch.cat(values), torch.cat(gradients)


def _value_and_gradient(measurement: Measurement, u: Tensor) -> tuple[Tensor, Tensor]:
    operator, noise = measurement.operator, measurement.noise
    z, x = _forward(measurement, u)
    y, mean = _harmless(measurement, measurement.y), _harmless(measurement, z.detach())
    value = noise.log_prob(y, mean, measurement.observed)
    pull = only_observed(measurement, noise.gradient(y, mean))
    possible = torch.isfinite(value) & torch.isfinite(pull).flatten(1).all(1)
    gradient = _backward(operator, x, z, torch.where(_each(possible, pull), pull, 0.0))
    finite = torch.isfinite(gradient).flatten(1).all(1)
    value = torch.where(possible & finite | (value == -torch.inf), value, torch.nan)
    return value, torch.where(_each(finite & possible, gradient), gradient, 0.0)


def rows_of_jacobian(measurement: Measurement, u: Tensor, cotangents: Tensor) -> Tensor:
    """J(u)^T v for several v at one field, shape `(cotangents, channel, *space)`."""
    z, x = _forward(measurement, u.expand(len(cotangents), *u.shape[1:]))
    return _backward(measurement.operator, x, z, only_observed(measurement, cotangents))


def information(measurement: Measurement, z: Tensor, v: Tensor) -> Tensor:
    """-(d^2 log p(y | z) / dz^2) v, zero where nothing was observed; R^{-1} v under Gaussian noise.

    A law whose data hang together gives its own, as `noise.information(z, v)`. For other laws, which treat every datum
    by itself, the curvature is a difference of the law's gradients, and taken
    as zero where it is negative. Behind an operator that is not affine the Fisher information replaces it where
    the noise model has it: with it J^T W J is the metric of the data (Knollmueller & Ensslin 2019, arXiv 1901.11033,
    eq. 21), and for counts behind an exponential the whole curvature, to which that of the operator belongs.

    Arguments:
        z: Noiseless data, shape `(1, *data)`.
        v: Shape `(batch, *data)`.
    """
    if isinstance(measurement.noise, GaussianNoiseModel):
        return only_observed(measurement, measurement.noise.solve(only_observed(measurement, v)))
    if hasattr(measurement.noise, "information"):  # errors that hang together without being Gaussian
        return only_observed(measurement, measurement.noise.information(z, only_observed(measurement, v)))
    if hasattr(measurement.noise, "fisher") and not is_affine(measurement.operator):
        return fisher_information(measurement, z) * v
    y, z = _harmless(measurement, measurement.y), _harmless(measurement, z)
    step = 1e-4 * (y.abs() + z.abs()) + 1e-12
    slope = (measurement.noise.gradient(y, z) - measurement.noise.gradient(y, z + step)) / step
    return only_observed(measurement, slope.nan_to_num(0.0, 0.0, 0.0).clamp_min(0.0) * v)


def slope(measurement: Measurement, z: Tensor) -> Tensor:
    """d log p(y | z) / dz, zero where nothing was observed; shape of z."""
    gradient = measurement.noise.gradient(_harmless(measurement, measurement.y), _harmless(measurement, z))
    return only_observed(measurement, gradient)


def fisher_information(measurement: Measurement, z: Tensor) -> Tensor:
    """Fisher information of each datum about its noiseless value, zero where nothing was observed; shape of z.

    Raises:
        InfieldError: If the noise model has none to each datum: its errors are correlated, or it does not define one.
    """
    if not hasattr(measurement.noise, "fisher"):
        raise InfieldError(
            where="the data's information about the field",
            found=f"noise {type(measurement.noise).__name__}",
            expected="a law of independent errors (gaussian, poisson, poisson-gaussian)",
        )
    return only_observed(measurement, measurement.noise.fisher(_harmless(measurement, z)))


def only_observed(measurement: Measurement, data: Tensor) -> Tensor:
    """The data, zero where nothing was observed."""
    return data if measurement.observed is None else torch.where(measurement.observed, data, 0.0)


def _harmless(measurement: Measurement, data: Tensor) -> Tensor:
    """The data, 1 where nothing was observed: no law objects to it, whatever lies there."""
    return data if measurement.observed is None else torch.where(measurement.observed, data, 1.0)


def _forward(measurement: Measurement, u: Tensor) -> tuple[Tensor, Tensor]:
    """A u, and the field by which it can be differentiated."""
    x = u.detach()
    if isinstance(measurement.operator, LinearPhysics):
        return measurement.operator.A(x), x
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        return measurement.operator.A(x), x


def _backward(operator: Physics, x: Tensor, z: Tensor, v: Tensor) -> Tensor:
    """J^T v: by the adjoint, by autograd through `z`, or, where `A` hides its derivative from autograd, by `A_vjp`."""
    if isinstance(operator, LinearPhysics):
        return operator.A_adjoint(v)
    if z.requires_grad:
        return torch.autograd.grad(z, x, v)[0]
    return operator.A_vjp(x.detach(), v)


def _each(choice: Tensor, like: Tensor) -> Tensor:
    return choice.reshape(-1, *[1] * (like.ndim - 1))
