r"""What a scanner makes of regional SUVR, fitted to some subjects of the synthetic cohort: pairs to train on.

The means over regions of a reconstruction are nearly linear in the SUVR S of the regions (equation A1 of
`amyloid_law`): spill-over between neighbours, white matter and anatomy, counts,

.. math:: m = e^{\mathrm{ref}\, z} (M S + c + a + n), \qquad a \sim N(0, C_a), \quad n \sim N(0, C_n), \tag{A3}

with a, the subject's anatomy and white matter, the same in both scans, and n new in each. M, c, C_a and C_n are fitted
to simulated subjects, whose S, noise-free and noisy means and reference factors the file holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.datasets.pet.amyloid_law import AmyloidLaw

FEWEST = 200
"""Subjects that a fit needs at least: the covariances have 26 x 26 entries."""


@dataclass(frozen=True)
class RegionScans:
    """Equation (A3); float64.

    Arguments:
        matrix: M transposed, `(regions, regions)`.
        offset: c, `(regions,)`.
        anatomy, noise: Square roots of C_a and C_n, `(regions, regions)`.
    """

    matrix: Tensor
    offset: Tensor
    anatomy: Tensor
    noise: Tensor

    @classmethod
    def fit(cls, suvr: Tensor, noise_free: Tensor, measured: Tensor, reference: Tensor) -> RegionScans:
        """Fit to simulated subjects, baseline and follow-up along the first axis.

        Arguments:
            suvr: S, `(2, subjects, regions)`.
            noise_free: Means over regions of noise-free reconstructions, the same shape.
            measured: m, the same shape.
            reference: exp(ref z), `(2, subjects)`.

        Raises:
            InfieldError: There are too few subjects.
        """
        subjects, regions = suvr.shape[1:]
        if subjects < FEWEST:
            raise InfieldError(
                where="scans of regions", found=f"{subjects} subjects", expected=f"at least {FEWEST} to fit to"
            )
        features = torch.cat([suvr, torch.ones_like(suvr[..., :1])], -1).flatten(0, 1)
        found = torch.linalg.lstsq(features, noise_free.flatten(0, 1)).solution
        left = noise_free - (features @ found).unflatten(0, (2, subjects))
        first, second = left
        shared = (first.T @ second + second.T @ first) / (2 * subjects)
        own = first - second
        counts = measured / reference[..., None] - noise_free
        noise = counts.flatten(0, 1).T @ counts.flatten(0, 1) / (2 * subjects) + own.T @ own / (2 * subjects)
        return cls(found[:regions], found[regions], _root(shared), _root(noise))

    def pairs(
        self, law: AmyloidLaw, n: int, years: Tensor | float, generator: Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Baseline and follow-up as measured, and the SUVR of the law at the baseline, each `(n, regions)`."""
        subjects = law.subjects(n, generator)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        anatomy = normal(n, len(self.offset)) @ self.anatomy
        found, truth = [], subjects.suvr(0.0, law.accumulates)
        for suvr in (truth, subjects.suvr(years, law.accumulates)):
            image = suvr @ self.matrix + self.offset + anatomy + normal(n, len(self.offset)) @ self.noise
            found.append(torch.exp(law.ref * normal(n, 1)) * image)
        return found[0], found[1], truth


def _root(covariance: Tensor) -> Tensor:
    """Symmetric square root of the nearest covariance."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T
