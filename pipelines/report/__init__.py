"""A posterior as one HTML file: what was found, how to read it, how far to trust it. It needs no network to be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import matplotlib
import torch
import xarray as xr
from torch import Tensor

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.core.local_path import local_path
from infield.datasets.formats.field import read_field
from infield.datasets.formats.measurement import open_measurement
from infield.datasets.formats.output_lock import writing
from infield.datasets.formats.posterior import open_posterior
from infield.datasets.formats.zarr_group import explain_disk_full, json_attribute, refusal
from infield.physics.measurement import Measurement
from infield.pipelines.report.browser import fields_to_browse
from infield.pipelines.report.canvas import STYLE
from infield.pipelines.report.charts import as_picture, calibration_figure, spectrum_figure
from infield.pipelines.report.data import data_panels, views_of
from infield.pipelines.report.figures import (
    Calibration,
    Draws,
    Misfit,
    moments,
    scored_places,
    scores,
    spectra,
    uniform_spacing,
)
from infield.pipelines.report.fit import fit_pictures
from infield.pipelines.report.page import Picture, page
from infield.pipelines.report.pictures import DRAWS_SHOWN, figures_of_field
from infield.pipelines.report.words import reading, tables, warnings
from infield.posterior.diagnostics.calibration import radial_spectrum

VIEWS = 4
"""Channels that are pictured; the numbers are of all."""


class Section(Protocol):
    """What a domain adds to reports; in the registry, group `report_sections`."""

    def __call__(
        self, draws: Draws, truth: Tensor | None, measurement: Measurement | None, /
    ) -> tuple[list[Picture], dict[str, Any]]:
        """Pictures and numbers; none where the field is not of the domain.

        Arguments:
            draws: Of the posterior.
            truth: Shape `(channel, *space)`, where it is known.
            measurement: What the posterior is of, where it was given.
        """
        ...


def write_report(
    posterior: Path, report: Path, measurement: Path | Measurement | None = None, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write a report on a posterior file.

    Arguments:
        posterior: The finished posterior.
        report: HTML file to write; it appears when it is whole.
        measurement: The measurement that the posterior is of, or its file; without it the report has neither data nor
            truth.
        overwrite: Whether an existing report may be replaced.

    Returns:
        The numbers of the report, in plain JSON types and in the words of the benches (`relative_l2`, `coverage_90`,
        `crps`, `chi_square`, `velocity_calls`, ...), and `warnings`.

    Raises:
        InfieldError: A file is missing, damaged or incomplete, the measurement is another one, `report` exists, or
            the disk is full.
    """
    check_new_report(report, overwrite)
    with open_posterior(posterior) as dataset:
        draws = Draws(dataset, read_field(posterior, dataset))
        given = None if measurement is None else _opened(measurement, posterior, dataset)
        truth = None if given is None or given.truth is None else given.truth[0].to(torch.float64)
        facts = _facts(posterior, draws)
        of_fit = facts.get("fit")  # data act at their own positions: what the file states of them holds
        misfit = None if given is None or of_fit is not None else Misfit.of(draws, given)
        calibration = None
        if misfit is not None:
            facts |= {"chi_square": misfit.chi_square, "data": misfit.count}
        if truth is not None:
            places = scored_places(draws)
            values, true_values = draws.at(places), truth.flatten()[places]
            calibration = Calibration.of(values, true_values)
            facts |= scores(values, true_values, calibration)
        fields = fields_to_browse(draws, truth)
        about = "" if given is None else str(given.attributes.get("title", ""))
        data_units = "1" if given is None else given.data_units
        with matplotlib.rc_context(STYLE):
            of_domains = []
            for name in registry.names("report_sections"):
                section: Section = registry.load("report_sections", name)
                pictures, numbers = section(draws, truth, given)
                of_domains += pictures
                facts |= numbers
            pictured = [
                *_of_field(draws, given, truth, data_units),
                *([] if of_fit is None else fit_pictures(of_fit, given)),
                *_of_spectrum(draws, given, truth),
                *of_domains,
                *_of_calibration(calibration, misfit),
            ]
    facts["warnings"] = warnings(facts)
    subtitle = f"{posterior.name}: {facts['samples']} posterior samples by {facts['sampler']}"
    title = about or facts["title"]
    write_page(report, page(title, subtitle, facts["warnings"], reading(facts), pictured, tables(facts), fields))
    return facts


def check_new_report(report: Path, overwrite: bool) -> None:
    """Refuse a report that exists, before the work is done.

    Raises:
        InfieldError: `report` exists and may not be replaced, or is no file.
    """
    local_path(report)
    if report.is_dir() or (os.path.lexists(report) and not overwrite):
        kind = "a folder" if report.is_dir() else "an existing file"
        raise InfieldError(
            where=report,
            found=kind,
            expected="a new path for the report",
            remedy="choose another, or replace it (--overwrite)",
        )


def _opened(given: Path | Measurement, posterior: Path, dataset: xr.Dataset) -> Measurement:
    measurement = given if isinstance(given, Measurement) else open_measurement(given)
    found, expected = measurement.digest, dataset.attrs.get("measurement_sha256")
    if found != expected:
        raise refusal(
            posterior,
            "measurement_sha256",
            expected,
            f"{found}, that of {measurement.source}",
            "the posterior is of another measurement, or that has changed since: reconstruct it again",
        )
    return measurement


def _facts(path: Path, draws: Draws) -> dict[str, Any]:
    dataset = draws.dataset
    attributes, blocks = dataset.attrs, dataset.sizes["block"]
    cost = json_attribute(path, dataset, "cost")
    facts = {
        "title": attributes.get("title", "Posterior"),
        "samples": draws.number,
        "values": draws.size,
        "units": draws.field.units,
        "sampler": str(attributes.get("sampler", "unknown")),
        "sampler_parameters": json_attribute(path, dataset, "sampler_parameters"),
        "prior": str(attributes.get("prior", "unknown")),
        "prior_sha256": str(attributes.get("prior_sha256", "unknown")),
        "measurement_sha256": str(attributes.get("measurement_sha256", "unknown")),
        "seed": int(attributes.get("seed", -1)),
        "versions": json_attribute(path, dataset, "versions"),
        "velocity_calls": cost["velocity_calls"] / blocks,
        "operator_calls": cost["operator_calls"] / blocks,
        "seconds": cost["seconds"],
    }
    diagnostics = json_attribute(path, dataset, "diagnostics")
    facts |= {name: diagnostics[name] for name in ("caveat", "fit", "validation") if name in diagnostics}
    facts |= {name: attributes[name] for name in ("trusted", "trusted_because", "result") if name in attributes}
    chi_square = diagnostics.get("chi_square")
    return facts if chi_square is None else {**facts, "chi_square": float(chi_square)}


def _of_field(draws: Draws, measurement: Measurement | None, truth: Tensor | None, data_units: str) -> list[Picture]:
    if draws.field.grid.ndim == 1:
        caption_text = f"Mean, central intervals of the draws place by place, and {DRAWS_SHOWN} of the draws."
    else:
        caption_text = f"{'Truth, mean' if truth is not None else 'Mean'} and draws share a colour scale. "
        caption_text += (
            "In grey: not measured." if measurement is not None and isinstance(draws.field.grid, Grid) else ""
        )
    found = []
    for i, view in enumerate(views_of(draws.field)[:VIEWS]):
        mean, std = moments(draws, view)
        true_view = None if truth is None else view.of(truth[None])[0]
        panels = [] if measurement is None else data_panels(measurement, view, data_units)
        for j, figure in enumerate(figures_of_field(draws, view, mean, std, true_view, panels)):
            caption = f"{view.name[:1].upper()}{view.name[1:]}. " + ("Other central planes." if j else caption_text)
            found.append(as_picture("" if i or j else "The field", figure, caption))
    return found


def _of_spectrum(draws: Draws, measurement: Measurement | None, truth: Tensor | None) -> list[Picture]:
    spectrum, spacing, grid = spectra(draws), uniform_spacing(draws.field), draws.field.grid
    if spectrum is None or spacing is None or not isinstance(grid, Grid):
        return []
    wavenumber, power = spectrum
    true_power = None if truth is None else radial_spectrum(truth[None], spacing)[1][0]
    data_power = None
    whole = measurement is not None and (measurement.observed is None or bool(measurement.observed.all()))
    if measurement is not None and whole and getattr(measurement.operator, "data_grid", None) == grid:
        data_power = radial_spectrum(measurement.y, spacing)[1][0]
    units = {axis.units for axis in grid.axes}
    per = f"cycles/{units.pop()}" if len(units) == 1 and units != {"1"} else "cycles per coordinate unit"
    figure = spectrum_figure(wavenumber, power, true_power, data_power, draws.field.units, per)
    caption = (
        "Power of each mode, averaged over shells of equal wavenumber and over channels. The draws of a right "
        "posterior keep the truth's power at scales that the data do not resolve; their mean does not."
    )
    if not all(axis.periodic for axis in grid.axes):
        caption += " The axes are not periodic: jumps at the edges leak power to large wavenumbers, in all curves."
    return [as_picture("Spectrum", figure, caption)]


def _of_calibration(calibration: Calibration | None, misfit: Misfit | None) -> list[Picture]:
    figure = calibration_figure(calibration, misfit)
    if figure is None:
        return []
    parts = []
    if calibration is not None:
        parts.append(
            "Where the posterior is right, the truth's rank among the draws is uniform and intervals hold what they "
            "promise. Neighbouring values are correlated, so that a single field scatters far more than independent "
            "values would: the bands are what each draw gives in the truth's place, with the same correlations."
        )
    if misfit is not None and misfit.residuals is not None:
        parts.append("Residuals of the draws follow the standard normal where noise, operator and prior are right.")
    return [as_picture("Calibration", figure, " ".join(parts))]


def write_page(path: Path, text: str) -> None:
    """Write a page; it appears when it is whole.

    Raises:
        InfieldError: The disk is full.
    """
    draft = path.with_name(path.name + ".draft")
    with explain_disk_full(path, "make room and start again"), writing(path):
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
