"""Wall units of a plane channel: lengths in nu/u_tau, times in h/u_tau, pressure in rho u_tau^2; and grids in them.

Re_tau = u_tau h / nu is then the half height in wall units. A wall plane has axes z (spanwise) and x (streamwise).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.physics.units import conversion

WALL_LENGTH = "nu/u_tau"
"""Units of coordinates in wall units, as files have them."""

OUTER_TIME = "h/u_tau"
"""Units of times, as files have them."""

SPANWISE, STREAMWISE = "z", "x"

DX_PLUS, DZ_PLUS = 4 * math.pi * 180 / 128, 4 / 3 * math.pi * 180 / 64
"""Spacings 17.67 and 11.78 that fit on a CPU: a channel of 4 pi x 4/3 pi half heights at Re_tau 180 on 128 x 64 points,
as Kim, Moin & Moser (1987) have it."""

RE_TAU_RTOL = 0.01
"""Reynolds numbers and lengths that differ by less than this share are taken to be the same."""

_WALL = ("nu/u_tau", "wall units", "viscous units", "+")
_OUTER = ("h", "half height", "half_height", "delta")
_OWN = ("", "1", "m", "code units")
_WALL_PRESSURE = ("rho u_tau^2", "rho*u_tau^2", "rho u_tau2", "tau_w", "wall units", "+")
_KINEMATIC = ("m2 s-2", "m^2/s^2", "m2/s2", "m^2 s^-2")
_OWN_TIME = ("", "1", "s", "code units")
_WALL_TIME = ("nu/u_tau^2", "nu/u_tau2", "wall units", "+")


@dataclass(frozen=True)
class WallUnits:
    """Conversion of the numbers of a file to wall units.

    Arguments:
        re_tau: u_tau h / nu.
        u_tau, nu, half_height: In the file's own units, any consistent ones; None where not known.
        rho: Density in them; None where not known, which stands for 1.
    """

    re_tau: float
    u_tau: float | None = None
    nu: float | None = None
    half_height: float | None = None
    rho: float | None = None

    @classmethod
    def of(
        cls,
        where: str,
        *,
        re_tau: float | None = None,
        u_tau: float | None = None,
        nu: float | None = None,
        half_height: float | None = None,
        rho: float | None = None,
    ) -> WallUnits:
        """Complete what is given by Re_tau = u_tau h / nu; h is 1 where it is not given and the others need it.

        Arguments:
            where: Start of messages.

        Raises:
            InfieldError: A number is not above zero, Re_tau is not known, or what is given contradicts itself.
        """
        given = {"Re_tau": re_tau, "u_tau": u_tau, "nu": nu, "half_height": half_height, "rho": rho}
        for name, value in given.items():
            if value is not None and not 0 < value < math.inf:
                raise InfieldError(where=where, found=f"{name} = {value}", expected="a finite number above zero")
        if u_tau is not None and nu is not None:
            if half_height is None:
                half_height = 1.0 if re_tau is None else re_tau * nu / u_tau
            found = u_tau * half_height / nu
            if re_tau is not None and abs(found / re_tau - 1) > RE_TAU_RTOL:
                raise InfieldError(
                    where=where,
                    found=f"u_tau {u_tau:g}, h {half_height:g} and nu {nu:g}, which make Re_tau {found:.6g}",
                    expected=f"the stated Re_tau {re_tau:g}",
                    remedy="one of them is of another flow",
                )
            re_tau = found if re_tau is None else re_tau
        if re_tau is None:
            raise InfieldError(
                where=where,
                found="no Re_tau, nor u_tau and nu",
                expected="one of these",
                remedy="state it ({re_tau})",
                parameters=["re_tau"],
            )
        if half_height is not None and u_tau is None and nu is not None:
            u_tau = re_tau * nu / half_height
        elif half_height is not None and u_tau is not None and nu is None:
            nu = u_tau * half_height / re_tau
        return cls(re_tau, u_tau, nu, half_height, rho)

    def length(self, where: str, units: str) -> float:
        """By what a length in some units is multiplied to be in wall units.

        Raises:
            InfieldError: These units are not known, or not enough of the flow is.
        """
        known = units.strip().lower()
        if known in _WALL:
            return 1.0
        if known in _OUTER:
            return self.re_tau
        metres = None if known in _OWN else factor_to(units, "m")
        if metres is not None:
            return metres * self.length(where, "m")
        if known in _OWN and self.u_tau is not None and self.nu is not None:
            return self.u_tau / self.nu
        if known in _OWN and self.half_height is not None:
            return self.re_tau / self.half_height
        if known in _OWN:
            raise InfieldError(
                where=where,
                found=f"lengths in units {units!r} and no half height, nor u_tau and nu",
                expected=f"these or lengths in '{WALL_LENGTH}' or 'h'",
                remedy="state them ({half_height}, or {u_tau} and {nu})",
                parameters=["half_height", "u_tau", "nu"],
            )
        raise InfieldError(
            where=where, found=f"lengths in units {units!r}", expected=f"one of {_listed(_WALL, _OUTER, _OWN)}"
        )

    def pressure(self, where: str, units: str, *, lengths_in_wall_units: bool) -> float:
        """By what a pressure is multiplied to be p / (rho u_tau^2).

        Arguments:
            lengths_in_wall_units: Whether the file's lengths are: pressure without units then is, too.

        Raises:
            InfieldError: These units are not known, or not enough of the flow is.
        """
        known = units.strip().lower()
        if known in _WALL_PRESSURE or (known in ("", "1") and lengths_in_wall_units):
            return 1.0
        if known not in (*_OWN, *_KINEMATIC, "pa"):
            for own in ("Pa", _KINEMATIC[0]):
                factor = factor_to(units, own)
                if factor is not None:
                    return factor * self.pressure(where, own, lengths_in_wall_units=lengths_in_wall_units)
            expected = _listed(_WALL_PRESSURE, _KINEMATIC, ("", "1", "Pa", "code units"))
            raise InfieldError(where=where, found=f"pressure in units {units!r}", expected=f"one of {expected}")
        if self.u_tau is None:
            raise InfieldError(
                where=where,
                found=f"pressure in units {units!r} and no u_tau to scale it by",
                expected="one",
                remedy="state it ({u_tau})",
                parameters=["u_tau"],
            )
        if known == "pa" and self.rho is None:
            raise InfieldError(
                where=where,
                found="pressure in Pa and no density",
                expected="it",
                remedy="state it ({rho})",
                parameters=["rho"],
            )
        rho = 1.0 if known in _KINEMATIC or self.rho is None else self.rho
        return 1 / (rho * self.u_tau**2)

    def time(self, units: str) -> float | None:
        """By what a time is multiplied to be in h/u_tau; None where that is not known."""
        known = units.strip().lower()
        if known == OUTER_TIME:
            return 1.0
        if known in _WALL_TIME:
            return 1 / self.re_tau
        if self.u_tau is None or self.half_height is None:
            return None
        seconds = 1.0 if known in _OWN_TIME else factor_to(units, "s")
        return None if seconds is None else seconds * self.u_tau / self.half_height


def factor_to(units: str, wanted: str) -> float | None:
    """By what a number in units is multiplied to be in others, None where nothing leads there."""
    try:
        change = conversion(units, wanted)
    except InfieldError:
        return None
    return change.slope if change.offset == 0 else None


def in_wall_units(units: str) -> bool:
    """Whether lengths in these units are in wall units."""
    return units.strip().lower() in _WALL


def _listed(*groups: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for group in groups for name in group)


def wall_grid(
    re_tau: float,
    length: float = 4 * math.pi,
    width: float = 4 / 3 * math.pi,
    *,
    dx_plus: float = DX_PLUS,
    dz_plus: float = DZ_PLUS,
    multiple: int = 2,
    periodic: bool = True,
) -> Grid:
    """A grid on the wall with given spacings in wall units, the same at every Reynolds number.

    Arguments:
        re_tau: Friction Reynolds number.
        length, width: Extent along x and z in half heights. Since the spacings are kept, the grid's own extent is the
            nearest whole number of `multiple` spacings.
        dx_plus, dz_plus: Spacings in nu/u_tau.
        multiple: What the number of points along each axis is a multiple of.
        periodic: Whether both axes are periodic.

    Returns:
        Axes (z, x) from 0, in nu/u_tau.

    Raises:
        InfieldError: A number is not above zero, or the domain is smaller than half of `multiple` spacings.
    """
    numbers = {"Re_tau": re_tau, "length": length, "width": width, "dx_plus": dx_plus, "dz_plus": dz_plus}
    for name, value in numbers.items():
        if not 0 < value < math.inf:
            raise InfieldError(where="wall grid", found=f"{name} = {value}", expected="a finite number above zero")
    axes = []
    for name, extent, step in ((SPANWISE, width, dz_plus), (STREAMWISE, length, dx_plus)):
        n = multiple * round(extent * re_tau / step / multiple)
        if n < 1:
            raise InfieldError(
                where="wall grid",
                found=f"{extent * re_tau:.4g} {WALL_LENGTH} along {name}",
                expected=f"at least {multiple} spacings of {step:.4g}",
                remedy="take a larger domain",
            )
        axes.append(Axis(name, tuple(step * i for i in range(n)), WALL_LENGTH, periodic))
    return Grid(tuple(axes))
