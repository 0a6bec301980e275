"""Whether a posterior can be trusted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Whether a posterior can be trusted, and why.

    Arguments:
        trusted: 1, 0, or "unchecked".
        because: One sentence.
    """

    trusted: int | str
    because: str
