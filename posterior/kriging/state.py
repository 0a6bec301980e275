"""One value of the hyperparameters of a law that was fitted to data, and the data as it sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from infield.posterior.kriging.fit import Fit
from infield.posterior.kriging.law import StationaryLaw
from infield.posterior.kriging.observations import Coefficients, Observations, noise_variances


@dataclass(frozen=True)
class State:
    """One value of the hyperparameters.

    Arguments:
        law: Of the field around its trend, in units of the field.
        noise_factor: By which the noise variances of the data are multiplied.
        coefficients: Of the trend, a posterior for each channel, for a field around `Fit.centre`.
    """

    law: StationaryLaw
    noise_factor: float | Tensor
    coefficients: tuple[Coefficients, ...]

    @classmethod
    def of(cls, fit: Fit) -> State:
        """The most probable one."""
        return cls(fit.law, fit.noise_factor, fit.coefficients)

    def measured(self, data: Observations, centre: float) -> Observations:
        """Data around a centre, with the noise of this state."""
        return replace(data, y=data.y - centre, noise=noise_variances(data.noise, self.noise_factor))
