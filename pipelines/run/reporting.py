"""Reports of a run: the page beside its posterior, and warnings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from infield.physics.measurement import Measurement

COLLAPSED = 0.02
"""Least effective share of particles below which sequential Monte Carlo has hardly more than one of them."""

FEW_FAMILIES = 40
"""Independent particles of an island below which, or below half of the samples, its samples are warned of."""


def report_writer(report: Path | None, overwrite: bool) -> Callable[[Path, Measurement], object]:
    """What writes a run's report once its posterior is whole; nothing without a path.

    Arguments:
        report: HTML file to write.
        overwrite: Whether an existing one may be replaced.

    Returns:
        A function of the posterior's path and of the measurement as the run has opened it.

    Raises:
        InfieldError: `report` exists and may not be replaced, or is no file.
    """
    if report is None:
        return lambda posterior, measurement: None
    from infield.pipelines.report import check_new_report, write_report  # pictures take a while to import

    check_new_report(report, overwrite)
    return lambda posterior, measurement: write_report(posterior, report, measurement, overwrite=overwrite)


def warnings_of(summary: Mapping[str, Any]) -> list[str]:
    """The report of a finished run."""
    found = []
    if summary.get("effective_share", 1.0) < COLLAPSED:
        found.append(
            f"warning: the particles collapsed to {summary['effective_share']:.2%} of them: the data lie far outside "
            "of what the prior expects, look at its mean and scale, or take more steps and particles"
        )
    elif summary.get("families", FEW_FAMILIES) < min(FEW_FAMILIES, summary.get("samples", FEW_FAMILIES) / 2):
        found.append(
            f"warning: the samples of each island descend from {summary['families']:.0f} independent particles: "
            f"probabilities of modes have standard errors of up to {0.5 / summary['families'] ** 0.5:.2f}; take more "
            "steps or particles"
        )
    if summary.get("trusted") == 0:
        found.append(f"warning: not to be trusted: {summary['trusted_because']}")
    return found + ([f"warning: {summary['caveat']}"] if summary.get("caveat") else [])
