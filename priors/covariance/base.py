"""Factored covariances: diagonal in the modes of the source, plus a low-rank part. No N-by-N matrix is ever formed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from infield.core.brief import Brief
from infield.core.eigenvectors import number_above
from infield.priors.covariance.modes import Modes

DIRECT_RANK = 256
"""Number of factors up to which they are decomposed directly; above it their Gram matrix is."""


@dataclass(frozen=True, repr=False)
class Covariance(Brief):
    r"""The covariance :math:`C = T^T (\mathrm{diag}(d) + \sum_r f_r f_r^T)\, T` of fields of shape `(channel, *space)`.

    Products cost O(N r) and the two changes of basis, O(N log N) by FFT; a draw and the conditional law of a flow's
    bridge (`priors.gaussian.prior.bridge`) are closed in this family.

    Arguments:
        modes: The orthonormal basis T.
        diagonal: Variances d >= 0 of the modes, shape `(channel, *space)`.
        factors: Low-rank factors f_r in the modes' coordinates, shape `(rank, channel, *space)`; rank 0 is allowed.
    """

    modes: Modes
    diagonal: Tensor
    factors: Tensor

    def about(self) -> dict[str, object]:
        """What a short description shows."""
        return {"modes": type(self.modes).__name__, "fields": self.event_shape, "rank": self.rank}

    @classmethod
    def diagonal_in(cls, modes: Modes, diagonal: Tensor) -> Covariance:
        """A covariance without a low-rank part."""
        return cls(modes, diagonal, diagonal.new_zeros((0, *diagonal.shape)))

    @property
    def rank(self) -> int:
        return self.factors.shape[0]

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.diagonal.shape)

    @property
    def trace(self) -> float:
        """Sum of the variances of all values of the field."""
        return float(self.diagonal.sum() + self.factors.square().sum())

    def apply(self, x: Tensor) -> Tensor:
        """C x for fields x of shape `(batch, channel, *space)`."""
        return self.modes.synthesise(self.apply_to_modes(self.modes.analyse(x)))

    def apply_to_modes(self, c: Tensor) -> Tensor:
        """The same product for fields in the modes' coordinates, input and output."""
        if self.rank == 0:
            return self.diagonal * c
        weights = c.flatten(1) @ self.factors.flatten(1).mT
        return self.diagonal * c + (weights @ self.factors.flatten(1)).reshape(c.shape)

    def colour(self, white: Tensor, more: Tensor | None = None) -> Tensor:
        r"""Turn white noise on the grid, shape `(batch, channel, *space)`, into draws of N(0, C).

        .. math:: T^T \big(d^{1/2}\, T w + (F^T F)^{1/2}\, T w'\big),   F = (f_1, \ldots, f_r)^T

        Symmetric roots have no basis: draws depend neither on the signs, the order nor the basis of the eigenvectors
        that d and F were made of, and are the same on every processor up to rounding: 1e-9 of a standard deviation,
        1e-7 with more than `DIRECT_RANK` factors.

        Arguments:
            white: w.
            more: w', white noise of the same shape that is independent of w; not needed without factors.
        """
        c = self.diagonal.sqrt() * self.modes.white(white)
        if self.rank:
            assert more is not None, "the low-rank part needs white noise of its own"
            singular, directions = self._low_rank
            weights = self.modes.white(more).flatten(1) @ directions.mT * singular
            c = c + (weights @ directions).reshape(c.shape)
        return self.modes.synthesise(c)

    @cached_property
    def _low_rank(self) -> tuple[Tensor, Tensor]:
        """Singular values of F, shape `(rank,)`, and its right singular vectors in rows."""
        F = self.factors.flatten(1)
        if self.rank <= DIRECT_RANK:
            _, singular, directions = torch.linalg.svd(F, full_matrices=False)
            return singular, directions
        squares, vectors = torch.linalg.eigh(F @ F.mT)
        # Squares below 1e-14 of the largest are rounding. They are damped, not cut off: a direction that one processor
        # keeps and another drops would change draws by 1e-7, a damped one changes them by its rounding.
        singular = (squares.clamp_min(0) + 1e-14 * squares[-1]).sqrt()
        return singular, vectors.mT @ F / singular[:, None]

    def sample(self, n: int, generator: Generator) -> Tensor:
        """Draw n fields of N(0, C), shape `(n, channel, *space)`."""

        def normal(*shape: int) -> Tensor:
            drawn = torch.randn(shape, dtype=self.diagonal.dtype, generator=generator, device=generator.device)
            return drawn.to(self.diagonal.device)

        white = normal(n, *self.event_shape)
        return self.colour(white, normal(n, *self.event_shape) if self.rank else None)

    def truncated(self, rank: int) -> Covariance:
        """Keep the leading factors; what the others held goes to the diagonal, so that each mode keeps its variance."""
        kept, dropped = self.factors[:rank], self.factors[rank:]
        return Covariance(self.modes, self.diagonal + dropped.square().sum(0), kept)

    def to(self, device: torch.device | str) -> Covariance:
        return Covariance(self.modes.to(device), self.diagonal.to(device), self.factors.to(device))


def from_matrix(modes: Modes, matrix: Tensor, shape: tuple[int, ...], *, tolerance: float = 1e-10) -> Covariance:
    """Factor a dense covariance of one channel on few points, given in field coordinates.

    Arguments:
        modes: Basis of the result.
        matrix: Covariance of the values, shape `(points, points)`.
        shape: Space shape of the field, with `points` values.
        tolerance: Eigenvalues below this fraction of the largest go, by their mean, to the diagonal; those within 1 %
            of it (`core.eigenvectors.CUT_MARGIN`) are kept, so that rounding does not decide their number.
    """
    n = len(matrix)
    half = modes.analyse(matrix.reshape(n, *shape)).reshape(n, n)
    in_modes = modes.analyse(half.mT.reshape(n, *shape)).reshape(n, n)
    eigenvalues, vectors = torch.linalg.eigh((in_modes + in_modes.mT) / 2)
    eigenvalues, vectors = eigenvalues.flip(0).clamp_min(0), vectors.flip(1)
    rank = number_above(eigenvalues, tolerance)
    floor = torch.clamp_min(eigenvalues[rank:].sum() / max(n - rank, 1), 1e-14 * eigenvalues[0])
    factors = (vectors[:, :rank] * (eigenvalues[:rank] - floor).clamp_min(0).sqrt()).mT
    return Covariance(modes, floor.expand(1, *shape).clone(), factors.reshape(rank, 1, *shape).contiguous())


def from_draws(modes: Modes, draws: Tensor, *, rank: int) -> Covariance:
    """Estimate a covariance from fields: leading principal directions, and for every mode the variance that they leave.

    Arguments:
        modes: Basis of the result.
        draws: Fields, shape `(draws, channel, *space)`; their mean is removed.
        rank: Number of principal directions to keep, at most `draws - 1` and at most the number of values of a field.
    """
    c = modes.analyse(draws - draws.mean(0))
    flat = c.flatten(1) / (len(c) - 1) ** 0.5
    factors = _leading_directions(flat, rank).reshape(-1, *c.shape[1:])
    variance = flat.square().sum(0).reshape(c.shape[1:])
    left = (variance - factors.square().sum(0)).clamp_min(1e-8 * float(variance.mean()))
    return Covariance(modes, left, factors)


def _leading_directions(flat: Tensor, rank: int) -> Tensor:
    """Leading right singular vectors times their singular values, shape `(rank, values)`.

    Subspace iteration with oversampling (Halko, Martinsson & Tropp 2011, algorithm 4.4); its start is always the same.
    """
    width = min(2 * rank + 8, *flat.shape)
    start = torch.randn((flat.shape[1], width), dtype=flat.dtype, generator=Generator().manual_seed(0)).to(flat.device)
    Q = torch.linalg.qr(flat @ start).Q
    for _ in range(4):
        Q = torch.linalg.qr(flat @ torch.linalg.qr(flat.mT @ Q).Q).Q
    _, singular, directions = torch.linalg.svd(Q.mT @ flat, full_matrices=False)
    return singular[:rank, None] * directions[:rank]
