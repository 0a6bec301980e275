"""Verdict on a sampler by simulations: one p-value, what is wrong, how small a fault would have been seen, coverage."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.posterior.calibration.beside_exact import ClassifierTest
from infield.posterior.calibration.exchange import (
    ALARM,
    STATISTICS,
    Exchange,
    Power,
    correlations,
    exchange_test,
    normal_scores,
    smallest_faults,
)
from infield.posterior.calibration.functionals import CORRELATION, Functional, choose, evaluate
from infield.posterior.calibration.places import CoverageCounter, Covered
from infield.posterior.calibration.truths import SOURCES
from infield.posterior.diagnostics.calibration import (
    energy_score,
    tarp_ranks,
    uniformity,
    variance_and_error,
)

MIN_SIMULATIONS = 20
"""Fewer simulations see nothing that is not seen by eye."""

NAMED_FUNCTIONALS = 3
"""Functionals that a verdict names."""


@dataclass(frozen=True)
class Simulation:
    """One simulation.

    Arguments:
        truth: Shape `(channel, *space)`.
        draws: Given its data, shape `(n, channel, *space)`.
        misfits: Log likelihoods of the data of truth and draws, shape `(1 + n, kinds of data)`.
    """

    truth: Tensor
    draws: Tensor
    misfits: Tensor


@dataclass(frozen=True)
class Assessment:
    """Results of simulations with a sampler.

    Arguments:
        source: Of the truths: "prior", "posterior" or "file".
        simulations, draws: How many.
        names: Of the tested functionals.
        exchange: The test.
        power: Smallest faults that it finds.
        correlation: Largest one among the functionals.
        coverage: By place and level.
        tarp: p-value of the ranks of distances to other truths.
        width: Standard deviation of the draws over that of the errors, root mean square over fields and simulations.
        energy: Energy score, mean over simulations.
        classifier: Draws beside exact ones; None where the exact posterior is not known.
    """

    source: str
    simulations: int
    draws: int
    names: tuple[str, ...]
    exchange: Exchange
    power: Power
    correlation: float
    coverage: Sequence[Covered]
    tarp: float
    width: float
    energy: float
    classifier: ClassifierTest | None = None

    @property
    def right(self) -> bool:
        """Whether no fault was found."""
        return self.exchange.p >= ALARM and (self.classifier is None or self.classifier.right)

    @property
    def verdict(self) -> str:
        """In one sentence."""
        if self.right:
            return (
                f"no fault found (p = {self.exchange.p:.2g} over {self.simulations} simulations, "
                f"{len(self.names)} functionals); {self.seen}"
            )
        return f"wrong (p = {self.exchange.p:.2g}): {'; '.join(self.faults)}"

    @property
    def seen(self) -> str:
        """Description of the smallest faults that would have been found with 80 % power."""
        parts = []
        if self.power.too_narrow > 0:
            parts.append(f"standard deviations below {self.power.too_narrow:.2f} times the right ones")
        if math.isfinite(self.power.too_wide):
            parts.append(f"above {self.power.too_wide:.2f} times")
        if math.isfinite(self.power.shift):
            parts.append(f"shifts of {self.power.shift:.2f} standard deviations")
        return f"it would have found {', '.join(parts)} with 80 % power" if parts else "it could have found no fault"

    @property
    def faults(self) -> list[str]:
        """What is wrong, most significant first."""
        test, found = self.exchange, []
        share = {name: p for name, p in zip(STATISTICS, test.p_values, strict=True) if p < 5 * ALARM}
        alike = (test.dispersion * test.common_dispersion > 0) & (test.dispersion.abs() > 1)
        if "common dispersion" in share and 2 * int(alike.sum()) > len(self.names):
            kind = "too narrow" if test.common_dispersion > 0 else "too wide"
            found.append(f"draws are {kind} (root mean square {self.width:.2f} times their errors)")
        if "common location" in share:
            found.append(f"draws lie {'below' if test.common_location > 0 else 'above'} the truths")
        if "largest dispersion" in share:
            found.append(f"spread is wrong for {self._largest(test.dispersion)}")
        if self.classifier is not None and not self.classifier.right:
            found.append(self.classifier.words)
        if "largest location" in share or "sum of squared locations" in share:
            found.append(f"location is wrong for {self._largest(test.location)}")
        return found

    def _largest(self, score: Tensor) -> str:
        order = score.abs().argsort(descending=True)[:NAMED_FUNCTIONALS].tolist()
        return ", ".join(f"{self.names[j]} ({float(score[j]):+.1f} sd)" for j in order if abs(float(score[j])) > 2)

    def to_json(self) -> dict[str, Any]:
        """In plain JSON types; what is not finite is None."""
        test = self.exchange
        sees, blind = SOURCES[self.source]
        return {
            "right": self.right,
            "verdict": self.verdict,
            "p": test.p,
            "alarm_below": ALARM,
            "p_values": dict(zip(STATISTICS, test.p_values, strict=True)),
            "functionals": [
                {"name": name, "location": float(L), "dispersion": float(D)}
                for name, L, D in zip(self.names, test.location, test.dispersion, strict=True)
            ],
            "largest_correlation": self.correlation,
            "correlation_allowed": CORRELATION,
            "smallest_faults": {
                "too_narrow": self.power.too_narrow or None,
                "too_wide": _finite(self.power.too_wide),
                "shift": _finite(self.power.shift),
            },
            "coverage": [vars(one) for one in self.coverage],
            "tarp_p": self.tarp,
            "c2st": self.classifier
            and {
                "accuracy": self.classifier.accuracy,
                "by_chance": self.classifier.chance,
                "draws": self.classifier.draws,
                "words": self.classifier.words,
            },
            "width": self.width,
            "energy_score": self.energy,
            "truths": self.source,
            "sees": sees,
            "does_not_see": blind,
            "simulations": self.simulations,
            "draws": self.draws,
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def assess(
    read: Callable[[int], Simulation],
    simulations: int,
    functionals: Sequence[Functional],
    places: Mapping[str, Tensor],
    source: str,
    *,
    misfits: Sequence[str] = (),
    seed: int = 0,
    power: bool = True,
) -> Assessment:
    """Judge a sampler by simulations, one of which is in memory at a time.

    Arguments:
        read: Gives a simulation by its number.
        simulations: How many.
        functionals: Candidates, the user's among them.
        places: Groups of points, see `places.groups_of_places`.
        source: Of the truths.
        misfits: Names of the kinds of data of `Simulation.misfits`.
        seed: Of exchanges and ties.
        power: Whether the smallest faults that are found are computed, which takes most of the time.

    Raises:
        InfieldError: There are fewer than 20 simulations, or a functional of the user is constant or raises.
    """
    refuse_few(simulations)
    generator = Generator().manual_seed(seed)
    counter = CoverageCounter(places, generator)
    values, tarp, variance, error, energy = [], [], 0.0, 0.0, 0.0
    reference = read(simulations - 1).truth
    for s in range(simulations):
        one = read(s)
        fields = torch.cat([one.truth[None], one.draws]).to(torch.float64)
        values.append(torch.cat([one.misfits.to(torch.float64), evaluate(functionals, fields)], 1))
        counter.add(fields[0], fields[1:])
        tarp.append(tarp_ranks(fields[None, 1:], fields[None, 0], reference[None].to(torch.float64)))
        v, e = variance_and_error(fields[1:], fields[0])
        variance, error, energy = variance + v, error + e, energy + energy_score(fields[1:], fields[0])
        reference = one.truth
    of_data = [Functional(name, _no_field, own=True) for name in misfits]  # kept: they see data left out, as none else
    every = [*of_data, *functionals]
    table = torch.stack(values)
    scores = normal_scores(table, generator)
    chosen, correlation = choose(every, correlations(scores), table.std(1).mean(0))
    one_sign = torch.tensor([every[j].one_sign for j in chosen])
    test = exchange_test(scores[:, :, chosen], one_sign, generator)
    faults = Power(0.0, math.inf, math.inf)
    if power:
        faults = smallest_faults(table[:, :, chosen], one_sign, generator)
    n = table.shape[1] - 1
    return Assessment(
        source,
        simulations,
        n,
        tuple(every[j].name for j in chosen),
        test,
        faults,
        correlation,
        counter.result,
        uniformity(torch.cat(tarp), n, generator),
        math.sqrt(variance / error) if error > 0 else math.inf,
        energy / simulations,
    )


def refuse_few(simulations: int) -> None:
    """InfieldError for fewer than 20 simulations."""
    if simulations < MIN_SIMULATIONS:
        raise InfieldError(
            where="{simulations}", found=simulations, expected=f"at least {MIN_SIMULATIONS}", parameters=["simulations"]
        )


def _no_field(fields: Tensor) -> Tensor:
    raise AssertionError("a functional of data has its values already")
