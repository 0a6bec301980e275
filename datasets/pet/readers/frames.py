"""An image of several frames as readers give it: nothing is read before a frame is requested."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from infield.core.errors import InfieldError
from infield.datasets.pet.decay import mean_over_frames
from infield.datasets.pet.image import PETImage, to_world_axes
from infield.datasets.pet.quantities import check_values, quantity


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameFile:
    """An open file of an image.

    Arguments:
        path: The file.
        format: What it is.
        frames: Number of frames.
        read: Reads one frame `(i, j, k)` by its number.
        affine: From (i, j, k) to RAS+ mm.
        units: As the file has them; None if it has none.
        starts: When frames start, s; None if the file lacks them.
        durations: How long they last, s; likewise.
        uncorrected: Why the frames are not, or may not be, corrected for decay to one time; None where they are.
        decay: Factor of each frame that corrects it for decay; None where the file is corrected already.
        facts: Further metadata of the file.
    """

    path: Path
    format: str
    frames: int
    read: Callable[[int], np.ndarray]
    affine: np.ndarray
    units: str | None = None
    starts: tuple[float, ...] | None = None
    durations: tuple[float, ...] | None = None
    uncorrected: str | None = None
    decay: tuple[float, ...] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def image(self, first: int = 0, last: int | None = None) -> PETImage:
        """Mean of frames `first` to `last`, weighted by their durations.

        Raises:
            InfieldError: There are no such frames, their durations are unknown, or the image cannot be one.
        """
        last = self.frames - 1 if last is None else last
        if not 0 <= first <= last < self.frames:
            raise InfieldError(where=self.path, found=f"frames {first} to {last}", expected=f"0 to {self.frames - 1}")
        chosen = range(first, last + 1)
        if self.durations is None and len(chosen) > 1:
            raise InfieldError(
                where=self.path,
                found=f"{self.frames} frames of unknown duration",
                expected="durations, by which a mean weighs them",
                remedy="choose one frame ({frames}), or add a sidecar",
                parameters=["frames"],
            )
        if self.uncorrected is not None and len(chosen) > 1:
            raise InfieldError(
                where=self.path,
                found=f"{len(chosen)} frames that are not corrected for decay ({self.uncorrected})",
                expected="frames corrected to one time, whose mean is one",
                remedy="choose one frame ({frames}), or correct them first",
                parameters=["frames"],
            )
        if self.units is None:
            raise InfieldError(where=self.path, found="no units", expected="them", remedy="name them ({units})",
                               parameters=["units"])  # fmt: skip
        durations = [1.0] if self.durations is None else [self.durations[k] for k in chosen]
        try:
            units, factor = quantity(self.units)
            frames = (self.read(k) * (1.0 if self.decay is None else self.decay[k]) for k in chosen)
            mean = factor * mean_over_frames(frames, durations)
            values, affine = to_world_axes(mean, self.affine)
            check_values(values, units)
        except InfieldError as error:
            raise error.within(self.path) from error
        facts: dict[str, Any] = {**self.facts, "source": self.path.name, "format": self.format}
        if self.starts is not None and self.durations is not None:
            facts["window"] = [self.starts[first], self.starts[last] + self.durations[last]]
        return PETImage(values, affine, units, facts)
