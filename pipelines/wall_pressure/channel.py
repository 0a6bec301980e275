"""Turbulent channel flow by direct numerical simulation: wall pressure and plane averages.

    infield simulate channel --re-tau 180 --box minimal -o channel.zarr
    infield simulate channel --re-tau 180 --box full --device cuda --turnovers 40 -o channel.zarr

Time is in eddy turnovers h / u_tau. The box `minimal` (565 x 192 wall units, 32 x 65 x 32 points at Re_tau 180) takes
about half a minute of one core a turnover; its statistics are right near the walls only. The box `full` (4 pi x 4/3 pi,
128 x 129 x 128 points) is meant for a GPU. A run that was killed goes on when the same command is given again, and ends
with the same bytes.
"""

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
from infield.physics.wall_pressure.channel.solver import LARGEST_CFL, ChannelFlowSolver
from infield.pipelines.run.console import say, table
from infield.pipelines.run.options import add_json, check_at_least, check_positive
from infield.pipelines.wall_pressure.channel_run import BLOCK, ChannelRun, Course, threads

TURBULENT = 0.05
"""Largest variance of v over u_tau^2 below which a flow has become laminar; turbulent ones have some 0.7."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="CHANNEL.zarr", help="the flow, a new file")
    parser.add_argument(
        "--re-tau", type=float, default=180.0, metavar="RE", help="friction Reynolds number, u_tau h / nu (default 180)"
    )
    parser.add_argument("--box", choices=list(BOXES), default="minimal", help="periods in x and z (default minimal)")
    parser.add_argument("--points", type=int, nargs=3, metavar=("NX", "NY", "NZ"),
                        help="points in x, y and z; NX and NZ even (default: the box's own)")  # fmt: skip
    parser.add_argument("--turnovers", type=float, default=15.0, metavar="T",
                        help="time that is stored, in eddy turnovers h / u_tau (default 15)")  # fmt: skip
    parser.add_argument("--spin-up", type=float, default=10.0, metavar="T",
                        help="time before, in which turbulence develops, in eddy turnovers (default 10)")  # fmt: skip
    parser.add_argument("--interval", type=float, default=0.05, metavar="T",
                        help="time between stored ones, in eddy turnovers (default 0.05)")  # fmt: skip
    parser.add_argument("--cfl", type=float, default=1.0, metavar="C",
                        help=f"time step times the largest frequency of advection, at most {LARGEST_CFL:.3g} to be "
                        "stable (default 1)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the first state (default 0)")
    parser.add_argument("--device", default="cpu", help="where it runs: cpu, cuda (default cpu)")
    parser.add_argument("--threads", type=int, metavar="N",
                        help="CPU threads (default 1: more gain little, and slow a busy machine)")  # fmt: skip
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32",
                        help="precision of stored pressures (default float32; all is computed in float64)")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output once the new one is done")
    add_json(parser)


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
        InfieldError: Whatever of the input the user can mend; nothing that is not complete stands under `output` then.
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
