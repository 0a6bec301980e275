"""Pressure under a coefficient, -div(a grad u) = f, and its derivatives by the adjoint equation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from infield.physics.operators.refusal import ForwardModelError
from infield.physics.pde.dirichlet import interior, pad_boundary
from infield.physics.pde.sine_transform import sine_transform


@dataclass(frozen=True, eq=False)
class DarcySolver:
    r"""Finite volumes for :math:`-\nabla \cdot (a \nabla u) = f`, u = 0 on the boundary, around the grid points.

    The coefficient of a face is the harmonic mean of those of its two points, which is exact if a jumps between them.

    Arguments:
        spacing: Grid spacing along each axis.
        eigenvalues: Eigenvalues of minus the discrete Laplacian, shape of the interior, float64.
        tolerance: Stop where |f - K u| <= tolerance |f| in the norm |r| = sqrt(r M r) of the preconditioner M. The
            relative error of u in the energy norm is at most the root of the condition number of M K times that.
        max_iterations: Maximum number of iterations.
    """

    spacing: tuple[float, ...]
    eigenvalues: Tensor
    tolerance: float
    max_iterations: int

    @property
    def ndim(self) -> int:
        return len(self.spacing)

    def faces(self, a: Tensor) -> list[Tensor]:
        """Coefficients over squared spacing, for each axis: `n - 1` faces along it, `n - 2` points along the others."""
        return [2 / (1 / low + 1 / high) / h**2 for (low, high), h in zip(self._sides(a), self.spacing, strict=True)]

    def solve(self, a: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        """Conjugate gradients for a batch (Saad 2003, algorithm 9.1), preconditioned as described in `scaling`.

        A converged sample is frozen while the others iterate, so that it is independent of the rest of the batch.

        Arguments:
            a: Coefficient, positive, shape `(batch, *space)`.
            f: Right-hand side, shape `(batch, *interior)`.

        Returns:
            u, shape `(batch, *interior)`, and the number of iterations of each sample, shape `(batch,)`.

        Raises:
            ForwardModelError: A sample has not converged by then, or its right-hand side is not finite.
        """
        K, each = Stencil(self.faces(a)), (-1, *(1,) * self.ndim)
        s = self.scaling(a, K)
        u, r = torch.zeros_like(f), f.clone()
        p = z = s * self.inverse_laplacian(s * r)
        rho = _dot(r, z)
        if not torch.isfinite(rho).all():
            raise _error(
                ~torch.isfinite(rho),
                found="NaN or infinity where the solve starts",
                expected="a finite right-hand side and a coefficient whose contrast float64 can hold",
            )
        goal, iterations = self.tolerance**2 * rho, torch.zeros_like(rho, dtype=torch.int64)
        while (active := ~(rho <= goal)).any():  # NaN never converges
            if iterations.max() == self.max_iterations:
                residual = float((rho / goal).sqrt()[active][0]) * self.tolerance
                contrast = float((a.flatten(1).amax(1) / a.flatten(1).amin(1))[active][0])
                raise _error(
                    active,
                    found=f"residual {residual:.1e} after {self.max_iterations} iterations",
                    expected=f"at most {self.tolerance:.0e}",
                    remedy=f"lower the contrast of the coefficient, {contrast:.1e}, or raise max_iterations",
                )
            iterations += active
            Kp = K(p)
            alpha = torch.where(active, rho / _dot(p, Kp), 0.0).reshape(each)
            u.addcmul_(alpha, p)
            r.addcmul_(alpha, Kp, value=-1)
            z = s * self.inverse_laplacian(s * r)
            rho_next = _dot(r, z)
            p = torch.addcmul(z, torch.where(active, rho_next / rho, 0.0).reshape(each), p)
            rho = torch.where(active, rho_next, rho)
        return u, iterations

    def scaling(self, a: Tensor, K: Stencil) -> Tensor:
        r"""The diagonal S of the preconditioner S L^-1 S: the better one of 1 and a^-1/2 for each sample.

        With S = 1 the condition number is at most max a / min a on every mesh. With S = a^-1/2, S K S is L + q with the
        potential :math:`q = a^{-1/2} \nabla^2 a^{1/2}`, up to jumps (Concus & Golub 1973): better for smooth log a,
        whatever the mesh; worse where a jumps, the more so the finer the mesh. The estimate of its condition is made of
        the size of q in H^-1 and of the largest jump; the factor 1 / 16 was fitted to binary, Gaussian, exponential and
        white-noise log a of contrasts 2 to 10^8 on 32^2 to 128^2. Only the cost depends on the choice.

        Returns:
            S, shape `(batch, *interior)`.
        """
        s = interior(a, self.ndim).rsqrt()
        q = s * K(s) - Stencil(self.faces(torch.ones_like(a)))(torch.ones_like(s))
        size = torch.tensor([(n + 1) * h for n, h in zip(s.shape[1:], self.spacing, strict=True)]).prod()
        strength = (q * self.inverse_laplacian(q)).flatten(1).mean(1).clamp(min=0) * size ** (2 / self.ndim)
        jumps = [(high / low).log().abs().flatten(1).amax(1) for low, high in self._sides(a)]
        condition = torch.cosh(torch.stack(jumps).amax(0) / 2) * (1 + strength.sqrt()) ** 2 / 16
        smooth = condition < a.flatten(1).amax(1) / a.flatten(1).amin(1)
        return torch.where(smooth.reshape(-1, *(1,) * self.ndim), s, 1.0)

    def sensitivity(self, a: Tensor, u: Tensor, w: Tensor) -> Tensor:
        """The derivative of -w K(a) u with respect to a, shape of a; u and w are defined on the interior."""
        slopes = [
            -(k**2) / 2 * h**2 * du * dw  # d k / d a_low = (k / a_low)^2 / 2 for a face, and for a_high likewise
            for k, h, du, dw in zip(
                self.faces(a), self.spacing, self._differences(u), self._differences(w), strict=True
            )
        ]
        total = torch.zeros_like(a)
        for axis, slope in enumerate(slopes):
            margins = [(0, 0) if i == axis else (1, 1) for i in range(self.ndim)]
            for side in ((0, 1), (1, 0)):
                margins[axis] = side
                total = total + torch.nn.functional.pad(slope, [m for pair in reversed(margins) for m in pair])
        return total / a**2

    def inverse_laplacian(self, r: Tensor) -> Tensor:
        return sine_transform(sine_transform(r, self.ndim) / self.eigenvalues, self.ndim)

    def _sides(self, a: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The two neighbours of every face, for each axis."""
        sides = []
        for axis in range(self.ndim):
            inside = [slice(1, -1)] * self.ndim
            low, high = ([*inside[:axis], along, *inside[axis + 1 :]] for along in (slice(-1), slice(1, None)))
            sides.append((a[(..., *low)], a[(..., *high)]))
        return sides

    def _differences(self, u: Tensor) -> list[Tensor]:
        """Across every face, for each axis."""
        return [high - low for low, high in self._sides(pad_boundary(u, self.ndim))]


class Stencil:
    """u -> K u, the fluxes out of the volume of every interior point.

    Arguments:
        faces: Their coefficients, as `DarcySolver.faces` gives them.
    """

    def __init__(self, faces: list[Tensor]) -> None:
        self.between: list[tuple[int, Tensor]] = []
        self.diagonal = torch.zeros(())
        for i, k in enumerate(faces):
            axis, m = i - len(faces), k.shape[i - len(faces)]
            self.diagonal = self.diagonal.to(k) + k.narrow(axis, 0, m - 1) + k.narrow(axis, 1, m - 1)
            self.between.append((axis, k.narrow(axis, 1, m - 2)))

    def __call__(self, u: Tensor) -> Tensor:
        out = self.diagonal * u
        for axis, k in self.between:
            m = k.shape[axis]
            out.narrow(axis, 0, m).addcmul_(k, u.narrow(axis, 1, m), value=-1)
            out.narrow(axis, 1, m).addcmul_(k, u.narrow(axis, 0, m), value=-1)
        return out


class DarcySolve(torch.autograd.Function):
    """(a, f) -> u = K(a)^-1 f; backwards one more solve, K w = v, whatever the number of iterations.

    The backward pass is made of the same function, so that second derivatives exist too.
    """

    @staticmethod
    def forward(a: Tensor, f: Tensor, equation: DarcySolver) -> Tensor:
        return equation.solve(a, f)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, _, ctx.equation = inputs
        ctx.save_for_backward(a, output)

    @staticmethod
    def backward(ctx: Any, *v: Tensor) -> tuple[Tensor | None, ...]:
        a, u = ctx.saved_tensors
        w = DarcySolve.apply(a, v[0], ctx.equation)
        return ctx.equation.sensitivity(a, u, w), w, None


def _error(bad: Tensor, **fields: str) -> ForwardModelError:
    """An error that names the first of the bad samples."""
    return ForwardModelError(where=f"operator 'darcy': sample {int(bad.nonzero()[0])} of the batch", **fields)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vecdot(a.flatten(1), b.flatten(1))
