"""Digests of the parts of a measurement on which a calibration depends, each for itself."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch

from infield.core.errors import InfieldError
from infield.physics.measurement import Measurement


def operator_digest(measurement: Measurement) -> str:
    """SHA-256 of an operator: its description in the file, which data are observed, and the field's grid and units.

    Of an operator without a description: what it makes of fixed random fields, to six digits.
    """
    observed = np.zeros(0) if measurement.observed is None else measurement.observed.numpy(force=True)
    about = measurement.description, measurement.grid.to_json(), measurement.channels, measurement.units
    if measurement.description:
        arrays = [measurement.arrays[name] for name in sorted(measurement.arrays)]
        return _digest(about, observed, *arrays)
    shape = (2, *measurement.event_shape)
    fields = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).abs()
    try:
        z = measurement.operator.A(fields.to(measurement.y)).double()
    except InfieldError:  # it refuses such fields
        z = torch.zeros(1, dtype=torch.float64)
    return _digest(about, observed, torch.round(z / z.abs().max().clamp_min(1e-300) * 1e6).numpy(force=True))


def noise_digest(measurement: Measurement) -> str:
    """SHA-256 of a noise model."""
    arrays = measurement.noise.arrays()
    return _digest(measurement.noise.to_json(), *(arrays[name] for name in sorted(arrays)))


def _digest(about: Any, *arrays: Any) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for array in arrays:
        values = np.ascontiguousarray(array)
        digest.update(f"{values.dtype.str}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
