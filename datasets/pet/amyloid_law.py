r"""A synthetic law of regional amyloid SUVR through the years, and the best prediction that it allows.

The model is Infield's own and fitted to no patient; its parameters are close to those of PiB studies. A subject has an
amyloid age a (years since the earliest regions reach half of their capacity), a rate r (amyloid years per year), a
capacity K and an uptake u; 35 % accumulate nothing (K = 0). Region j of group g has an onset and an uptake of its own:

.. math::
    S_j(t) = u\,(1 + 0.03\, z_j) + K\, \sigma\bigl((a + r t - o_j) / 3\bigr), \qquad
    o_j = O_g + 1.5\, z'_j, \quad O_g \in \{0, 4, 10\} \text{ years}, \tag{A1}

in regions that accumulate; in others the last term is not there. A scan measures, with a common error of its reference
region (`ref`, 2 %) and one for each region (`reg`),

.. math:: m_j = S_j\, e^{\mathrm{ref}\, z''} + \mathrm{reg}\, z'''_j. \tag{A2}
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.randomness import Randomness, normal

ONSETS = (0.0, 4.0, 10.0)
"""Years from the first to the last group of regions."""

WIDTH = 3.0
"""Of the logistic growth, amyloid years."""

ONSET_SD, SUBJECT_UPTAKE_SD, REGION_UPTAKE_SD = 1.5, 0.05, 0.03


@dataclass(frozen=True)
class Latents:
    """What a subject is; each field `(subjects,)` or `(subjects, regions)`, float64.

    Arguments:
        age: a, amyloid years at the baseline.
        rate: r, amyloid years a year.
        capacity: K, SUVR; 0 for those who accumulate nothing.
        uptake: u.
        onset: o_j, years.
        own: z_j, uptake of each region in its standard deviations.
    """

    age: Tensor
    rate: Tensor
    capacity: Tensor
    uptake: Tensor
    onset: Tensor
    own: Tensor

    def suvr(self, years: Tensor | float, accumulates: Tensor) -> Tensor:
        """S_j of equation (A1), `(subjects, regions)`.

        Arguments:
            years: After the baseline, a number or `(subjects,)`.
            accumulates: Which regions do, bool `(regions,)`.
        """
        reached = (self.age + self.rate * years)[:, None]
        grown = self.capacity[:, None] * torch.sigmoid((reached - self.onset) / WIDTH) * accumulates
        return self.uptake[:, None] * (1 + REGION_UPTAKE_SD * self.own) + grown


@dataclass(frozen=True)
class AmyloidLaw:
    """The law of subjects and of what a scan measures of their regions.

    Arguments:
        groups: Group of each region, an index of `ONSETS`; -1 for one that accumulates nothing.
        ref: Relative error of the reference region of each scan.
        reg: Error of each region's SUVR in each scan.
        rate_sd: Standard deviation of ln r.
        rate: Median of r.
        capacity: Median of K.
        accumulators: Fraction of subjects with K > 0.
    """

    groups: tuple[int, ...] = (0,) * 8 + (1,) * 8 + (2,) * 6 + (-1,) * 4
    ref: float = 0.02
    reg: float = 0.015
    rate_sd: float = 0.35
    rate: float = 1.0
    capacity: float = 0.9
    accumulators: float = 0.65

    def __post_init__(self) -> None:
        numbers = (self.ref, self.reg, self.rate_sd, self.rate, self.capacity)
        if not all(0 <= v < math.inf for v in numbers) or not 0 <= self.accumulators <= 1:
            raise InfieldError(
                where="amyloid law",
                found=f"ref {self.ref}, reg {self.reg}, rate_sd {self.rate_sd}, rate {self.rate}, capacity "
                f"{self.capacity}, accumulators {self.accumulators}",
                expected="numbers of at least 0, and a fraction of accumulators",
            )

    @property
    def accumulates(self) -> Tensor:
        """Which regions accumulate amyloid, bool `(regions,)`."""
        return torch.tensor([g >= 0 for g in self.groups])

    @property
    def onsets(self) -> Tensor:
        """O_g of each region, float64 `(regions,)`; 0 where nothing accumulates."""
        return torch.tensor([ONSETS[g] if g >= 0 else 0.0 for g in self.groups], dtype=torch.float64)

    def subjects(self, n: int, generator: Randomness) -> Latents:
        """Draw subjects."""
        common, own = normal(generator, n, (5,)), normal(generator, n, (2, len(self.groups)))
        uniform = torch.special.ndtr(common[:, :2])
        return Latents(
            age=-8 + 26 * uniform[:, 0],
            rate=self.rate * torch.exp(self.rate_sd * common[:, 2]),
            capacity=self.capacity * torch.exp(0.15 * common[:, 3]) * (uniform[:, 1] < self.accumulators),
            uptake=1 + SUBJECT_UPTAKE_SD * common[:, 4],
            onset=self.onsets + ONSET_SD * own[:, 0],
            own=own[:, 1],
        )

    def measure(self, suvr: Tensor, generator: Randomness) -> Tensor:
        """m_j of equation (A2) in one scan of each subject, `(subjects, regions)`."""
        z = normal(generator, len(suvr), (1 + suvr.shape[1],))
        return suvr * torch.exp(self.ref * z[:, :1]) + self.reg * z[:, 1:]

    def pairs(self, n: int, years: Tensor | float, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Baseline and follow-up as measured, and the follow-up's truth, each `(n, regions)`."""
        subjects = self.subjects(n, generator)
        later = subjects.suvr(years, self.accumulates)
        baseline = self.measure(subjects.suvr(0.0, self.accumulates), generator)
        return baseline, self.measure(later, generator), later


def best_prediction(
    law: AmyloidLaw, baseline: Tensor, years: float, generator: Generator, *, outer: int = 8000, nodes: int = 15
) -> Tensor:
    """E[S_j(years) | m(0)]: the Bayes prediction, which no method can beat in mean square.

    Subjects (a, r, K, u and the reference's error) are an outer sample weighted by the likelihood; the onset of each
    region is an inner sum over nodes, its uptake is integrated in closed form.

    Arguments:
        law: Of which the baseline was measured.
        baseline: m, `(subjects, regions)`.
        years: To predict over.
        generator: Of the outer sample.
        outer: Its size.
        nodes: Of the inner sum.

    Returns:
        `(subjects, regions)`.
    """
    theta = law.subjects(outer, generator)
    error = torch.exp(law.ref * torch.randn(outer, generator=generator, dtype=torch.float64))
    z = torch.linspace(-3, 3, nodes, dtype=torch.float64)
    log_node = (-z.square() / 2).log_softmax(0)
    groups = torch.tensor(law.groups)
    found = torch.empty_like(baseline)
    tables = {}
    for group in sorted(set(law.groups)):  # regions of a group have one table: outer x nodes
        onset = ONSETS[group] + ONSET_SD * z if group >= 0 else z
        reached = [(theta.age + theta.rate * t)[:, None] - onset for t in (0.0, years)]
        now, then = (theta.capacity[:, None] * torch.sigmoid(x / WIDTH) * (group >= 0) for x in reached)
        mean = error[:, None] * (theta.uptake[:, None] + now)
        slope = (error * theta.uptake * REGION_UPTAKE_SD)[:, None]  # of m_j with z_j
        variance = slope.square() + law.reg**2
        gain = slope / variance * (theta.uptake * REGION_UPTAKE_SD)[:, None]  # of u (1 + 0.03 z_j) with m_j
        tables[group] = (mean, variance, theta.uptake[:, None] + then, gain)
    for i, m in enumerate(baseline):
        log_weight = torch.zeros(outer, dtype=torch.float64)
        predicted = torch.empty(outer, len(m), dtype=torch.float64)
        for group, (mean, variance, later, gain) in tables.items():
            which = torch.nonzero(groups == group)[:, 0]
            left = m[which][:, None, None] - mean
            log = log_node - left.square() / (2 * variance) - variance.log() / 2
            total = log.logsumexp(-1)  # (regions, outer)
            log_weight += total.sum(0)
            p = (log - total[..., None]).exp()
            predicted[:, which] = (p * (later + gain * left)).sum(-1).T
        found[i] = log_weight.softmax(0) @ predicted
    return found
