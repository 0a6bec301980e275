"""A converted scan, and what its measurement file holds beside a measurement: samples and images set aside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from infield.datasets.formats.measurement import write_measurement
from infield.datasets.formats.measurement_layout import VERSION, complex_numbers
from infield.datasets.formats.zarr_group import flags, open_group, variable
from infield.physics.measurement import Measurement


@dataclass(frozen=True, kw_only=True)
class ConvertedMRI:
    """A measurement with what was set aside of it; of a volume, z precedes the two axes of a slice everywhere.

    Arguments:
        measurement: Data `(1, 2, coil, ky, kx)`, operator, noise model and the image's grid. Where a complete slice was
            undersampled, its truth is the minimum variance unbiased estimate (MVUE) from all samples under the same
            maps; it has noise of its own, some of it that of the data.
        held_out_mask: Positions that were measured and set aside, bool `(ky, kx)`; none where nothing was.
        held_out_y: Their data in the layout of the measurement's y, 0 elsewhere.
        scale: Stored data times `scale` are the data of the source.
        calibration_width: Width of the fully sampled block from which the coil maps come, in samples.
        source: Name of the file that was converted.
        steps: What was done, one line a step.
        targets: Magnitude images to compare with, in stored units: `target_rss` (y, x), the root of the sum of squares
            of complete data, and `target_file`, of any size, what the source itself gives as its target.
        unexplained: Share of the calibration block's energy that the coil maps leave, see `plausible.Fit`.
        outside: Share of that energy that lies outside the maps' support.
        warnings: What a person should look at.
    """

    measurement: Measurement
    held_out_mask: Tensor
    held_out_y: Tensor
    scale: float
    calibration_width: int
    source: str
    steps: tuple[str, ...] = ()
    targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    unexplained: float | None = None
    outside: float | None = None
    warnings: tuple[str, ...] = ()

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a measurement file; held-out samples go in as `held_out_mask` and `held_out_data`, targets by name.

        Raises:
            InfieldError: `path` exists, or the disk is full.
        """
        space = self.measurement.grid.names
        k = (*space[:-2], "ky", "kx")
        extra = xr.Dataset({"source_scale": ((), np.float64(self.scale), {"long_name": "source data / stored data"})})
        for name, value in (("maps_unexplained", self.unexplained), ("maps_outside", self.outside)):
            if value is not None:
                extra[name] = (), np.float64(value), {"units": "1"}
        if self.held_out_mask.any():
            y = self.held_out_y[0].numpy(force=True)
            extra["held_out_mask"] = k, self.held_out_mask.numpy(force=True).astype(np.int8)
            extra["held_out_data"] = ("coil", *k), complex_numbers(y), {"units": "1"}
        for name, image in self.targets.items():
            of_grid = image.shape == tuple(self.measurement.grid.shape)
            own = (*space[:-2], f"{name}_y", f"{name}_x")
            extra[name] = space if of_grid else own, image, {"units": "1"}
        write_measurement(
            path,
            self.measurement,
            overwrite=overwrite,
            title=f"Multi-coil MRI, {self.source}",
            history="\n".join(self.steps),
            dims={
                "data": ("coil", *k),
                "mask": k[-self.measurement.arrays["mask"].ndim :],
                "coil_maps": ("coil", *space),
                "noise_covariance": ("coil", "coil_conjugate"),
            },
            extra=extra,
        )


def open_held_out(path: str | Path) -> tuple[Tensor, Tensor] | None:
    """Read the samples that `ConvertedMRI.write` set aside.

    Arguments:
        path: A measurement file.

    Returns:
        `held_out_mask`, bool `(ky, kx)`, and `held_out_y` `(1, 2, coil, ky, kx)`; None where the file has none.

    Raises:
        InfieldError: The file is damaged or no measurement.
    """
    path = Path(path)
    group = open_group(path, "measurement", VERSION)
    if "held_out_mask" not in group.variables:
        return None
    mask, y = flags(path, group, "held_out_mask").values, variable(path, group, "held_out_data").values
    return torch.from_numpy(mask), torch.from_numpy(np.stack([y.real, y.imag]))[None].to(torch.float64)
