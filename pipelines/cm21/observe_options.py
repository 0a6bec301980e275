"""Options of `infield convert lightcone-observation`; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from infield.pipelines.run.options import Parser, add_json
from infield.pipelines.run.subcommand import Subcommand, deferred

TELESCOPES = ("ska-low-like", "hera-like")
"""Names in `physics.cm21.telescopes`, which is heavy."""

_OBSERVATION = """A lightcone to a mock observation of it: gridded visibilities with thermal noise, the cone as truth.

    infield convert lightcone-observation cones.zarr -o measurement.zarr --cells 0-63 --hours 1000
    infield convert lightcone-observation cones.zarr -o measurement.zarr --telescope hera-like --cells 0-63 --wedge 90

The telescopes are like their namesakes: as many stations in the same extent, placed by a formula; --layout takes true
positions. The mean of each channel is not measured. --wedge cuts the foregrounds' wedge, up to the horizon at 90, in
the Fourier space of each segment of channels (--channels-per-segment). The noise is described in
infield.physics.cm21.radiometer and infield.physics.cm21.uv_coverage. The mock holds no foregrounds: they are avoided,
not removed.
"""


RENAMED = {
    "--sample": "--index",
    "--hours-a-day": "--hours-per-day",
    "--channel-cells": "--cells-per-channel",
    "--delay-channels": "--channels-per-segment",
    "--buffer": "--wedge-buffer",
}
"""Options by their earlier names."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("source", type=Path, metavar="CONES.zarr", help="a file of lightcones")
    parser.add_argument("--output", type=Path, required=True, metavar="MEASUREMENT.zarr",
                        help="the measurement, a new file")  # fmt: skip
    parser.add_argument("--index", type=int, default=0, metavar="I", help="number of the cone (default 0)")
    parser.add_argument("--cells", metavar="A-B", help="cells of the line of sight that are observed (default all)")
    parser.add_argument("--telescope", choices=list(TELESCOPES), default="ska-low-like",
                        help="antennas and layout (default ska-low-like)")  # fmt: skip
    parser.add_argument(
        "--layout", type=Path, metavar="FILE.csv", help="true positions: columns east_m and north_m, in m"
    )
    parser.add_argument("--hours", type=float, default=1000.0, metavar="H",
                        help="integration altogether, in hours (default 1000)")  # fmt: skip
    parser.add_argument("--hours-per-day", type=float, metavar="H",
                        help="tracking time per day, in hours (default: the telescope's)")  # fmt: skip
    parser.add_argument("--cells-per-channel", type=int, default=1, metavar="N",
                        help="cells of the line of sight per channel (default 1)")  # fmt: skip
    parser.add_argument("--wedge", type=float, metavar="DEGREES",
                        help="cut the wedge up to this angle from the middle of the field, in degrees; 90: "
                        "horizon (default: no cut)")  # fmt: skip
    parser.add_argument("--wedge-buffer", type=float, metavar="K",
                        help="width of the cut beyond the wedge, in rad/Mpc (default 0.07, 0.1 h/Mpc)")  # fmt: skip
    parser.add_argument("--channels-per-segment", type=int, metavar="M",
                        help="channels per segment that is transformed to delays (default: all with --wedge, no "
                        "transform without)")  # fmt: skip
    parser.add_argument("--beam", action="store_true", help="with the primary beam")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the noise (default 0)")
    for old, new in RENAMED.items():
        parser.rename(old, new)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    add_json(parser)


OBSERVATION = Subcommand(_OBSERVATION, add_arguments, deferred("infield.pipelines.cm21.observe:run"))
