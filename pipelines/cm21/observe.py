"""A lightcone to a mock observation of it by a radio interferometer."""

from __future__ import annotations

import argparse
import dataclasses
import math
from typing import Any

import numpy as np
import torch

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.cm21.lightcone_file import TEMPERATURE, open_lightcones
from infield.datasets.cm21.observation import Observation, ObservedField, read_layout
from infield.datasets.formats.foreign_arrays import readable
from infield.datasets.formats.zarr_group import check_new
from infield.physics.cm21.telescopes import TELESCOPES
from infield.pipelines.run.console import table
from infield.pipelines.run.options import check_at_least, check_positive, refuse_without

WEDGE_BUFFER = 0.07
"""Beyond the wedge, in rad/Mpc: 0.1 h/Mpc."""


def run(arguments: argparse.Namespace) -> int:
    check_new(arguments.output, arguments.overwrite)
    group, cones = open_lightcones(arguments.source)
    if not 0 <= arguments.index < cones.samples:
        raise InfieldError(
            where="--index", found=arguments.index, expected=f"0 to {cones.samples - 1} in {arguments.source}"
        )
    cells = _cells(arguments.cells, cones.grid.shape[2])
    field = ObservedField(cones, cells, _observation(arguments, len(cells)))
    with readable(arguments.source):
        values = group[TEMPERATURE][arguments.index, :, :, cells.start : cells.stop].values
    measurement = field.measure(torch.from_numpy(values.astype(np.float64)), arguments.seed)
    history = f"cone {arguments.index} of {arguments.source.name}, cells {cells.start} to {cells.stop - 1}"
    field.write(arguments.output, measurement, history=history, overwrite=arguments.overwrite)
    facts = {"output": str(arguments.output), **about(field)}
    if arguments.json:
        print(to_json(facts))
    else:
        table(str(arguments.output), _rows(facts))
    return 0


def about(field: ObservedField) -> dict[str, Any]:
    """Summary of an observation, in JSON types."""
    o, observed = field.observation, field.mask
    signal_like = np.sqrt(2 * field.variance[observed])
    return {
        "telescope": o.telescope.name,
        "antennas": len(o.telescope.positions),
        "hours": o.hours,
        "shape": list(field.grid.shape),
        "redshift": [float(field.redshift[0]), float(field.redshift[-1])],
        "channels": len(field.channel_frequency),
        "channel_width_MHz": float(field.channel_width.mean()),
        "visibilities": int(observed.sum()),
        "share_of_modes": float(2 * observed.sum() / (math.prod(observed.shape[2:]) * math.prod(field.grid.shape[:2]))),
        "noise_mK": [float(q) for q in np.quantile(signal_like, (0.05, 0.5, 0.95))],
        "wedge_slope": None if field.slope is None else float(field.slope.mean()),
    }


def _rows(facts: dict[str, Any]) -> dict[str, str]:
    z, noise = facts["redshift"], facts["noise_mK"]
    rows = {
        "telescope": f"{facts['telescope']}, {facts['antennas']} antennas, {facts['hours']:g} h",
        "cells": " x ".join(map(str, facts["shape"])) + f", z {z[0]:.4g} to {z[1]:.4g}",
        "channels": f"{facts['channels']} of {1e3 * facts['channel_width_MHz']:.0f} kHz",
        "visibilities": f"{facts['visibilities']}, {facts['share_of_modes']:.1%} of the modes",
        "their noise": f"{noise[1]:.3g} mK (90 % from {noise[0]:.3g} to {noise[2]:.3g})",
    }
    if facts["wedge_slope"] is not None:
        rows["wedge cut"] = f"k_los below {facts['wedge_slope']:.3g} k_perp + buffer"
    return rows


def _observation(arguments: argparse.Namespace, depth: int) -> Observation:
    check_positive(hours=arguments.hours, hours_per_day=arguments.hours_per_day)
    check_at_least(1, cells_per_channel=arguments.cells_per_channel)
    check_at_least(2, channels_per_segment=arguments.channels_per_segment)
    check_at_least(0, seed=arguments.seed)
    if arguments.wedge is not None and not 0 <= arguments.wedge <= 90:
        raise InfieldError(where="--wedge", found=arguments.wedge, expected="an angle of 0 to 90 degrees")
    refuse_without("--wedge", arguments.wedge is not None, arguments, "wedge_buffer")
    buffer = WEDGE_BUFFER if arguments.wedge_buffer is None else arguments.wedge_buffer
    if not 0 <= buffer < math.inf:
        raise InfieldError(where="--wedge-buffer", found=buffer, expected="a finite number of at least 0")
    telescope = TELESCOPES[arguments.telescope](None if arguments.layout is None else read_layout(arguments.layout))
    if arguments.layout is not None:
        telescope = dataclasses.replace(telescope, name=f"{arguments.layout.stem} ({telescope.name} antennas)")
    if arguments.hours_per_day is not None:
        telescope = dataclasses.replace(telescope, hours_a_day=arguments.hours_per_day)
    segment = arguments.channels_per_segment
    if segment is None:
        segment = 0 if arguments.wedge is None else depth // arguments.cells_per_channel
    return Observation(
        telescope=telescope,
        hours=arguments.hours,
        channel_cells=arguments.cells_per_channel,
        delay_channels=segment,
        horizon=arguments.wedge,
        buffer=buffer,
        beam=arguments.beam,
    )


def _cells(text: str | None, depth: int) -> range:
    if text is None:
        return range(depth)
    first, dash, last = text.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and int(first) < int(last) < depth):
        raise InfieldError(
            where="--cells", found=text, expected=f"two numbers with a dash between, within 0-{depth - 1}"
        )
    return range(int(first), int(last) + 1)
