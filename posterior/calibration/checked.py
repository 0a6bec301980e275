"""Verdict of a check without a truth: what contradicts prior, operator, noise or sampler, and what could have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infield.posterior.calibration.evidence import EvidenceTest
from infield.posterior.calibration.operator_errors import ALARM as ALARM_OPERATOR
from infield.posterior.calibration.operator_errors import OperatorTest
from infield.posterior.calibration.predictive import Prediction

ALARM_PREDICTION, ALARM_EVIDENCE = 0.01, 0.005
"""p-values at and below which a test alarms: together, and with that of the operator, in at most 2 % of right
files."""

NOISE_SEEN, WIDTH_SEEN = 1.5, 2.0
"""A file is trusted where a noise so many times off and fields so many times as far from their mean would be seen."""

FEW_FOR_EVIDENCE = 100
"""Smallest number of data for which the evidence detects both."""


@dataclass(frozen=True)
class Checked:
    """Result of a check.

    Arguments:
        prediction: Of data that the posterior was not given.
        evidence: Of a Gaussian prior; None where there is no closed form.
        count: Number of data.
        operator: Of the operator under a Gaussian prior; None where it declares no errors.
    """

    prediction: Prediction
    evidence: EvidenceTest | None
    count: int
    operator: OperatorTest | None = None

    @property
    def faults(self) -> list[str]:
        """What contradicts the data."""
        found = []
        if self.prediction.p <= ALARM_PREDICTION:
            largest = ", ".join(f"{name} ({distance:+.1f} sd)" for name, distance in self.prediction.largest)
            found.append(f"held-out and split data are not as predicted (p = {self.prediction.p:.2g}): {largest}")
        if self.evidence is not None and self.evidence.p <= ALARM_EVIDENCE:
            found.append(f"evidence against prior or noise (p = {self.evidence.p:.2g}): {self.evidence.because}")
        if self.operator is not None and self.operator.p <= ALARM_OPERATOR:
            found.append(f"evidence of an error of the operator (p = {self.operator.p:.2g}): {self.operator.kind}")
        return found

    @property
    def sighted(self) -> bool:
        """Whether faults that matter would have been seen."""
        if self.evidence is not None and self.count >= FEW_FOR_EVIDENCE:
            return True
        noise, width = self.prediction.noise_factor, self.prediction.width_factor
        return noise is not None and noise <= NOISE_SEEN and width is not None and width <= WIDTH_SEEN

    @property
    def trusted(self) -> int | str:
        """0, 1, or "unchecked" where too little would have been seen."""
        return 0 if self.faults else 1 if self.sighted else "unchecked"

    @property
    def because(self) -> str:
        """In one sentence."""
        if self.faults:
            return f"prior, operator, noise or sampler do not fit this file: {'; '.join(self.faults)}"
        parts = [f"data that were not given are as predicted (p = {self.prediction.p:.2g}; {self.prediction.seen})"]
        if self.evidence is not None:
            parts.append(
                f"the evidence does not contradict the prior (p = {self.evidence.p:.2g}; most probable noise "
                f"{self.evidence.noise_factor:.2g} and width {self.evidence.width_factor:.2g} times the stated)"
            )
        for kind, size in ({} if self.operator is None else self.operator.seen).items():
            if size is not None:
                parts.append(f"it would have found {kind} wrong by {100 * size:.2g} %")
        return ("" if self.sighted else "too few data to see what matters: ") + "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """In plain JSON types."""
        test = self.prediction
        return {
            "trusted": self.trusted,
            "trusted_because": self.because,
            "p": test.p,
            "candidates": test.candidates,
            "largest": [list(one) for one in test.largest],
            "smallest_faults": {
                "noise_factor": test.noise_factor,
                "operator_error": test.gain_error,
                "width_factor": test.width_factor,
            },
            "operator": self.operator
            and {
                "p": self.operator.p,
                "kind": self.operator.kind,
                "smallest_errors": dict(self.operator.seen),
            },
            "evidence": None if self.evidence is None else {k: _plain(v) for k, v in vars(self.evidence).items()},
            "data": self.count,
        }


def _plain(value: object) -> object:
    return value if isinstance(value, str) else float(value)  # type: ignore[arg-type]
