r"""Thermal noise of gridded visibilities.

A baseline of two antennas of effective area A_e and system temperature T measures a complex visibility, in a channel of
width dnu for a time t and one polarisation, with a root mean square of (Thompson, Moran & Swenson 2017, chapter 6;
McQuinn et al. 2006)

    <|n|^2>^{1/2} = lambda^2 T / (A_e sqrt(dnu t))        in K sr;

as a flux density 2 k T / (A_e sqrt(dnu t)). Independent samples add in t; two polarisations halve the variance. A field
of nx x ny points that covers the solid angle Omega has the visibilities V = Omega / sqrt(nx ny) times its orthonormal
Fourier transform, hence there the variance

    <|n|^2> = nx ny (lambda^2 T / (A_e Omega))^2 / (n_pol dnu t),

half of it in the real part and half in the imaginary part.
"""

from __future__ import annotations

import numpy as np

from infield.physics.cm21.telescopes import LIGHT, Telescope

POLARISATIONS = 2


def visibility_variance(
    telescope: Telescope,
    seconds: np.ndarray,
    *,
    frequency: np.ndarray,
    width: np.ndarray,
    solid_angle: np.ndarray,
    points: tuple[int, int],
) -> np.ndarray:
    """Variance of the complex noise of each gridded visibility in mK^2; infinite where nothing was measured.

    Arguments:
        telescope: Telescope, for its area and temperature.
        seconds: Total time of all baselines in a uv cell, s, shape `(kx, ky, channel)`.
        frequency: Frequencies of the channels in MHz, shape `(channel,)`.
        width: Widths of the channels in MHz, shape `(channel,)`.
        solid_angle: Solid angle of the field at each channel, sr, shape `(channel,)`.
        points: Points of the field along x and y.
    """
    wavelength = LIGHT / (np.asarray(frequency) * 1e6)
    temperature = 1e3 * telescope.system_temperature(frequency)
    one = wavelength**2 * temperature / (telescope.effective_area(frequency) * solid_angle)
    with np.errstate(divide="ignore"):
        return points[0] * points[1] * one**2 / (POLARISATIONS * 1e6 * np.asarray(width) * seconds)
