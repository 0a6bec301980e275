r"""A prior and a measurement as the samplers of deepinv take them: a denoiser, and an operator with white noise.

They support white noise alone, x + sigma eps. In the coordinates that whiten a prior's source, u = C_0^{-1/2} x, there
the source is white, and

    u_t / t = u_1 + sigma eps,    sigma = (1 - t) / t,

so that D(z, sigma) = E[u_1 | u_1 + sigma eps = z] is the prior's own denoiser at t = 1 / (1 + sigma), and A C_0^{1/2}
the operator. Some of their samplers clip images to [0, 1]: `UnitRange` puts nearly all of the prior there.

    problem = UnitRange(WhitenedProblem(prior, measurement))
    model = deepinv.sampling.DPS(DeepinvDenoiser(problem.denoise))
    draws = problem.fields(model(problem.y, to_physics(problem)))
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from infield.core._deepinv import DecomposablePhysics, LinearPhysics, Physics
from infield.core._deepinv import Denoiser as BaseDenoiser
from infield.core._deepinv import GaussianNoise as DeepinvNoise
from infield.core.calls import Calls
from infield.core.eigenvectors import canonical_basis
from infield.core.errors import InfieldError
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.priors.base import FlowPrior, denoise

Denoiser = Callable[[Tensor, Tensor], Tensor]

LARGEST_MATRIX = 20_000_000
"""Most entries of an operator that is decomposed as a matrix (160 MB)."""

SAME_SINGULAR = 1e-9
"""Singular values nearer to each other than this fraction of the largest one are one that is repeated."""


@runtime_checkable
class Correlated(Protocol):
    """Gaussian noise that is correlated, and a linear map that makes it white and of variance 1."""

    def whiten(self, r: Tensor) -> Tensor: ...
    def whiten_adjoint(self, r: Tensor) -> Tensor: ...


class DeepinvDenoiser(BaseDenoiser):
    """A denoiser in the form in which deepinv calls one: sigma a number or one a batch element.

    Arguments:
        denoise: (x, sigma) -> E[x_0 | x], sigma of shape `(batch, 1, ...)` as x has axes.
    """

    def __init__(self, denoise: Denoiser) -> None:
        super().__init__()
        self.denoise = denoise

    def forward(self, x: Tensor, sigma: Tensor | float | None = None, *args: object, **kwargs: object) -> Tensor:
        s = torch.as_tensor(sigma, dtype=x.dtype)
        s = s.expand(x.shape[0]) if s.ndim == 0 else s
        one = [1] * (x.ndim - 1)
        return self.denoise(x, s.reshape(-1, *one).expand(len(x), *one))


class SamplingProblem(Protocol):
    """What is sampled, in the coordinates of the library."""

    linear: bool
    y: Tensor
    noise_std: float
    shape: tuple[int, ...]

    def denoise(self, z: Tensor, sigma: Tensor | float) -> Tensor: ...
    def A(self, u: Tensor) -> Tensor: ...
    def A_adjoint(self, y: Tensor) -> Tensor: ...
    def A_vjp(self, u: Tensor, y: Tensor) -> Tensor: ...
    def fields(self, u: Tensor) -> Tensor: ...
    def calls(self, n: int) -> dict[str, float]: ...


class WhitenedProblem:
    """A prior and a measurement in the coordinates that whiten the prior's source, shape `(batch, channel, *space)`.

    Calls of operator and velocity are counted as `posterior.samplers.base` counts ours.

    Arguments:
        prior: The prior.
        measurement: Of its field, in units, with independent Gaussian noise, or such as `Correlated` makes white.

    Raises:
        InfieldError: If the noise is another.
    """

    def __init__(self, prior: FlowPrior, measurement: Measurement) -> None:
        data = measurement.pullback(prior.standardisation)
        self.linear = isinstance(data.operator, LinearPhysics)
        self._operator = Calls(data.operator, "A", "A_adjoint" if self.linear else "A_vjp", derivatives=True)
        self._velocity = Calls(prior, "velocity")
        self.operator, self.prior, self.y = self._operator.counted, self._velocity.counted, data.y
        self.correlated = data.noise if isinstance(data.noise, Correlated) else None
        if self.correlated is not None:
            self.y = self.correlated.whiten(data.y)
            variance = data.y.new_ones(1)
        elif isinstance(data.noise, GaussianNoise):
            variance = data.noise.variance.to(data.y)
        else:
            kind = type(data.noise).__name__
            raise InfieldError(
                where="deepinv's samplers", found=f"noise {kind}", expected="Gaussian noise that can be whitened"
            )
        self.noise_std = float(variance.mean()) ** 0.5
        self.weights = self.noise_std / variance.sqrt() if variance.numel() > 1 else None  # of data, to one variance
        if data.observed is not None:
            seen = data.observed.to(data.y)
            self.weights = seen if self.weights is None else seen * self.weights
        if self.weights is not None:
            self.y = self.weights * torch.where(self.weights > 0, self.y, 0.0)
        self.shape = prior.source.event_shape
        self.deviation = prior.source.diagonal.sqrt()
        self.largest_variance = float((prior.covariance.truncated(0).diagonal / prior.source.diagonal).max())

    def calls(self, n: int) -> dict[str, float]:
        """Cost a draw, of n."""
        return {"solver_calls": self._operator.fields / n, "velocity_calls": self._velocity.fields / n}

    def colour(self, u: Tensor) -> Tensor:
        """Standardised fields x = C_0^{1/2} u, float64; u as `Modes.white` takes it, for deepinv draws noise there."""
        modes = self.prior.source.modes
        return modes.synthesise(self.deviation * modes.white(u.to(torch.float64)))

    def whiten(self, x: Tensor) -> Tensor:
        modes = self.prior.source.modes
        return modes.white_on_grid(modes.analyse(x) / self.deviation)

    def fields(self, u: Tensor) -> Tensor:
        """Draws in units."""
        return self.prior.standardisation.to_units(self.colour(u))

    def velocity(self, u: Tensor, t: float) -> Tensor:
        return self.whiten(self.prior.velocity(self.colour(u), t))

    def denoise(self, z: Tensor, sigma: Tensor | float) -> Tensor:
        """E[u_1 | u_1 + sigma eps = z] for one sigma > 0; shape and precision of z."""
        t = 1 / (1 + float(torch.as_tensor(sigma).flatten()[0]))
        return self.whiten(denoise(self.prior, self.colour(t * z), t)).to(z.dtype)

    def A(self, u: Tensor) -> Tensor:
        return self._weighted(self.operator.A(self.colour(u))).to(u.dtype)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Of a linear operator."""
        return self._uncolour(self.operator.A_adjoint(self._weighted_adjoint(y.to(torch.float64)))).to(y.dtype)

    def A_vjp(self, u: Tensor, y: Tensor) -> Tensor:
        if self.linear:
            return self.A_adjoint(y)
        pulled = self.operator.A_vjp(self.colour(u), self._weighted_adjoint(y.to(torch.float64)))
        return self._uncolour(pulled).to(y.dtype)

    def _weighted(self, y: Tensor) -> Tensor:
        """Data with white noise, and 0 where there are none."""
        y = y if self.correlated is None else self.correlated.whiten(y)
        return y if self.weights is None else self.weights * y

    def _weighted_adjoint(self, y: Tensor) -> Tensor:
        y = y if self.weights is None else self.weights * y
        return y if self.correlated is None else self.correlated.whiten_adjoint(y)

    def _uncolour(self, x: Tensor) -> Tensor:
        modes = self.prior.source.modes
        return modes.white_on_grid(self.deviation * modes.analyse(x))


class UnitRange:
    """The same problem for images w in [0, 1], u = T (mean + a (2 w - 1)), T the source's modes, the mean the prior's.

    So w is an image: where the source is white, the field itself in another scale.

    Arguments:
        problem: In whitened coordinates.
        reach: a, in root mean square standard deviations of u: what lies beyond may be clipped.
    """

    def __init__(self, problem: WhitenedProblem, reach: float = 4.0) -> None:
        self.problem, self.linear, self.shape = problem, problem.linear, problem.shape
        self.modes = problem.prior.source.modes
        variance = problem.prior.covariance.truncated(0).diagonal / problem.prior.source.diagonal
        self.a = reach * float(variance.mean()) ** 0.5
        self.mean = self._image(problem.whiten(problem.prior.mean[None]))
        self.noise_std = problem.noise_std
        zero = self.mean.new_zeros((1, *self.shape))
        self.y = problem.y - problem.A(self.u(zero)) if self.linear else problem.y

    def calls(self, n: int) -> dict[str, float]:
        """Cost a draw, of n."""
        return self.problem.calls(n)

    def u(self, w: Tensor) -> Tensor:
        """The whitened coordinates of images."""
        return self._white(self.mean.to(w) + self.a * (2 * w - 1))

    def fields(self, w: Tensor) -> Tensor:
        """Draws in units."""
        return self.problem.fields(self.u(w))

    def denoise(self, z: Tensor, sigma: Tensor | float) -> Tensor:
        """E[w | w + sigma eps = z] for one sigma; z itself without noise. Shape and precision of z."""
        s = 2 * self.a * float(torch.as_tensor(sigma).flatten()[0])
        if s == 0:
            return z
        clean = self._image(self.problem.denoise(self.u(z), s))
        return (clean - self.mean.to(z)) / (2 * self.a) + 0.5

    def A(self, w: Tensor) -> Tensor:
        """Without what w = 0 gives, where the operator is linear."""
        return self.problem.A(self._white(2 * self.a * w) if self.linear else self.u(w))

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Of a linear operator."""
        return 2 * self.a * self._image(self.problem.A_adjoint(y))

    def A_vjp(self, w: Tensor, y: Tensor) -> Tensor:
        if self.linear:
            return self.A_adjoint(y)
        return 2 * self.a * self._image(self.problem.A_vjp(self.u(w), y))

    def _white(self, image: Tensor) -> Tensor:
        """An image in the coordinates of `problem`."""
        return self.modes.white_on_grid(self.modes.analyse(image))

    def _image(self, u: Tensor) -> Tensor:
        """The inverse of `_white`."""
        return self.modes.synthesise(self.modes.white(u))


class ProblemPhysics(Physics):
    """The operator of a problem, as deepinv has them."""

    def __init__(self, problem: SamplingProblem) -> None:
        super().__init__(noise_model=DeepinvNoise(problem.noise_std))
        self.problem = problem

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        return self.problem.A(x)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.problem.A_vjp(x, v)


class LinearProblemPhysics(LinearPhysics):
    """The same of a linear operator."""

    def __init__(self, problem: SamplingProblem) -> None:
        super().__init__(img_size=problem.shape, noise_model=DeepinvNoise(problem.noise_std))
        self.problem = problem

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:
        return self.problem.A(x)

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
        return self.problem.A_adjoint(y)


def to_physics(problem: SamplingProblem) -> Physics:
    """The operator of a problem, with its noise."""
    return (LinearProblemPhysics if problem.linear else ProblemPhysics)(problem)


def fixed_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U `(data, r)`, s `(r,)` and the whole orthogonal V `(values, values)` of a matrix `(data, values)`.

    deepinv's samplers draw noise in these coordinates. So the vectors of each singular value, which may be repeated,
    are those that depend on their span alone, as are those of the null space.
    """
    _, singular, right = torch.linalg.svd(matrix)  # right holds all of the orthogonal matrix
    r = len(singular)
    size = torch.cat([singular, singular.new_zeros(len(right) - r)])
    size = torch.where(size > SAME_SINGULAR * singular[0], size, 0.0)
    edges = [0, *((size[:-1] - size[1:] > SAME_SINGULAR * singular[0]).nonzero()[:, 0] + 1).tolist(), len(size)]
    V = torch.cat([canonical_basis(right[a:b].mT) for a, b in pairwise(edges)], dim=1)
    scale = size[:r].clone()
    U = matrix @ V[:, :r] / torch.where(scale > 0, scale, 1.0)
    return U, scale, V


def to_decomposable_physics(problem: SamplingProblem) -> DecomposablePhysics:
    """A linear operator by the singular values of its matrix: for samplers that need them, on small fields.

    Singular vectors are images, and singular values an image of the field's shape, float32 as deepinv's are.

    Raises:
        InfieldError: The operator is not linear, or its matrix too large.
    """
    entries = problem.y[0].numel() * torch.Size(problem.shape).numel()
    if not problem.linear or entries > LARGEST_MATRIX:
        raise InfieldError(
            where="singular values",
            found=f"{entries:.0e} entries of a {'' if problem.linear else 'non'}linear operator",
            expected=f"a linear one and at most {LARGEST_MATRIX:.0e}",
        )
    shape, data = problem.shape, tuple(problem.y.shape[1:])
    unit = torch.eye(torch.Size(shape).numel(), dtype=torch.float64).reshape(-1, *shape)
    matrix = torch.cat([problem.A(part).flatten(1) for part in unit.split(256)]).mT  # (data, values)
    left, singular, full = fixed_svd(matrix)
    rank = len(singular)
    values = torch.zeros(len(full))
    values[:rank] = singular.float()

    def along(basis: Tensor, x: Tensor) -> Tensor:
        return x.to(torch.float64).flatten(1) @ basis

    def U(x: Tensor) -> Tensor:
        return along(left.mT, x.flatten(1)[:, :rank]).reshape(-1, *data).to(x.dtype)

    def U_adjoint(y: Tensor) -> Tensor:
        c = along(left, y)
        return torch.nn.functional.pad(c, (0, len(full) - rank)).reshape(-1, *shape).to(y.dtype)

    def V(x: Tensor) -> Tensor:
        return along(full.mT, x).reshape(-1, *shape).to(x.dtype)

    def V_adjoint(x: Tensor) -> Tensor:
        return along(full, x).reshape(-1, *shape).to(x.dtype)

    return DecomposablePhysics(
        U=U, U_adjoint=U_adjoint, V=V, V_adjoint=V_adjoint, img_size=shape, mask=values.reshape(1, *shape),
        noise_model=DeepinvNoise(problem.noise_std),
    )  # fmt: skip
