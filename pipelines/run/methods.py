"""A paragraph for the methods section of a paper: how a posterior was drawn, what was tested, and what was not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def methods_paragraph(attributes: Mapping[str, Any], samples: int) -> str:
    """English text from the attributes of a posterior; it claims no test that the file does not record.

    Arguments:
        attributes: Of the file.
        samples: How many it holds.
    """
    versions = _json(attributes.get("versions"))
    parameters = ", ".join(f"{k} = {v}" for k, v in _json(attributes.get("sampler_parameters")).items())
    sampler = f"'{attributes.get('sampler', 'unknown')}'" + (f" ({parameters})" if parameters else "")
    sentences = [
        f"We drew {samples} posterior samples with Infield {versions.get('infield', 'of unknown version')} "
        f"by the sampler {sampler} under the prior '{attributes.get('prior', 'unknown')}' (SHA-256 "
        f"{str(attributes.get('prior_sha256', 'unknown'))[:12]}), seed {attributes.get('seed', 'unknown')}."
    ]
    chi_square = _json(attributes.get("diagnostics")).get("chi_square")
    if chi_square is not None:
        sentences.append(f"The reduced chi-square of the data under the samples is {float(chi_square):.2f}.")
    sentences += [_calibration(attributes), _check(attributes)]
    return " ".join(sentences)


def _calibration(attributes: Mapping[str, Any]) -> str:
    if "calibration_verdict" not in attributes:
        return "The sampler was not calibrated by simulations of this operator and noise."
    mending = _json(attributes.get("calibration_mending"))
    before, after = mending.get("before", {}), mending.get("after", {})
    verdict = attributes["calibration_verdict"]
    text = f"Simulation-based calibration with this operator, noise, prior and sampler: {verdict}."
    if before and after:
        held = [f"{100 * scores['cover_90']:.1f} %" for scores in (before, after)]
        ratio = [f"{scores['ratio']:.2f}" for scores in (before, after)]
        text += (
            " Intervals are of samples recalibrated by scale and place; on simulations to which the recalibration was "
            f"not fitted, 90 % intervals held {held[0]} before and {held[1]} after, and the ratio of spread to squared "
            f"error was {ratio[0]} and {ratio[1]}."
        )
    return text


def _check(attributes: Mapping[str, Any]) -> str:
    if "check" in attributes:
        found = {0: "was contradicted by", 1: "was not contradicted by"}.get(attributes.get("trusted", -1))
        start = f"The model {found}" if found else "The model could not be tested by"
        return f"{start} data that the posterior was not given: {attributes.get('trusted_because', '')}."
    trusted, because = attributes.get("trusted"), attributes.get("trusted_because")
    if trusted in (0, 1):
        return f"Cross-validation: {because}."
    return "Prior, operator and noise level were not tested against held-out data."


def _json(text: Any) -> dict[str, Any]:
    if not isinstance(text, str):
        return {}
    found = json.loads(text)
    return found if isinstance(found, dict) else {}
