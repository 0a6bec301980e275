"""Options of pictures under the gamut and its guides; imports nothing heavy."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from infield.core.errors import InfieldError
from infield.pipelines.run.options import Parser, check_at_least, check_positive


def add_guides(parser: Parser) -> None:
    parser.add_argument(
        "--tolerance", type=float, default=0.01, metavar="S", help="of the gamut, in linear camera light (default 0.01)"
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="draw on every Nth pixel (default 1)")
    parser.add_argument("--edges", type=float, default=0.0, metavar="W", help="factor of the term by which the picture "
                        "has steps where the surface has edges (default 0)")  # fmt: skip
    parser.add_argument("--depth", type=float, default=0.0, metavar="W", help="factor of the term by which its "
                        "brightness follows the shading of the normals; needs depth (default 0)")  # fmt: skip
    parser.add_argument("--like", nargs=2, metavar=("IMAGE", "W"), help="a picture whose coarse colours it has, and "
                        "the factor of that term")  # fmt: skip


def guides_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `cooperative_measurement`, but for the exposure.

    Raises:
        InfieldError: A number is not possible.
    """
    check_positive(tolerance=arguments.tolerance)
    check_at_least(1, every=arguments.every)
    check_at_least(0, edges=arguments.edges, depth=arguments.depth)
    like = None
    if arguments.like is not None:
        path, text = arguments.like
        try:
            weight = float(text)
        except ValueError:
            weight = math.nan
        if not (math.isfinite(weight) and weight > 0):
            raise InfieldError(where="--like", found=f"weight {text!r}", expected="a number above 0")
        like = Path(path), weight
    names = ("tolerance", "every", "edges", "depth")
    return {name: getattr(arguments, name) for name in names} | {"like": like}
