"""For which astrophysical parameters lightcones are simulated: a Latin hypercube, and points that are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from infield.core.errors import InfieldError
from infield.pipelines.run.parameters import finite_number, named_numbers

RANGES = {"ION_Tvir_MIN": (4.0, 6.0), "HII_EFF_FACTOR": (10.0, 250.0)}
"""log10 of the smallest virial temperature in K, and the ionising efficiency: the box of Xia & Wise, arXiv
2605.29016."""


@dataclass(frozen=True)
class Design:
    """Parameters of the cones of a data set.

    Arguments:
        ranges: Lowest and highest value by name of what varies.
        fixed: Value by name of what does not.
    """

    ranges: Mapping[str, tuple[float, float]]
    fixed: Mapping[str, float]

    @classmethod
    def parse(cls, ranges: Sequence[Sequence[str]], fixed: Sequence[str]) -> Design:
        """From `NAME LOW HIGH` and `NAME=VALUE`; without any, the published box, less what is fixed.

        Raises:
            InfieldError: A number is none, a range is empty, or a parameter is given twice.
        """
        values = named_numbers("--at", fixed)
        spans = {}
        for name, low, high in ranges:
            spans[name] = (finite_number(f"--range {name}", low), finite_number(f"--range {name}", high))
            if not spans[name][0] < spans[name][1]:
                raise InfieldError(
                    where=f"--range {name}", found=f"{low} to {high}", expected="a lower and a higher value"
                )
        if not ranges:
            spans = {name: span for name, span in RANGES.items() if name not in values}
        twice = sorted(set(spans) & set(values))
        if twice or len(spans) < len(ranges):
            raise InfieldError(where="--range, --at", found=f"{', '.join(twice) or 'a name'} twice", expected="once")
        return cls(spans, values)

    def points(self, samples: int, seed: int) -> dict[str, np.ndarray]:
        """Parameters of all cones, `(samples,)` each: one cone in each of `samples` slices of every range.

        Arguments:
            samples: Number of cones.
            seed: Of the hypercube, which is another one for another number of cones.
        """
        unit = np.empty((samples, 0))
        if self.ranges:
            unit = qmc.LatinHypercube(len(self.ranges), rng=np.random.default_rng((seed, 1))).random(samples)
        spread = {name: low + (high - low) * unit[:, i] for i, (name, (low, high)) in enumerate(self.ranges.items())}
        return spread | {name: np.full(samples, value) for name, value in self.fixed.items()}


def cone_seeds(samples: int, seed: int) -> np.ndarray:
    """Seeds of the simulator, `(samples,)`; that of cone i depends on `seed` and i alone."""
    states = [np.random.SeedSequence((seed, 2, i)).generate_state(1)[0] for i in range(samples)]
    return np.array(states, dtype=np.int64) % (2**31 - 1) + 1
