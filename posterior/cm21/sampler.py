"""Any sampler on lightcones: it draws temperature and the ionised region, and returns temperatures.

The prior of lightcones (`priors.cm21.flow`) has two channels if it represents exact zeros. Data are of the
temperature alone: the operator is that of the data after the selection of the first channel. Of a draw, ionised voxels
are exactly 0 mK (`priors.cm21.ionised_zeros`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from infield.core.errors import InfieldError
from infield.core.randomness import Randomness
from infield.physics.measurement import Measurement
from infield.physics.operators.composition import SelectChannel, compose
from infield.posterior.samplers.base import Draws, Posterior, Sampler
from infield.priors.base import FlowPrior
from infield.priors.cm21.flow import LightconeFlow
from infield.priors.cm21.ionised_zeros import zero_ionised

IONISED = "ionised"


@dataclass(frozen=True, kw_only=True)
class LightconeSampler(Sampler):
    """A sampler, for a measurement of brightness temperatures and a prior of lightcones.

    Arguments:
        sampler: Makes the draws.
    """

    sampler: Sampler

    method: ClassVar[str] = "of-lightcones"

    @property
    def block(self) -> int:
        return self.sampler.block

    def block_of(self, measurement: Measurement) -> int:
        return self.sampler.block_of(measurement)

    def __call__(self, prior: FlowPrior, measurement: Measurement, n: int, generator: Randomness) -> Posterior:  # type: ignore[override]
        """Temperatures in mK, shape `(n, 1, x, y, los)`; see `Sampler.__call__`.

        Raises:
            InfieldError: As the sampler; or the prior is none of lightcones with temperatures.
        """
        if not isinstance(prior, LightconeFlow) or prior.units != measurement.units:
            raise InfieldError(
                where=f"prior '{prior.name}'",
                found=f"a prior in units '{prior.units}'",
                expected=(
                    f"lightcones in '{measurement.units}': train with `kind: linear` and `fill: false`, whose values "
                    "are temperatures"
                ),
            )
        told_apart = prior.event_shape[0] > 1
        of_both = add_ionisation_channel(measurement) if told_apart else measurement
        posterior = self.sampler(prior, of_both, n, generator)
        temperature = posterior.samples[:, :1]
        if told_apart:
            temperature = zero_ionised(temperature, posterior.samples[:, 1:])
        chi_square = {"chi_square": float(measurement.chi_square(temperature).mean())}
        diagnostics = {**posterior.diagnostics, **chi_square}
        return dataclasses.replace(posterior, samples=temperature, diagnostics=diagnostics)

    def draw(self, prior: FlowPrior, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        return self.sampler.draw(prior, measurement, n, generator)


def add_ionisation_channel(measurement: Measurement) -> Measurement:
    """The same measurement of a field with a second channel, that it does not observe."""
    select = SelectChannel(measurement.grid, channels=2, index=0)
    return dataclasses.replace(
        measurement,
        operator=compose(measurement.operator, select),
        channels=(*measurement.channels, IONISED),
        truth=None,
        description={},
        arrays={},
    )
