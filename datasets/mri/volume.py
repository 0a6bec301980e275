"""Several slices of a scan as one measurement of a volume (z, y, x), each slice with its own coil maps.

Slices are converted one by one (`datasets.mri.convert`) and stacked. They share what a scan shares: the scale,
so that neighbours can be compared, and the noise of the coils, the mean of the slices' covariances where these are
estimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.datasets.mri.convert import DIVIDED, convert_mri
from infield.datasets.mri.converted import ConvertedMRI
from infield.physics.measurement import Measurement
from infield.physics.mri.noise import CoilGaussianNoise
from infield.physics.operators.registry import build_operator


def convert_mri_volume(source: str | Path, numbers: Sequence[int], **settings: Any) -> ConvertedMRI:
    """Turn slices of raw k-space into one measurement.

    Arguments:
        source: The file.
        numbers: Of the slices, in their order along z, two or more; they become its coordinates.
        settings: Of `convert_mri`, all but the slice. Masks that leave samples out and what is held out are the same in
            every slice, as in a scan.

    Raises:
        InfieldError: As `convert_mri`; or the slices have different coils or sizes.
    """
    if len(numbers) < 2:
        raise InfieldError(
            where=source,
            found=f"{len(numbers)} slice",
            expected="two or more for a volume",
            remedy="({numbers})",
            parameters=["numbers"],
        )
    slices = []
    for number in numbers:
        try:
            slices.append(convert_mri(source, slice_number=number, **settings))
        except InfieldError as error:
            raise error.followed_by(f" (slice {number})") from error
    try:
        return stacked(slices, numbers)
    except InfieldError as error:
        raise error.within(source) from error


def stacked(slices: Sequence[ConvertedMRI], numbers: Sequence[int]) -> ConvertedMRI:
    """One measurement of slices that were converted one by one.

    Arguments:
        slices: Along z.
        numbers: Their coordinates.

    Raises:
        InfieldError: They have different coils or sizes.
    """
    of = [one.measurement for one in slices]
    for number, m in zip(numbers, of, strict=True):
        if m.y.shape != of[0].y.shape or m.grid != of[0].grid:
            found, first = (" x ".join(map(str, m.y.shape[2:])) for m in (m, of[0]))
            raise InfieldError(
                found=f"slice {number} of {found} (coil, ky, kx), and slice {numbers[0]} of {first}, or points of "
                "another size",
                expected="slices that are alike",
                remedy="convert those that are ({numbers})",
                parameters=["numbers"],
            )
    # back to the source's units, and then to those of the volume
    raw = torch.tensor([one.scale for one in slices], dtype=torch.float64)
    zero_filled = torch.cat([m.operator.A_adjoint(m.y) for m in of]) * raw[:, None, None, None]
    scale = float(np.quantile(zero_filled.norm(dim=1).numpy(), 0.99))
    share = raw / scale
    covariances = [m.noise.covariance * s**2 for m, s in zip(of, share, strict=True)]  # type: ignore[attr-defined]
    masks = np.stack([m.arrays["mask"] for m in of])
    shared = bool((masks == masks[0]).all())
    arrays = {
        "mask": masks[0] if shared else masks,
        "coil_maps": np.stack([m.arrays["coil_maps"] for m in of], axis=1),
    }
    description = {"name": "multicoil-mri-slices", "parameters": {}, "arrays": {key: key for key in arrays}}
    grid = Grid((Axis("z", tuple(float(n) for n in numbers), "1", False), *of[0].grid.axes))  # type: ignore[union-attr]
    operator = build_operator(description, arrays, grid, 2)
    truths = [m.truth * s for m, s in zip(of, share, strict=True) if m.truth is not None]
    measurement = Measurement(
        y=torch.stack([m.y * s for m, s in zip(of, share, strict=True)], dim=3),
        operator=operator,
        noise=CoilGaussianNoise(torch.stack(covariances).mean(0), 3),
        grid=grid,
        channels=of[0].channels,
        observed=operator.observed,
        truth=torch.stack(truths, dim=2) if len(truths) == len(of) else None,
        description=description,
        arrays=arrays,
    )
    steps = dict.fromkeys(step for one in slices for step in one.steps if not step.startswith(DIVIDED))
    return ConvertedMRI(
        measurement=measurement,
        held_out_mask=torch.stack([one.held_out_mask for one in slices]),
        held_out_y=torch.stack([one.held_out_y * s for one, s in zip(slices, share, strict=True)], dim=3),
        scale=scale,
        calibration_width=min(one.calibration_width for one in slices),
        source=slices[0].source,
        steps=(*steps, "stacked: noise is the mean of the slices' covariances", f"{DIVIDED} {scale:.6g}"),
        targets=_targets(slices, share.tolist()),
        unexplained=max((one.unexplained for one in slices if one.unexplained is not None), default=None),
        outside=max((one.outside for one in slices if one.outside is not None), default=None),
        warnings=tuple(dict.fromkeys(warning for one in slices for warning in one.warnings)),
    )


def _targets(slices: Sequence[ConvertedMRI], share: list[float]) -> dict[str, np.ndarray]:
    """Those that every slice has, of one size."""
    stacks = {}
    for name in slices[0].targets:
        images = [one.targets[name] * s for one, s in zip(slices, share, strict=True) if name in one.targets]
        if len(images) == len(slices) and len({image.shape for image in images}) == 1:
            stacks[name] = np.stack(images)
    return stacks
