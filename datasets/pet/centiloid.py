"""Centiloid scale: 0 is the mean of young controls, 100 that of typical Alzheimer's patients (Klunk et al. 2015).

CL = slope * SUVR + intercept, for one tracer, pipeline, reference region and window alone: at SUVR 1.11 of florbetapir
Berkeley's line gives 19.8 and Avid's 25.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infield.core.errors import InfieldError


@dataclass(frozen=True)
class Line:
    """Slope and intercept of the Centiloid scale, and their source."""

    tracer: str
    pipeline: str
    reference: str
    window: str
    slope: float
    intercept: float
    source: str

    def __call__(self, suvr: Any) -> Any:
        return self.slope * suvr + self.intercept


WHOLE = "whole-cerebellum"
TABLE = (
    Line("PiB", "SPM8", WHOLE, "50-70", 100 / 1.067, -100 * 1.009 / 1.067, "Klunk et al. 2015"),
    Line("florbetaben", "SPM8", WHOLE, "90-110", 153.4, -154.9, "Rowe et al. 2017, abstract"),
    Line("flutemetamol", "SPM8", WHOLE, "90-110", 121.42, -121.16, "Battle et al. 2018, abstract"),
    Line("flutemetamol", "PMOD", WHOLE, "90-110", 115.24, -107.86, "Battle et al. 2018, abstract"),
    Line("flutemetamol", "FSL", WHOLE, "90-110", 120.32, -112.75, "Battle et al. 2018, abstract"),
    Line("florbetapir", "Berkeley", WHOLE, "", 188.22, -189.16, "Royse et al. 2021, as in admiralneuro"),
    Line("florbetaben", "Berkeley", WHOLE, "", 157.15, -151.87, "Royse et al. 2021, as in admiralneuro"),
    Line("florbetapir", "Avid", WHOLE, "", 183.07, -177.26, "Navitsky et al. 2018, as in admiralneuro"),
    Line("florbetaben", "Avid", WHOLE, "", 156.06, -148.13, "Sims et al. 2024, as in admiralneuro"),
)
"""Windows are in minutes after injection, empty where the source that was read does not state one. For change over time
composite and white-matter references are steadier (Royse et al. 2021) and have lines of their own, which are not here:
none of these lines can replace them."""


def centiloid_line(tracer: str, pipeline: str, reference: str) -> Line:
    """The line of a tracer, a pipeline and a reference region.

    Raises:
        InfieldError: The table has none.
    """
    for line in TABLE:
        if (line.tracer.lower(), line.pipeline.lower(), line.reference) == (
            tracer.lower(),
            pipeline.lower(),
            reference,
        ):
            return line
    known = ", ".join(f"({line.tracer}, {line.pipeline}, {line.reference})" for line in TABLE)
    raise InfieldError(
        where="Centiloid",
        found=f"({tracer}, {pipeline}, {reference})",
        expected=f"one of {known}",
        remedy="or a line of your own with its source ({centiloid_line})",
        parameters=["centiloid_line"],
    )
