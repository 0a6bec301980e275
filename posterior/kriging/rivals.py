"""Does another statement about the file explain its data far better: a louder noise, or a non-periodic axis?

Held-out data do not tell: a field fitted to noise that is stated too small predicts its neighbours as well as it can,
and data far from a seam do not see it. The evidence does. What a file states stays as it is; a rival that is far more
probable is reported.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from infield.posterior.kriging.fit import FIRST_TERMS, MAX_DATA_EXACT, Fitting, Settings, fit
from infield.posterior.kriging.fitted import FittedField
from infield.posterior.kriging.observations import evenly

DECISIVE = math.log(150.0)
"""Log Bayes factor from which a rival is reported: "very strong" evidence (Kass & Raftery 1995, J. Am. Stat. Assoc. 90,
773)."""

LOUDER, LONGER = (4.0, 9.0, 36.0), (1 / 3, 1.0, 3.0)
"""Factors on the noise variance and on the lengths from which a louder noise is sought."""


def rivals(field: FittedField) -> list[str]:
    """Statements of the file that the data contradict, one line each."""
    return [words for words in (_louder_noise(field), _axes_that_do_not_close(field)) if words is not None]


def _louder_noise(field: FittedField) -> str | None:
    """Noise of another level than stated, all data alike; of many data some terms of the evidence decide."""
    if not field.data.noise_known:
        return None
    fitting = Fitting(field.data.channels, field.data.geometry, False, Settings())
    assert isinstance(fitting.noise_unit, float)
    stated = -math.log(fitting.noise_unit)
    own = replace(field.fit.family, noise=1)
    here = torch.cat([field.fit.theta, field.fit.theta.new_tensor([stated])])
    as_stated = fitting.evidence(own, here, FIRST_TERMS)
    weight = max(getattr(part, "weight", 1.0) for part in as_stated.parts)
    best = None
    for nu in sorted({own.nu, 1.5}):
        family = replace(own, nu=nu)
        evidence = fitting.evidence(family, here, FIRST_TERMS)
        for longer in LONGER:
            for louder in LOUDER:
                start = here.clone()
                start[1 : 1 + len(family.sharing)] += math.log(longer)
                start[-1] += math.log(louder)
                tried = evidence.value(start), evidence, start
                best = tried if best is None or tried[0] > best[0] else best
    assert best is not None
    _, evidence, start = best
    found = evidence.maximum(start)
    gain = (evidence.log_evidence(found) - as_stated.log_evidence(here)) / weight - 0.5 * math.log(fitting.count)
    factor = math.exp(0.5 * float(found[-1] - stated))
    if not gain > DECISIVE or factor < 1:
        return None
    return f"the data favour noise {factor:.2g} times larger than stated (log Bayes factor {gain:.0f})"


def _axes_that_do_not_close(field: FittedField) -> str | None:
    """Periodic axes beside open ones of the same data, at most as many as have an exact evidence."""
    data, geometry = field.data, field.data.geometry
    closed = [i for i, period in enumerate(geometry.periods) if period is not None and i not in geometry.on_sphere]
    if not closed:
        return None
    few = [own.at(evenly(len(own), MAX_DATA_EXACT)) for own in data.channels]
    settings = Settings(shapes=("isotropic", "axes"))
    opened = replace(geometry, periods=tuple(None if i in closed else p for i, p in enumerate(geometry.periods)))
    as_stated, rival = (fit(few, g, noise_known=data.noise_known, settings=settings) for g in (geometry, opened))
    gain = rival.log_evidence - as_stated.log_evidence
    if not gain > DECISIVE:
        return None
    names = " or ".join(f"'{geometry.names[i]}'" for i in closed)
    return f"the data contradict that {names} is periodic (log Bayes factor of open axes {gain:.0f})"
