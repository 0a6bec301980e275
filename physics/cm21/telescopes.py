"""Arrays of radio antennas: positions, effective areas and temperatures.

Both layouts only *resemble* their namesakes: a formula places the same number of antennas in the same extent; true
positions are read from a table of east and north. Effective areas and temperatures are nominal values of these classes
of telescopes, not measurements of one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LIGHT = 299792458.0  # m/s


@dataclass(frozen=True, eq=False)
class Telescope:
    """An array of equal antennas (or stations).

    Arguments:
        name: Name of the array.
        positions: East and north of each antenna in m, shape `(antennas, 2)`.
        latitude: In degrees.
        area: Effective area of one antenna at low frequencies, m^2.
        dense_below: Frequency in MHz above which the area falls as 1 / nu^2 (dipoles that no longer overlap); infinite
            for a dish.
        diameter: Diameter of an antenna in m, for the primary beam.
        receiver: Temperature of the receiver in K.
        receiver_of_sky: Further receiver temperature as a fraction of the sky temperature.
        hours_a_day: Tracking time per day, hours.
    """

    name: str
    positions: np.ndarray
    latitude: float
    area: float
    dense_below: float
    diameter: float
    receiver: float
    receiver_of_sky: float
    hours_a_day: float

    def effective_area(self, frequency: np.ndarray) -> np.ndarray:
        """m^2 at frequencies in MHz."""
        return self.area * np.minimum(1.0, (self.dense_below / np.asarray(frequency)) ** 2)

    def system_temperature(self, frequency: np.ndarray) -> np.ndarray:
        """K at frequencies in MHz; T_sky = 60 K (lambda / 1 m)^2.55 away from the Galactic plane."""
        sky = 60.0 * (LIGHT / (np.asarray(frequency) * 1e6)) ** 2.55
        return self.receiver + (1 + self.receiver_of_sky) * sky

    def beam_fwhm(self, frequency: np.ndarray) -> np.ndarray:
        """Full width at half maximum of the power beam in radians: 1.03 lambda / D, that of an evenly lit disc."""
        return 1.03 * LIGHT / (np.asarray(frequency) * 1e6) / self.diameter


def spiral(antennas: int, radius: float) -> np.ndarray:
    """Antennas evenly spread over a disc on Fermat's spiral (Vogel 1979): r = R sqrt((i + 1/2) / n), the golden angle.

    Arguments:
        antennas: Number of antennas.
        radius: R in m.

    Returns:
        East and north in m, shape `(antennas, 2)`.
    """
    i = np.arange(antennas)
    r, angle = radius * np.sqrt((i + 0.5) / antennas), i * math.pi * (3 - math.sqrt(5))
    return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)


def hexagon(side: int, spacing: float) -> np.ndarray:
    """Antennas on a triangular lattice in a hexagon: 3 n (n - 1) + 1 of them.

    Arguments:
        side: Antennas along a side, n.
        spacing: Between neighbours in m.

    Returns:
        East and north in m, shape `(antennas, 2)`.
    """
    reach = range(-side + 1, side)
    places = [(q, r) for q in reach for r in reach if abs(q + r) < side]
    return np.array([(spacing * (q + r / 2), spacing * r * math.sqrt(3) / 2) for q, r in places])


def ska_low_like(positions: np.ndarray | None = None) -> Telescope:
    """The core of SKA-Low, nearly: 224 stations of 35 m within a kilometre, on a spiral."""
    places = spiral(224, 500.0) if positions is None else positions
    return Telescope("ska-low-like", places, -26.82, 962.0, 110.0, 35.0, 40.0, 0.1, 6.0)


def hera_like(positions: np.ndarray | None = None) -> Telescope:
    """HERA, nearly: 331 dishes of 14 m, 14.6 m apart, in one hexagon; a field drifts through the beam in about an
    hour."""
    places = hexagon(11, 14.6) if positions is None else positions
    return Telescope("hera-like", places, -30.72, math.pi * 7.0**2, math.inf, 14.0, 100.0, 0.0, 1.0)


TELESCOPES = {"ska-low-like": ska_low_like, "hera-like": hera_like}
