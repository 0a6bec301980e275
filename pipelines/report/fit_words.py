"""The law that was fitted to point data, and predictions of held-out data, as rows of a report's tables."""

from __future__ import annotations

import math
from typing import Any

Row = tuple[str, str, str]
"""Name, value, and what to compare it with."""


def fit_rows(fit: dict[str, Any], units: str) -> list[Row]:
    """Parameters of the law, each with its error."""
    errors = fit["log_errors"]
    rows: list[Row] = [
        ("order of the Matern kernel", f"{2 * fit['nu']:g}/2", "roughness: 1/2 is rough, 5/2 smooth"),
        (
            "standard deviation of the field",
            _with_units(math.sqrt(fit["variance"]), units),
            _error(errors, "variance", 2),
        ),
    ]
    for name, entry in fit["lengths"].items():
        key = next((k for k in errors if k.startswith("length") and name in k.split()[1:]), None)
        rows.append((f"correlation length along {name}", _with_units(entry["length"], entry["units"]),
                     _error(errors, key, 1)))  # fmt: skip
    if "azimuth_degrees" in fit:
        rows.append(("axes turned by", f"{fit['azimuth_degrees']:.1f} degrees", ""))
    note = _error(errors, "noise", 2) if fit["noise_estimated"] else "as stated by the file"
    rows.append(("standard deviation of the noise", _with_units(fit["noise_sd"], units), note))
    rows.append(("trend", str(fit["trend"]), "its uncertainty is part of the spread"))
    for name, found in fit.get("covariates", {}).items():
        rows.append((f"change with one unit of {name}", f"{found['slope']:.4g} {units}", f"± {found['error']:.2g}"))
    for number, sd in enumerate(fit.get("noise_sds", ())):
        rows.append((f"noise of instrument {number + 1}, or of known levels", _with_units(sd, units), ""))
    lead = fit["log_evidence"] - fit["log_evidence_white_noise"]
    rows.append(("log evidence over white noise", f"{lead:.1f}", "below 0 no field is seen in the data"))
    return rows


def validation_rows(found: dict[str, Any], units: str) -> list[Row]:
    """Predictions of held-out data."""
    rows: list[Row] = [
        ("held-out data", f"{found['held_out']:,}", f"{found['how']}; parameters of the law held"),
        ("error of their prediction, RMS", _with_units(found["rmse"], units), "noise of the held-out data included"),
    ]
    rows += [
        (f"of them in {level} % intervals", f"{100 * share:.1f} %", "") for level, share in found["coverage"].items()
    ]
    rows.append(("the same, compact blocks held out", _with_units(found["blocked_rmse"], units),
                 f"90 % intervals hold {100 * found['blocked_coverage']['90']:.0f} %"))  # fmt: skip
    return rows


def _with_units(value: float, units: str) -> str:
    return f"{value:.3g}" + ("" if units == "1" else f" {units}")


def _error(errors: dict[str, float], name: str | None, power: int) -> str:
    """A factor of uncertainty, from the standard deviation of a logarithm."""
    return (
        "" if name not in errors else f"within a factor {math.exp(errors[name] / power):.2f} (one standard deviation)"
    )
