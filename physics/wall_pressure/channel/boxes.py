"""Boxes of channel flow by name: their periods and points at a Reynolds number."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ChannelBox:
    """A box at Re_tau 180, and what becomes of it at another Reynolds number.

    Spacings stay the same in wall units, and so do the periods of a box that is so many wall units long.

    Arguments:
        lengths: Periods in x and z at Re_tau 180, in half heights.
        points: Points in x, y and z there.
        inner: Whether the periods are kept in wall units, not in half heights.
    """

    lengths: tuple[float, float]
    points: tuple[int, int, int]
    inner: bool

    def lengths_at(self, re_tau: float) -> tuple[float, float]:
        """Periods in x and z, in half heights."""
        x, z = self.lengths
        return (x * 180 / re_tau, z * 180 / re_tau) if self.inner else self.lengths

    def points_at(self, re_tau: float) -> tuple[int, int, int]:
        """Points in x, y and z; those of x and z even, that of y odd."""
        nx, ny, nz = self.points
        finer = re_tau / 180
        along = 1.0 if self.inner else finer
        x, y, z = (2 * math.ceil(n / 2 - 1e-9) for n in (nx * along, (ny - 1) * finer, nz * along))
        return x, y + 1, z


BOXES = {
    "minimal": ChannelBox((math.pi, 0.34 * math.pi), (32, 65, 32), inner=True),
    "full": ChannelBox((4 * math.pi, 4 / 3 * math.pi), (128, 129, 128), inner=False),
}
"""`minimal`: 565 x 192 wall units, little more than what sustains turbulence at a wall (Jimenez & Moin 1991, J. Fluid
Mech. 225, 213). `full`: 4 pi x 4/3 pi half heights on the points of Moser, Kim & Mansour 1999 (Phys. Fluids 11, 943) at
Re_tau 180: for a GPU.

Where a minimal box is right, measured against the tables of Moser et al. in 40 turnovers at Re_tau 180: below y+ = 40
the mean velocity within 0.8 % and r.m.s. of u within 3 %. Where it is not: near the wall r.m.s. of v and w are up to
10 % too small and -uv 6 % (a box twice as long on the same spacings has them within 6 % in 9 turnovers); the outer flow
does not fit in (at the centre the mean is 2.5 % too large, r.m.s. of u 20 % too small); wall pressure has r.m.s. 1.73
instead of 1.53, and its correlation along x a lobe of -0.2 that is as long as the box, instead of -0.09.
"""
