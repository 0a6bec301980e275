r"""Light of several projectors on a surface, at the pixels of one camera.

With s_p the light that projector p emits above its black level (0 to 1, a channel each of its primaries), the camera
records, in linear light with 1 at full scale,

    direct(x) = sum_p V_p(x) (B_p s_p)(W_p(x)),      c(x) = background(x) + direct(x) + R(x) (U K P direct)(x),

B_p the defocus (a Gaussian on the projector's raster; light that leaves the raster is lost), W_p the warp (bilinear),
V_p a full 3 x 3 mixing for each pixel, which holds spectra, reflectance, form factor and vignetting. Indirect light:
P averages over coarse patches, K are their form factors, U interpolates and R is the reflectance in camera channels.
The standard model of the field (Grossberg et al. 2004; Nayar et al. 2003); the black level belongs to the background.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from infield.core._deepinv import Physics
from infield.core.checks import is_number
from infield.core.grid import Axis, Grid
from infield.physics.operators.base import LinearOperator
from infield.physics.operators.composition import Affine, compose
from infield.physics.operators.description import OperatorDescription
from infield.physics.operators.linear_product import LinearProduct
from infield.physics.projection_mapping.response import Response, check_response

BLUR_REACH = 4.0
"""Half width of the defocus kernel, in standard deviations."""


class MultiProjector(LinearOperator):
    """Camera light above the background from emitted light: linear.

    The field is `(batch, 3, projector, v, u)`, its data `(batch, 3, y, x)`.

    Arguments:
        grid: Grid of the emitted light, axes (projector, v, u); smaller rasters are padded.
        warp: Position (v, u) on the raster of each projector that a camera pixel sees, in pixels with centres at
            integers, NaN where it sees none; shape `(projector, 2, y, x)`.
        mixing: V, camera channel by projector channel, shape `(projector, 3, 3, y, x)`; taken as 0 where unseen.
        defocus: Standard deviation of B of each projector, in its pixels; 0 for none.
        reflectance: R, shape `(3, y, x)`; None without indirect light.
        form_factors: K, shape `(patches, patches)` or `(3, patches, patches)`, receiver first, the patches of
            `patches` in rows.
        patches: Number of patches down and across.
    """

    name: ClassVar[str] = "multi-projector"
    grid: Grid
    mixing: Tensor
    reflectance: Tensor | None
    form_factors: Tensor | None
    pool_x: Tensor
    pool_y: Tensor
    up_x: Tensor
    up_y: Tensor

    def __init__(
        self,
        grid: Grid,
        warp: np.ndarray,
        mixing: np.ndarray,
        defocus: Sequence[float],
        reflectance: np.ndarray | None = None,
        form_factors: np.ndarray | None = None,
        patches: tuple[int, int] = (15, 20),
    ) -> None:
        shape = warp.shape[-2:]
        data_grid = Grid(tuple(Axis(n, tuple(map(float, range(k)))) for n, k in zip("yx", shape, strict=True)))
        super().__init__(grid, 3, (3, *shape), data_grid)
        self.projectors = len(warp)
        self.of_absolute_values = False
        self.defocus = tuple(map(float, defocus))
        kind = np.float64 if mixing.dtype == np.float64 else np.float32
        seen = np.isfinite(warp).all(1)
        for p in range(self.projectors):
            matrix = bilinear_matrix(warp[p], (grid.shape[-2], grid.shape[-1]), kind)
            self._keep(f"gather_{p}", matrix)
            self._keep(f"scatter_{p}", matrix.T.tocsr())
            self.register_buffer(f"kernel_{p}", gaussian_kernel(self.defocus[p], kind), persistent=False)
        self.register_buffer("mixing", torch.from_numpy(np.where(seen[:, None, None], mixing, 0).astype(kind)))
        given = reflectance is not None and form_factors is not None
        self.register_buffer("reflectance", torch.from_numpy(np.asarray(reflectance, kind)) if given else None)
        self.register_buffer("form_factors", torch.from_numpy(np.asarray(form_factors, kind)) if given else None)
        self.patches = patches
        for name, n, m in (("y", shape[0], patches[0]), ("x", shape[1], patches[1])) if given else ():
            self.register_buffer(f"pool_{name}", torch.from_numpy(pooling(n, m).astype(kind)), persistent=False)
            self.register_buffer(f"up_{name}", torch.from_numpy(interpolation(n, m).astype(kind)), persistent=False)

    def A(self, x: Tensor) -> Tensor:
        return self.with_bounces(self.direct_light(x))

    def A_adjoint(self, y: Tensor) -> Tensor:
        y = self.with_bounces_adjoint(y)
        parts = []
        for p in range(self.projectors):
            light = torch.einsum("ckyx,bcyx->bkyx", self._mixing(p), y)
            scatter, gather = self._scatter(p), self._gather(p)
            parts.append(self._blur(p, LinearProduct.apply(light, scatter, gather)))
        return torch.stack(parts, 2)

    def direct_light(self, x: Tensor) -> Tensor:
        """Camera light without indirect light, shape `(batch, 3, y, x)`."""
        light = None
        for p in range(self.projectors):
            arriving = LinearProduct.apply(self._blur(p, x[:, :, p]), self._gather(p), self._scatter(p))
            part = torch.einsum("ckyx,bkyx->bcyx", self._mixing(p), arriving)
            light = part if light is None else light + part
        assert light is not None
        return light

    def with_bounces(self, direct: Tensor) -> Tensor:
        """direct + R U K P direct, shape of `direct`."""
        if self.form_factors is None or self.reflectance is None:
            return direct
        pooled = self.pool_y @ direct @ self.pool_x.mT
        received = self._exchange(pooled, self.form_factors)
        return direct + self.reflectance * (self.up_y @ received @ self.up_x.mT)

    def with_bounces_adjoint(self, y: Tensor) -> Tensor:
        """The transpose of `with_bounces`."""
        if self.form_factors is None or self.reflectance is None:
            return y
        sent = self._exchange(self.up_y.mT @ (self.reflectance * y) @ self.up_x, self.form_factors.mT)
        return y + self.pool_y.mT @ sent @ self.pool_x

    def absolute(self) -> MultiProjector:
        """The operator of the absolute values of its entries, for majorising diagonals."""
        other = copy.copy(self)
        other.of_absolute_values = True
        return other

    def _mixing(self, p: int) -> Tensor:
        """V of one projector; absolute values are made one projector at a time, for memory."""
        return self.mixing[p].abs() if self.of_absolute_values else self.mixing[p]

    def _exchange(self, pooled: Tensor, form_factors: Tensor) -> Tensor:
        flat = pooled.flatten(-2)
        if form_factors.ndim == 2:
            return (flat @ form_factors.mT).unflatten(-1, self.patches)
        return torch.einsum("cij,bcj->bci", form_factors, flat).unflatten(-1, self.patches)

    def _keep(self, name: str, matrix: scipy.sparse.csr_matrix) -> None:
        for part, values in (("rows", matrix.indptr), ("columns", matrix.indices), ("values", matrix.data)):
            tensor = torch.from_numpy(values if part == "values" else values.astype(np.int32))
            self.register_buffer(f"{name}_{part}", tensor, persistent=False)

    def _gather(self, p: int) -> _Product:
        return _Product(self, f"gather_{p}", self.data_shape[-2:])

    def _scatter(self, p: int) -> _Product:
        return _Product(self, f"scatter_{p}", self.grid.shape[-2:])

    def _blur(self, p: int, x: Tensor) -> Tensor:
        """A symmetric kernel and zeros outside, so that the blur is its own adjoint."""
        kernel = getattr(self, f"kernel_{p}")
        if len(kernel) == 1:
            return x
        reach = len(kernel) // 2
        images = x.reshape(-1, 1, *x.shape[-2:])
        images = torch.nn.functional.conv2d(images, kernel.reshape(1, 1, -1, 1), padding=(reach, 0))
        return torch.nn.functional.conv2d(images, kernel.reshape(1, 1, 1, -1), padding=(0, reach)).reshape(x.shape)


class _Product:
    """A sparse matrix of an operator applied to the pixels of images."""

    def __init__(self, operator: MultiProjector, name: str, shape: tuple[int, ...]) -> None:
        self.operator, self.name, self.shape = operator, name, shape

    def __call__(self, x: Tensor) -> Tensor:
        rows, columns, values = (getattr(self.operator, f"{self.name}_{w}") for w in ("rows", "columns", "values"))
        images = x.reshape(-1, x.shape[-2] * x.shape[-1])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            size = (len(rows) - 1, images.shape[1])
            matrix = torch.sparse_csr_tensor(rows, columns, values, size, check_invariants=False)
        return (matrix @ images.mT.contiguous()).mT.reshape(*x.shape[:-2], *self.shape)


def bilinear_matrix(warp: np.ndarray, raster: tuple[int, int], kind: type = np.float64) -> scipy.sparse.csr_matrix:
    """Values of a raster at positions between its pixels, as a matrix.

    Arguments:
        warp: Positions (v, u), shape `(2, y, x)`; NaN or outside for rows of zeros.
        raster: Its height and width.
        kind: Type of the entries.

    Returns:
        Shape `(y x, v u)`.
    """
    (height, width), (v, u) = raster, warp.reshape(2, -1).astype(np.float64)
    inside = (v >= 0) & (v <= height - 1) & (u >= 0) & (u <= width - 1)
    v, u = v[inside], u[inside]
    top, left = np.minimum(np.floor(v), max(height - 2, 0)), np.minimum(np.floor(u), max(width - 2, 0))
    v, u = v - top, u - left
    first = (top * width + left).astype(np.int32)
    corners = [(down, right) for down in range(min(2, height)) for right in range(min(2, width))]
    columns = np.empty((len(v), len(corners)), np.int32)  # row by row as CSR stores them, for memory
    weights: np.ndarray = np.empty(columns.shape, kind)
    for k, (down, right) in enumerate(corners):
        columns[:, k] = first + (down * width + right)
        weights[:, k] = np.abs(1 - down - v) * np.abs(1 - right - u)
    starts = np.concatenate([[0], np.cumsum(inside)]).astype(np.int32) * len(corners)
    return scipy.sparse.csr_matrix((weights.ravel(), columns.ravel(), starts), (inside.size, height * width))


def gaussian_kernel(sigma: float, kind: type = np.float64) -> Tensor:
    """A sampled Gaussian of sum 1, odd length; of length 1 where sigma is 0."""
    reach = math.ceil(BLUR_REACH * sigma)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2) if reach else np.ones(1)
    return torch.from_numpy((kernel / kernel.sum()).astype(kind))


def pooling(n: int, patches: int) -> np.ndarray:
    """Averages over `patches` equal parts of an axis of n pixels, shape `(patches, n)`."""
    edges = np.linspace(0, n, patches + 1)
    lower, upper = np.maximum(np.arange(n), edges[:-1, None]), np.minimum(np.arange(n) + 1, edges[1:, None])
    return np.clip(upper - lower, 0, None) * patches / n


def interpolation(n: int, patches: int) -> np.ndarray:
    """Linear interpolation between the centres of such parts, constant beyond the outer ones, shape `(n, patches)`."""
    at = np.clip((np.arange(n) + 0.5) * patches / n - 0.5, 0, patches - 1)
    return np.clip(1 - np.abs(at[:, None] - np.arange(patches)), 0, None)


def build_multi_projector(description: OperatorDescription) -> Physics:
    """The operator `multi-projector`, from emitted light, or from drive signals where it has a `response`.

    The field has three channels and the axes (projector, v, u). Arrays: `warp`, `mixing`, and optionally `background`,
    `response`, and `reflectance` with `form_factors`; parameters: `defocus`, a number or one for each projector,
    `black`, black level over white, likewise, and `patches`.

    Raises:
        InfieldError: The description is incomplete, or a value is not possible.
    """
    description.expect(
        ("defocus", "black", "patches"),
        ("warp", "seen", "mixing", "background", "response", "reflectance", "form_factors"),
    )
    grid = description.regular_grid()
    if grid.ndim != 3 or description.channels != 3:
        raise description.error(
            found=f"{description.channels} channels on {grid.ndim} axes", expected="3 on the axes (projector, v, u)"
        )
    warp = description.array("warp").astype(np.float64)
    n = grid.shape[0]
    if warp.ndim != 4 or warp.shape[:2] != (n, 2):
        raise description.error(found=f"warp of shape {warp.shape}", expected=f"({n}, 2, y, x)")
    shape = warp.shape[-2:]
    if "seen" in description.arrays:
        warp = np.where(description.array("seen", (n, *shape))[:, None] > 0, warp, np.nan)
    mixing = description.array("mixing", (n, 3, 3, *shape)).astype(np.float64)
    defocus, black = _each(description, "defocus", n), _each(description, "black", n)
    if max(black) >= 1:
        raise description.error(found=f"black {max(black)}", expected="less than 1")
    indirect: dict[str, Any] = {}
    if "reflectance" in description.arrays or "form_factors" in description.arrays:
        patches = tuple(description.parameters.get("patches", (15, 20)))
        if len(patches) != 2 or not all(isinstance(k, int) and k > 0 for k in patches):
            raise description.error(found=f"patches {patches}", expected="two whole numbers")
        q = patches[0] * patches[1]
        indirect = {
            "reflectance": description.array("reflectance", (3, *shape)),
            "form_factors": description.array("form_factors", (q, q), (3, q, q)),
            "patches": patches,
        }
    share = np.asarray(black)[:, None, None, None, None]
    linear = MultiProjector(grid, warp, (1 - share) * mixing, defocus, **indirect)
    background = np.zeros((3, *shape))
    if "background" in description.arrays:
        background = background + description.array("background", (3, *shape))
    if max(black) > 0:
        dark = torch.tensor(black, dtype=torch.float64)[:, None, None]
        dark = (dark / (1 - dark)).expand(1, 3, *grid.shape).contiguous()
        background = background + linear.A(dark)[0].numpy()
    parts: list[Physics] = [linear]
    if background.any():
        scale = torch.ones((3, 1, 1), dtype=torch.float64)
        parts.insert(0, Affine(linear.data_grid, 3, scale, torch.from_numpy(background)))
    if "response" in description.arrays:
        table = check_response(description.array("response").astype(np.float64), n)
        parts.append(Response(grid, torch.from_numpy(table)))
    return compose(*parts) if len(parts) > 1 else linear


def _each(description: OperatorDescription, name: str, n: int) -> list[float]:
    """A parameter that is one number for all projectors, or one for each; 0 where it is not given."""
    value = description.parameters.get(name, 0.0)
    values = list(value) if isinstance(value, list | tuple) else [value] * n
    if len(values) != n or not all(is_number(v) and v >= 0 for v in values):
        raise description.error(found=f"{name} {value!r}", expected=f"a number of at least 0, or {n} of them")
    return [float(v) for v in values]
