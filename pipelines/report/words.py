"""Explanations of the numbers of a report: how to read it, and when to mistrust it."""

from __future__ import annotations

import math
from typing import Any

from infield.core.json_text import to_json
from infield.pipelines.report.fit_words import Row, fit_rows, validation_rows

LEVELS = (50, 80, 90, 95)
ACCEPTED = (0.7, 1.4)
"""Range of the chi-square per datum that raises no question."""

CHANCE = 4
"""Standard deviations of the chi-square, sqrt(2 / n) for n data, that chance explains."""

FEW_DRAWS = 20


def reading(facts: dict[str, Any]) -> list[str]:
    """Two paragraphs: how to read the report, how far to trust it."""
    how = (
        "Each draw is one field that agrees with the data, with their noise and with the prior; where all three are "
        "right, the truth is one more of them. Variation between draws is what the data leave open; common features "
        "follow from data and prior. The mean is the best single estimate but smoother than any true field; the "
        "standard deviation is its expected error at each place."
    )
    if facts.get("result") == "estimate":
        how = (
            "Each sample is a best estimate, a field near which the posterior is large. They are not draws of the "
            "posterior: their standard deviation and their intervals do not measure their error."
        )
    elif "caveat" in facts:
        how = (
            "The samples are not draws of the posterior itself, see the warning: their standard deviation and "
            "their intervals are those of an approximation."
        )
    parts = []
    if "chi_square" in facts:
        verdict = _chi_square_verdict(facts)
        parts.append(
            f"The draws miss the data by {facts['chi_square']:.2f} noise variances per datum, where 1 is expected: "
            f"{verdict}."
        )
    if "coverage_90" in facts:
        sentence = (
            f"The truth is known here: {100 * facts['coverage_90']:.1f} % of its values lie inside the 90 % intervals"
        )
        if "coverage_90_expected" in facts:
            low, high = facts["coverage_90_expected"]
            sentence += f"; draws put in its place give {100 * low:.0f} to {100 * high:.0f} %"
        parts.append(sentence + ". One field is one test: calibration is proved over many of them.")
    else:
        parts.append(
            "The truth is not known here. Agreement with the data implies nothing about places without data: there "
            "the draws are as right as the prior."
        )
    if facts.get("trusted") == 1:
        parts.append(f"Held-out data were predicted: {facts['trusted_because']}.")
    fit = facts.get("fit")
    if fit is not None and "hyperparameter_draws" in fit:
        parts.append(
            "The prior was fitted to these same data; the uncertainty of its parameters is part of the spread."
        )
    elif str(facts["prior"]).startswith("fitted") or "fitted to the data" in str(facts["prior"]):
        parts.append("The prior was fitted to these same data, so its uncertainty is not part of the spread.")
    return [how, " ".join(parts)]


def warnings(facts: dict[str, Any]) -> list[str]:
    """What forbids to take the posterior at its word; none is the good case."""
    caveat = f"{facts['caveat']}." if "caveat" in facts else None
    distrust = f"Not to be trusted: {facts['trusted_because']}." if facts.get("trusted") == 0 else None
    found = [caveat, distrust, _chi_square_warning(facts), _coverage_warning(facts)]
    if facts["samples"] < FEW_DRAWS:
        found.append(
            f"Few draws ({facts['samples']}): intervals and standard deviation are rough; take at least {FEW_DRAWS}."
        )
    return [warning for warning in found if warning]


def _chi_square_verdict(facts: dict[str, Any]) -> str:
    """Assessment of a chi-square, by its scatter if the number of data is known."""
    if _chi_square_warning(facts) is not None:
        return "which is not right, see the warning"
    value, count = facts["chi_square"], facts.get("data")
    apart = 0.0 if not count else (value - 1) / math.sqrt(2 / count)
    if abs(apart) <= CHANCE:
        return "within its scatter"
    side = "larger" if apart > 0 else "smaller"
    return (
        f"close to it, but {abs(apart):.0f} standard deviations off for {count:,} data. The standard deviation of the "
        f"noise is about {100 * abs(math.sqrt(value) - 1):.0f} % {side} than stated, or the operator is slightly wrong"
    )


def _chi_square_warning(facts: dict[str, Any]) -> str | None:
    value, count = facts.get("chi_square"), facts.get("data")
    if value is None:
        return None
    chance = CHANCE * math.sqrt(2 / count) if count else 0.0
    low, high = min(ACCEPTED[0], 1 - chance), max(ACCEPTED[1], 1 + chance)
    if value > high:
        return (
            f"The draws do not explain the data: chi-square per datum {value:.2f}, expected 1. The noise is larger "
            "than stated, or the operator or the prior is wrong, or the sampler has not converged. Do not trust the "
            "standard deviation."
        )
    if value < low:
        return (
            f"The draws follow the data more closely than their noise allows: chi-square per datum {value:.2f}, "
            "expected 1. The noise is smaller than stated, or the sampler fits noise."
        )
    return None


def _coverage_warning(facts: dict[str, Any]) -> str | None:
    if "coverage_90_expected" not in facts:
        return None
    (low, high), share = facts["coverage_90_expected"], facts["coverage_90"]
    if low <= share <= high:
        return None
    side = "narrow" if share < low else "wide"
    return (
        f"The intervals are too {side} for this truth: {100 * share:.1f} % of its values lie inside the 90 % "
        f"intervals, draws in its place give {100 * low:.0f} to {100 * high:.0f} %."
    )


def tables(facts: dict[str, Any]) -> dict[str, list[Row]]:
    """The facts in groups, as text."""
    quality: list[Row] = []
    if "relative_l2" in facts:
        quality.append(
            ("error of the mean, relative L2", f"{facts['relative_l2']:.4f}", "0 is perfect, 1 is no better than zeros")
        )
        for level in LEVELS:
            share, expected = facts[f"coverage_{level}"], facts.get(f"coverage_{level}_expected")
            note = f"draws in its place: {100 * expected[0]:.1f} to {100 * expected[1]:.1f} %" if expected else ""
            quality.append((f"truths inside the {level} % intervals", f"{100 * share:.1f} %", note))
        if "crps" in facts:
            quality.append(
                ("CRPS", f"{facts['crps']:.4g} {_units(facts)}".strip(), "error and spread in one, lower is better")
            )
        quality.append(("values that were scored", f"{facts['scored_values']:,} of {facts['values']:,}", ""))
    if "chi_square" in facts:
        note = f"1 is expected, for {facts['data']:,} data" if "data" in facts else "1 is expected"
        quality.append(("data chi-square per datum", f"{facts['chi_square']:.3f}", note))
    cost = [
        ("velocity calls a sample", f"{facts['velocity_calls']:g}", "network evaluations"),
        ("operator calls a sample", f"{facts['operator_calls']:g}", "forward or adjoint"),
        ("seconds", f"{facts['seconds']:.1f}", "computing time, summed over blocks of samples"),
    ]
    run = [
        ("samples", str(facts["samples"]), f"of {facts['values']:,} values each"),
        ("sampler", facts["sampler"], _spelled(facts["sampler_parameters"])),
        ("prior", facts["prior"], ""),
        ("prior SHA-256", facts["prior_sha256"], ""),
        ("measurement SHA-256", facts["measurement_sha256"], ""),
        ("seed", str(facts["seed"]), ""),
        ("versions", _spelled(facts["versions"]), ""),
    ]
    groups = {"How good": quality, **_of_fit(facts), "What it cost": cost, "What was run": run}
    return {name: rows for name, rows in groups.items() if rows}


def _of_fit(facts: dict[str, Any]) -> dict[str, list[Row]]:
    """Held-out data, and the law that was fitted."""
    groups = {}
    if "validation" in facts:
        groups["Held-out data"] = validation_rows(facts["validation"], facts["units"])
    if "fit" in facts:
        groups["The fitted law"] = fit_rows(facts["fit"], facts["units"])
    return groups


def _units(facts: dict[str, Any]) -> str:
    return "" if facts["units"] == "1" else str(facts["units"])


def _spelled(entries: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value if isinstance(value, str) else to_json(value)}" for key, value in entries.items())
