r"""Frames of a scene by another program than the operator that compensates: spectral, finer, with its own blur.

31 bands; three rays along each side of a camera pixel; a projector's raster drawn as squares three times finer and
blurred there; form factors between finer patches, band by band with all bounces; shadows are not rendered. Its truth is
stated as a `Setup`: mixings and warps averaged over the rays of a camera pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from infield.datasets.projection_mapping.surfaces import (
    FIELD_OF_VIEW,
    measured_spectra,
    points_of_rays,
    poses_around,
    reflectance_weights,
)
from infield.physics.projection_mapping.indirect import all_bounces, patch_form_factors
from infield.physics.projection_mapping.multi_projector import interpolation, pooling
from infield.physics.projection_mapping.setup import Projector, Setup

RAYS = 3
"""Along each side of a camera pixel, and squares along each side of a projector's pixel."""
FINE_PATCHES = (21, 28)
WHITE_LEVEL = 0.85
"""Of full scale, the 99.9 % quantile of the light of the brightest projector alone."""
CORNER_LIGHT = 0.53
"""Light of a projector at the corners of its image, over that at the centre: measured (Infield's notes)."""
GAMMAS = (1.56, 1.70, 1.82, 1.65)
BLACKS = (0.006, 0.012, 0.020, 0.034)
ENTRIES = 257


@dataclass
class Scene:
    """A surface, its texture and projectors.

    Arguments:
        surface: Name of a surface.
        texture: "mild" or "hard".
        projectors: Number of them, 1 to 8.
        height: Of the camera's image in pixels; the width is 4/3 of it.
        defocus: Standard deviation of the projectors' blur, in their pixels.
        albedo: Factor of all reflectances.
        indirect: Whether light bounces.
        ambient: Of full scale.
        seed: Of texture and poses.
    """

    surface: str = "plane"
    texture: str = "mild"
    projectors: int = 2
    height: int = 120
    defocus: float = 0.8
    albedo: float = 1.0
    indirect: bool = True
    ambient: float = 0.004
    seed: int = 0
    shape: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.shape = (self.height, self.height * 4 // 3)
        self._darkness: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        generator = np.random.default_rng(self.seed)
        fine = (RAYS * self.shape[0], RAYS * self.shape[1])
        y, x = self._rays(fine)
        self.points, self.normals = points_of_rays(self.surface, y, x)
        raster = (self.shape[0] * 5 // 4 // 4 * 4, self.shape[1] * 5 // 4 // 4 * 4)
        self.poses = poses_around(self.projectors, raster, generator)
        self.gammas = [GAMMAS[p % 4] for p in range(self.projectors)]
        self.blacks = [BLACKS[p % 4] for p in range(self.projectors)]
        self._spectra(generator, fine)
        self._light(fine)
        if self.indirect:
            self._bounces(fine)

    def _rays(self, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        width = FIELD_OF_VIEW * (np.arange(shape[1]) - (shape[1] - 1) / 2) / shape[1]
        height = FIELD_OF_VIEW * 0.75 * (np.arange(shape[0]) - (shape[0] - 1) / 2) / shape[0]
        y, x = np.meshgrid(height, width, indexing="ij")
        return y, x

    def _spectra(self, generator: np.random.Generator, fine: tuple[int, int]) -> None:
        measured = measured_spectra()
        nm = measured.wavelengths
        self.weights, used = reflectance_weights(self.texture, fine, generator)
        self.reflectances = self.albedo * measured.reflectances[used]
        primaries = []
        for p in range(self.projectors):
            if p % 2 == 0:  # light-emitting diodes
                peaks, widths = np.array([625.0, 525.0, 460.0]), np.array([14.0, 24.0, 16.0])
            else:  # a lamp behind dichroic filters
                peaks, widths = np.array([620.0, 545.0, 455.0]), np.array([34.0, 32.0, 26.0])
            peaks = peaks + generator.uniform(-4, 4, 3)
            primaries.append(np.exp(-0.5 * ((nm - peaks[:, None]) / widths[:, None]) ** 2))
        self.primaries = np.stack(primaries)  # (projector, primary, band)
        camera = measured.camera.T
        white = np.einsum("cl,pkl->pck", camera, self.primaries)
        self.primaries /= np.einsum("pkk->pk", white)[:, :, None]  # each primary gives 1 in its own channel ...
        self.camera = (
            camera / np.einsum("cl,pkl->c", camera, self.primaries)[:, None] * self.projectors
        )  # ... white too

    def _light(self, fine: tuple[int, int]) -> None:
        """Form factors F, positions on the rasters and the exact mixing of every ray."""
        seen_by_band = np.einsum("cl,rl->crl", self.camera, self.reflectances)
        self.fine_warp, self.form, mixings = [], [], []
        for p, pose in enumerate(self.poses):
            at, cosine = pose.pixels(self.points)
            to = np.reshape(pose.position, (3, 1, 1)) - self.points
            distance = np.linalg.norm(to, axis=0)
            lambert = np.clip((to * self.normals).sum(0) / distance, 0, None)
            edge = np.cos(np.arctan(np.hypot(0.5, 0.375) / pose.throw))
            vignetting = cosine ** (np.log(CORNER_LIGHT) / np.log(edge))
            inside = (at[0] > -0.5) & (at[0] < pose.raster[0] - 0.5) & (at[1] > -0.5) & (at[1] < pose.raster[1] - 0.5)
            form = lambert / distance**2 * vignetting * inside
            self.form.append(form)
            self.fine_warp.append(at)
            by_reflectance = np.einsum("crl,kl->rck", seen_by_band, self.primaries[p])
            mixings.append((np.einsum("rck,ryx->ckyx", by_reflectance, self.weights) * form).astype(np.float32))
        level = max(float(np.quantile(m.sum(1), 0.999)) for m in mixings) / WHITE_LEVEL
        self.form = [f / level for f in self.form]
        self.fine_mixing = [m / level for m in mixings]

    def _bounces(self, fine: tuple[int, int]) -> None:
        """Light that arrives at patches after all bounces, band by band."""
        covered = np.ones(fine, bool)
        K = patch_form_factors(self.points, covered, FINE_PATCHES)
        pools = [pooling(n, m) for n, m in zip(fine, FINE_PATCHES, strict=True)]
        self.pools = pools
        rho = np.einsum(
            "rl,rq->lq", self.reflectances, (pools[0] @ self.weights @ pools[1].T).reshape(len(self.weights), -1)
        )
        eye = np.eye(len(K))
        self.arriving = np.stack([K @ np.linalg.solve(eye - r[:, None] * K, np.diag(r)) for r in rho]).astype(
            np.float32
        )
        self.ups = [interpolation(n, m) for n, m in zip(fine, FINE_PATCHES, strict=True)]

    def emitted(self, p: int, drive: np.ndarray) -> np.ndarray:
        """Light of a projector for drives `(3, v, u)` between 0 and 1, black level included."""
        return self.blacks[p] + (1 - self.blacks[p]) * drive ** self.gammas[p]

    def light(self, drives: list[np.ndarray | None]) -> np.ndarray:
        """Camera light of drives, shape `(3, y, x)`; None for a black projector.

        Arguments:
            drives: Of each projector, shape `(3, v, u)`, 0 to 1.
        """
        light = self._ambient()
        pooled = np.zeros((len(self.camera.T), FINE_PATCHES[0] * FINE_PATCHES[1]))
        for p, drive in enumerate(drives):
            part, per_band = self._dark(p) if drive is None else self._of_projector(p, self.emitted(p, drive))
            light = light + part
            pooled += per_band
        if self.indirect:
            light += self._indirect(pooled)
        return _average(light).astype(np.float64)

    def _of_projector(self, p: int, emitted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Direct light of one projector at each ray, and irradiance of patches `(band, patch)`."""
        arriving = np.stack([self._through_lens(p, e) for e in emitted]).astype(np.float32)
        light = np.einsum("ckyx,kyx->cyx", self.fine_mixing[p], arriving)
        if not self.indirect:
            return light, np.zeros(1)
        per_patch = (self.pools[0] @ (arriving * self.form[p]) @ self.pools[1].T).reshape(3, -1)
        return light, np.einsum("kl,kq->lq", self.primaries[p], per_patch)

    def _dark(self, p: int) -> tuple[np.ndarray, np.ndarray]:
        """As `_of_projector`, of a black projector; kept, as it is most of the work of captures."""
        if p not in self._darkness:
            self._darkness[p] = self._of_projector(p, self.emitted(p, np.zeros((3, *self.poses[p].raster))))
        return self._darkness[p]

    def _ambient(self) -> np.ndarray:
        """Light of other lamps at each ray, `ambient` on a white surface."""
        share = self.camera / self.camera.sum(1)[:, None]
        return self.ambient * np.einsum("cr,ryx->cyx", share @ self.reflectances.T, self.weights)

    def _through_lens(self, p: int, emitted: np.ndarray) -> np.ndarray:
        """Squares of a raster, blurred, at the positions of the rays."""
        squares = np.kron(emitted, np.ones((RAYS, RAYS)))
        if self.defocus:
            squares = ndimage.gaussian_filter(squares, RAYS * self.defocus, mode="constant")
        at = RAYS * self.fine_warp[p] + (RAYS - 1) / 2
        return np.asarray(ndimage.map_coordinates(squares, at, order=1, mode="nearest") * (self.form[p] > 0))

    def _indirect(self, pooled: np.ndarray) -> np.ndarray:
        """Light after bounces, from direct irradiance of patches `(band, patch)`."""
        arriving = np.einsum("lij,lj->li", self.arriving, pooled.astype(np.float32))
        up = [self.ups[0].astype(np.float32), self.ups[1].astype(np.float32)]
        light = np.zeros((3, *self.weights.shape[1:]), np.float32)
        for r, weight in enumerate(self.weights):  # sum over bands before rays are many
            coarse = np.einsum("cl,l,lq->cq", self.camera, self.reflectances[r], arriving).reshape(3, *FINE_PATCHES)
            light += weight.astype(np.float32) * (up[0] @ coarse.astype(np.float32) @ up[1].T)
        return light

    def indirect_share(self) -> float:
        """Indirect light over all light, of white projectors."""
        white = [np.ones((3, *pose.raster)) for pose in self.poses]
        whole = self.light(list(white))
        kept, self.indirect = self.indirect, False
        direct = self.light(list(white))
        self.indirect = kept
        return float(1 - direct.sum() / whole.sum())

    @property
    def depth(self) -> np.ndarray:
        """Depth at the camera's pixels, metres."""
        return _average(self.points[2])

    @property
    def focal(self) -> float:
        """Focal length of the camera in its pixels."""
        return self.shape[1] / FIELD_OF_VIEW

    def truth(self, patches: tuple[int, int] = (15, 20)) -> Setup:
        """The scene as a set-up with the right geometry; averages over the rays of each camera pixel."""
        projectors = []
        for p, pose in enumerate(self.poses):
            warp = _average(self.fine_warp[p])
            inside = _average((self.form[p] > 0).astype(float)) > 0.999
            edge = (warp[0] >= 0) & (warp[0] <= pose.raster[0] - 1) & (warp[1] >= 0) & (warp[1] <= pose.raster[1] - 1)
            table = np.linspace(0, 1, ENTRIES) ** self.gammas[p]
            projectors.append(
                Projector(
                    f"projector_{p}",
                    pose.raster,
                    np.where(inside & edge, warp, np.nan),
                    (1 - self.blacks[p]) * _average(self.fine_mixing[p]).astype(np.float64),
                    np.stack([table] * 3),
                    float(np.hypot(self.defocus, np.sqrt(1 / 12) if self.defocus else 0)),
                )
            )
        indirect: dict[str, Any] = {}
        if self.indirect:
            points, covered = _average(self.points), np.ones(self.shape, bool)
            K = patch_form_factors(points, covered, patches)
            white = np.einsum("cl,pkl->cl", self.camera, self.primaries)
            by_channel = np.einsum("cl,rl->cr", white, self.reflectances) / white.sum(1)[:, None]
            reflectance = _average(np.einsum("cr,ryx->cyx", by_channel, self.weights))
            factors = all_bounces(K, reflectance, covered, patches)
            indirect = {"reflectance": reflectance, "form_factors": factors, "patches": patches}
        background = self.light([None] * len(self.poses))
        return Setup(
            background, tuple(projectors), facts={"truth": True}, depth=self.depth, focal=self.focal, **indirect
        )


def _average(image: np.ndarray) -> np.ndarray:
    """Mean over the rays of each camera pixel."""
    height, width = image.shape[-2] // RAYS, image.shape[-1] // RAYS
    return np.asarray(image.reshape(*image.shape[:-2], height, RAYS, width, RAYS).mean((-3, -1)))
