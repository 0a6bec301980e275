"""The report that a run leaves beside its posterior."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from infield.physics.measurement import Measurement


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
