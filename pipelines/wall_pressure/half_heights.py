"""Lengths in half heights of a channel, as options give them."""

from __future__ import annotations

import argparse
import math
import re

_LENGTH = re.compile(
    r"(?=.)([0-9.]+(?:e[+-]?\d+)?)?(?:/([0-9.]+))?\s*(?:\*?\s*(pi))?\s*(?:/\s*([0-9.]+))?", re.IGNORECASE
)


def half_heights(text: str) -> float:
    """A length in any of the usual forms: 12.57, 4pi, 4/3pi, 4/3*pi, pi, pi/2."""
    match = _LENGTH.fullmatch(text.strip())
    try:
        assert match is not None and (match[1] or match[3])
        value = float(match[1] or 1) / float(match[2] or 1) / float(match[4] or 1) * (math.pi if match[3] else 1)
    except (AssertionError, ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"found '{text}', expected half heights such as 12.57, 4pi or 4/3pi") from None
    return value
