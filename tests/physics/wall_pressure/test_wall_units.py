"""Wall units: scales that follow from each other, contradictions that are refused, grids of the same spacings."""

import math

import pytest

from infield import InfieldError
from infield.physics.wall_pressure.wall_units import DX_PLUS, DZ_PLUS, WALL_LENGTH, WallUnits, in_wall_units, wall_grid


def test_missing_scales_follow():
    """A channel of 2 cm in air at Re_tau 180: h = 0.01 m, nu = 1.5e-5 m2/s, u_tau = 0.27 m/s."""
    for given in (
        {"u_tau": 0.27, "nu": 1.5e-5, "half_height": 0.01},
        {"re_tau": 180, "nu": 1.5e-5, "half_height": 0.01},
    ):
        units = WallUnits.of("file", **given, rho=1.2)
        assert abs(units.re_tau / 180 - 1) < 1e-12 and abs(units.u_tau / 0.27 - 1) < 1e-12
        assert abs(units.length("file", "m") - 18000) < 1e-6 and units.length("file", "h") == units.re_tau
        assert abs(units.pressure("file", "Pa", lengths_in_wall_units=False) - 1 / (1.2 * 0.27**2)) < 1e-9
        assert abs(units.pressure("file", "m2 s-2", lengths_in_wall_units=False) - 1 / 0.27**2) < 1e-9
        assert abs(units.time("s") - 27) < 1e-9 and units.time("h/u_tau") == 1
        assert abs(units.time("nu/u_tau^2") * 180 - 1) < 1e-12
    assert WallUnits.of("file", u_tau=0.05, nu=5e-5).re_tau == pytest.approx(1000)
    bare = WallUnits.of("file", re_tau=180)
    assert bare.u_tau is None and bare.time("s") is None and bare.length("file", WALL_LENGTH) == 1
    assert bare.pressure("file", "1", lengths_in_wall_units=True) == 1
    assert in_wall_units("nu/u_tau") and not in_wall_units("1")


BAD = {
    "nothing": (lambda: WallUnits.of("file"), "found no Re_tau, nor u_tau and nu"),
    "half of it": (lambda: WallUnits.of("file", u_tau=0.05), "found no Re_tau"),
    "negative": (lambda: WallUnits.of("file", re_tau=-180), "found Re_tau = -180"),
    "another flow": (
        lambda: WallUnits.of("file", re_tau=180, u_tau=0.05, nu=5e-5, half_height=1.0),
        "which make Re_tau 1000, expected the stated Re_tau 180",
    ),
    "unknown length": (
        lambda: WallUnits.of("file", re_tau=180).length("file", "ells of Ghent"),
        "lengths in units 'ells of Ghent'",
    ),
    "no scale": (lambda: WallUnits.of("file", re_tau=180).length("file", "m"), "no half height, nor u_tau and nu"),
    "no u_tau": (
        lambda: WallUnits.of("file", re_tau=180).pressure("file", "", lengths_in_wall_units=False),
        "no u_tau to scale it by",
    ),
    "no density": (
        lambda: WallUnits.of("file", re_tau=180, u_tau=0.05).pressure("file", "Pa", lengths_in_wall_units=False),
        "found pressure in Pa and no density",
    ),
    "unknown pressure": (
        lambda: WallUnits.of("file", re_tau=180, u_tau=0.05).pressure("file", "head", lengths_in_wall_units=False),
        "found pressure in units 'head'",
    ),
    "no domain": (lambda: wall_grid(180, 0.01), "expected at least 2 spacings"),
    "endless": (lambda: wall_grid(180, math.inf), "found length = inf"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    make, words = BAD[case]
    with pytest.raises(InfieldError) as caught:
        make()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_close_numbers_are_the_same_flow():
    assert WallUnits.of("file", re_tau=1000, u_tau=4.9968e-2, nu=5e-5, half_height=1).re_tau == 1000


@pytest.mark.parametrize(
    ("re_tau", "length", "shape"), [(180, 4, (64, 128)), (180, 16, (64, 512)), (500, 4, (178, 356))]
)
def test_grids_have_the_same_spacings_at_every_reynolds_number(re_tau, length, shape):
    grid = wall_grid(re_tau, length * math.pi)
    assert grid.names == ("z", "x") and grid.shape == shape
    assert grid.spacing == pytest.approx((DZ_PLUS, DX_PLUS), rel=1e-12)
    assert all(axis.units == WALL_LENGTH and axis.periodic and axis.uniform for axis in grid.axes)
    width, extent = (a / re_tau for a in grid.lengths)
    assert abs(extent / (length * math.pi) - 1) < 0.004 and abs(width / (4 / 3 * math.pi) - 1) < 0.004


def test_points_in_multiples():
    grid = wall_grid(500, multiple=16, dx_plus=10.0, dz_plus=5.0, periodic=False)
    assert grid.shape == (416, 624) and not grid.axes[0].periodic
