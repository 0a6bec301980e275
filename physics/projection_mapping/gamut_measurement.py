"""A measurement of a picture from what the projectors of a set-up can show."""

from __future__ import annotations

import numpy as np
import torch

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.physics.measurement import Measurement
from infield.physics.operators.registry import build_operator
from infield.physics.projection_mapping.gamut_law import GamutNoise
from infield.physics.projection_mapping.setup import Setup


def gamut_measurement(setup: Setup, exposure: float, tolerance: float, every: int = 1) -> Measurement:
    """The gamut as a law of pictures; pixels that no projector reaches count for nothing.

    Arguments:
        setup: The set-up; indirect light is left out, as it ties pixels together.
        exposure: Camera light of the picture's white.
        tolerance: s, in linear camera light.
        every: Takes every Nth pixel down and across; the picture's own pixels count, so that its spacing is 1.

    Raises:
        InfieldError: No pixel is covered.
    """
    part = (slice(None, None, every), slice(None, None, every))
    covered = setup.covered[part]
    if not covered.any():
        raise InfieldError(where="set-up", found="no pixel that a projector reaches", expected="some")
    mixing = np.stack([
        np.where(seen[part], p.mixing[(..., *part)], 0) for p, seen in zip(setup.projectors, setup.seen, strict=True)
    ])  # fmt: skip
    axes = [Axis(n, tuple(map(float, range(k))), "1") for n, k in zip("yx", covered.shape, strict=True)]
    grid = Grid(tuple(axes))
    parameters: dict[str, object] = {"exposure": float(exposure)}
    if not np.array_equal(setup.to_srgb, np.eye(3)):
        parameters["to_srgb"] = np.asarray(setup.to_srgb, float).tolist()
    description = {"name": "display", "parameters": parameters}
    observed = torch.from_numpy(np.broadcast_to(covered, (3, *covered.shape)).copy())
    return Measurement(
        y=torch.zeros((1, 3, *covered.shape), dtype=torch.float64),
        operator=build_operator(description, {}, grid, 3),
        noise=GamutNoise(
            torch.from_numpy(mixing.astype(np.float32)),
            torch.from_numpy(setup.background[(..., *part)].astype(np.float32)),
            tolerance,
        ),
        grid=grid,
        channels=("red", "green", "blue"),
        units="1",
        observed=observed,
        description=description,
        data_units="1",
    )
