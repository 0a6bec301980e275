"""Choices of compensation by name; no tensors are imported."""

from __future__ import annotations

from typing import Literal

Error = Literal["linear", "coded", "lab"]
ERRORS: tuple[Error, ...] = ("linear", "coded", "lab")
"""What is minimised: linear light, the sRGB code or Lab."""

Scale = Literal["none", "global", "smooth"]
SCALES: tuple[Scale, ...] = ("none", "global", "smooth")
"""How a target is scaled: not at all, by one gain, by a gain and a lift that vary smoothly."""
