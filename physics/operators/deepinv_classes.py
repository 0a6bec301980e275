"""An example of a description of each operator of deepinv, for the table of those that files can name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from infield.core._deepinv import LinearPhysics, Physics, deepinv
from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.physics.operators.registry import build_operator

N = 8
_RANDOM = np.random.default_rng(0)
_KERNEL = np.array([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]])[None, None] / 16
_MASK = (_RANDOM.random((1, 1, N, N)) < 0.6).astype(float)
_RING = np.stack([4 * np.cos(np.arange(6)), 4 * np.sin(np.arange(6))])
_ELEMENTS = np.stack([np.linspace(-2e-3, 2e-3, 8), np.zeros(8), np.zeros(8)], 1)
BASES = ("Physics", "LinearPhysics", "DecomposablePhysics")
"""Bases of operators: without a map of their own, they are none."""


@dataclass(frozen=True)
class Example:
    """Description of an operator in a file.

    Arguments:
        channels: Of the field, on N x N points.
        parameters, arrays: As in a description.
        shape: Of the space where it is another one.
    """

    channels: int = 1
    parameters: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    shape: tuple[int, ...] = (N, N)


EXAMPLES: Mapping[str, Example] = {
    "Blur": Example(parameters={"padding": "circular"}, arrays={"filter": _KERNEL}),
    "BlurFFT": Example(arrays={"filter": _KERNEL}),
    "CompressedSensing": Example(parameters={"m": 20, "seed": 1}),
    "CompressiveSpectralImaging": Example(3, {"seed": 1}),
    "Decolorize": Example(3),
    "Demosaicing": Example(3),
    "Downsampling": Example(parameters={"filter": "bilinear"}),
    "DynamicMRI": Example(2, arrays={"mask": np.repeat(_MASK[:, :, None], 4, 2)}, shape=(4, N, N)),
    "HyperSpectralUnmixing": Example(3, {"E": 3, "C": 4, "seed": 1}),
    "Inpainting": Example(arrays={"mask": _MASK[0]}),
    "MRI": Example(2, arrays={"mask": _MASK}),
    "MultiCoilMRI": Example(2, arrays={"mask": _MASK, "coil_maps": np.ones((1, 2, N, N), dtype=complex)}),
    "NonCartesianMRI": Example(2, {"num_shots": 4, "num_samples_per_shot": 8}),
    "PET": Example(),
    "Pansharpen": Example(3, {"factor": 2}),
    "Ptychography": Example(),
    "PtychographyLinearOperator": Example(2, {"complex_field": True}),
    "RadioInterferometry": Example(arrays={"samples_loc": _RANDOM.uniform(-np.pi, np.pi, (2, 20))}),
    "RandomPhaseRetrieval": Example(2, {"m": 40, "seed": 1, "complex_field": True}),
    "Scattering": Example(
        parameters={"img_width": N},
        arrays={"receivers": _RING, "transmitters": _RING[:, :4]},
    ),
    "SequentialMRI": Example(2, arrays={"mask": np.repeat(_MASK[:, :, None], 4, 2)}),
    "SinglePhotonLidar": Example(2, {"bins": 10}),
    "SinglePixelCamera": Example(parameters={"m": 20}),
    "SpaceVaryingBlur": Example(
        parameters={"padding": "circular"},
        arrays={"filters": np.repeat(_KERNEL[:, :, None], 2, 2), "multipliers": np.full((1, 1, 2, N, N), 0.5)},
    ),
    "StructuredRandom": Example(parameters={"output_size": [1, N, N], "seed": 1}),
    "StructuredRandomPhaseRetrieval": Example(
        2, {"output_size": [1, N, N], "n_layers": 1, "seed": 1, "complex_field": True}
    ),
    "TiledSpaceVaryingBlur": Example(
        parameters={"patch_size": 4, "stride": 2}, arrays={"filters": np.repeat(_KERNEL[:, :, None], 9, 2)}
    ),
    "Tomography": Example(parameters={"angles": 10, "img_width": N, "seed": 1}),
    "TomographyWithAstra": Example(parameters={"angles": 10}),
    "UltrasoundPlaneWave": Example(
        parameters={"img_size": [N, N], "n_samples": 40, "sampling_frequency": 5e6},
        arrays={"angles": np.array([0.0, 0.1]), "element_positions": _ELEMENTS},
    ),
    "Upsampling": Example(parameters={"filter": "bilinear", "img_size": [1, 2 * N, 2 * N]}),
}
"""Class -> an example; others need none, or cannot be described."""


@dataclass(frozen=True)
class Row:
    """What became of a class.

    Arguments:
        name: Its name.
        linear: Whether it is linear.
        refused: Why it cannot be named in a file, in one line; empty where it can.
        data_shape: Shape of the data of the example.
    """

    name: str
    linear: bool
    refused: str
    data_shape: tuple[int, ...] = ()


def classes() -> dict[str, type[Physics]]:
    """All operators of deepinv by name, without the bases."""
    found = {name: getattr(deepinv.physics, name) for name in sorted(dir(deepinv.physics))}
    return {
        name: kind
        for name, kind in found.items()
        if inspect.isclass(kind) and issubclass(kind, Physics) and name not in BASES
    }


def try_class(name: str) -> Row:
    """Build the example of a class, with its adjoint tested, and draw its data."""
    example = EXAMPLES.get(name, Example())
    linear = issubclass(classes()[name], LinearPhysics)
    arrays = {key: key for key in example.arrays}
    description = {"name": f"deepinv:{name}", "parameters": dict(example.parameters), "arrays": arrays}
    grid = Grid.regular(example.shape)
    try:
        operator = build_operator(description, example.arrays, grid, example.channels)
        x = torch.rand(2, example.channels, *example.shape, generator=torch.Generator().manual_seed(0)).double()
        y = operator.A(x)
        if not torch.isfinite(y).all():
            raise InfieldError(where=name, found="data that are not finite", expected="numbers")
    except InfieldError as error:
        return Row(name, linear, str(error))
    return Row(name, linear, "", tuple(operator.data_shape))


def table() -> list[Row]:
    """A row for each class."""
    return [try_class(name) for name in classes()]
