"""Turbulent channel flow by direct numerical simulation; the options are in `channel_options`."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.formats.zarr_group import check_new
from infield.datasets.wall_pressure.channel_file import PRESSURE, ChannelLayout, ChannelWriter, open_channel
from infield.physics.wall_pressure.channel.boxes import BOXES
from infield.physics.wall_pressure.channel.solver import ChannelFlowSolver
from infield.pipelines.run.console import say, table
from infield.pipelines.run.options import check_at_least, check_positive
from infield.pipelines.wall_pressure.channel_run import BLOCK, ChannelRun, Course, threads

TURBULENT = 0.05
"""Largest variance of v over u_tau^2 below which a flow has become laminar; turbulent ones have some 0.7."""


def run(arguments: argparse.Namespace) -> int:
    settings = make_run(arguments)
    summary = simulate_channel(
        settings, arguments.output, dtype=arguments.dtype, overwrite=arguments.overwrite, quiet=arguments.json
    )
    if arguments.json:
        print(to_json(summary))
        return 0
    rows = {
        "flow": f"Re_tau {settings.re_tau:g}, box {settings.box}, {' x '.join(map(str, settings.points))} points",
        "turnovers": f"{settings.spin_up:g} + {settings.turnovers:g}",
        "stored times": str(summary["times"]),
        "u_tau from the wall shear": f"{summary['u_tau_measured']:.3f} (1 in the long run)",
        "wall pressure r.m.s.": f"{summary['pressure_rms']:.3f} rho u_tau^2",
        "seconds": f"{summary['seconds']:.1f} for {summary['steps']} steps",
    }
    table(str(arguments.output), rows)
    return 0


def make_run(arguments: argparse.Namespace) -> ChannelRun:
    """The settings of a run.

    Raises:
        InfieldError: A number of them is out of range.
    """
    names = ("re_tau", "turnovers", "interval", "cfl")
    check_positive(**{name: getattr(arguments, name) for name in names})
    if not 0 <= arguments.spin_up < math.inf:
        raise InfieldError(where="--spin-up", found=arguments.spin_up, expected="a finite number of at least 0")
    check_at_least(0, seed=arguments.seed)
    check_at_least(1, threads=arguments.threads, points=min(arguments.points or [1]))
    count = arguments.turnovers / arguments.interval
    if round(count) < 1 or abs(count - round(count)) > 1e-6 * count:
        raise InfieldError(
            where="--turnovers", found=f"{arguments.turnovers:g}", expected=f"whole intervals of {arguments.interval:g}"
        )
    try:
        device = torch.device(arguments.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InfieldError(
            where="--device", found=f"{arguments.device!r}", expected=f"one that works here: {error}"
        ) from None
    if arguments.threads is not None and device.type != "cpu":
        raise InfieldError(where="--threads", found=f"--device {device}", expected="threads with --device cpu only")
    box = BOXES[arguments.box]
    points = tuple(arguments.points) if arguments.points else box.points_at(arguments.re_tau)
    return ChannelRun(
        arguments.re_tau,
        arguments.box,
        points,
        arguments.turnovers,
        arguments.spin_up,
        arguments.interval,
        arguments.cfl,
        arguments.seed,
        str(device),
        arguments.threads or 1,
    )


def simulate_channel(
    settings: ChannelRun, output: Path, *, dtype: str = "float32", overwrite: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """The command as a function; returns a summary in plain JSON types.

    Raises:
        InfieldError: An error in the input that the user can fix; no incomplete file is left at `output`.
    """
    start = time.perf_counter()
    check_new(output, overwrite)
    lengths = BOXES[settings.box].lengths_at(settings.re_tau)
    flow = ChannelFlowSolver(1 / settings.re_tau, lengths, settings.points, device=settings.device)
    layout = ChannelLayout(
        re_tau=settings.re_tau,
        lengths=lengths,
        points=settings.points,
        y=flow.chebyshev.y.cpu().numpy(),
        times=settings.times,
    )
    writer = ChannelWriter(output, layout, block=BLOCK, run=settings.described(), dtype=dtype, overwrite=overwrite)
    steps = 0
    if writer.missing_blocks():
        with threads(settings.threads):
            steps = Course(settings, flow, writer).go_on(quiet=quiet)
    writer.finish()
    group = open_channel(output)
    pressure, vv = group[PRESSURE].values, group["vv"].values
    summary = {
        "output": str(output),
        **settings.described(),
        "times": len(settings.times),
        "u_tau_measured": float(group.attrs["u_tau_measured"]),
        "pressure_rms": float(np.sqrt(np.square(pressure, dtype=np.float64).mean())),
        "turbulent": bool(vv[-1].max() > TURBULENT),
        "steps": steps,
        "seconds": time.perf_counter() - start,
    }
    if not summary["turbulent"]:
        say(
            f"{output}: the flow has become laminar; take a longer spin-up, a larger box or a larger Re_tau",
            quiet=quiet,
        )
    return summary
