"""Cut-outs of the channels of the Johns Hopkins Turbulence Databases that reach to a wall.

What the cut-out service and givernylocal 3.6 (`getCutout`, `write_cutout_hdf5_and_xmf_files`) write: HDF5 with
`Pressure_0001`, `Pressure_0002`, ... (`pressure_0001` in newer ones), one a stored frame, of shape `(z, y, x, 1)`, and
the positions `xcoor`, `ycoor`, `zcoor` in half heights, float32 in older ones; givernylocal adds the attribute
`dataset`, the name of the flow.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from infield.core.errors import InfieldError
from infield.datasets.formats.foreign_arrays import StoredArray, StoredArrays
from infield.datasets.wall_pressure.readers.checks import spans
from infield.datasets.wall_pressure.readers.common import UserMetadata
from infield.datasets.wall_pressure.readers.raw_planes import Positions, RawPlanes

FLOWS: dict[str, dict[str, float]] = {
    "channel": {"u_tau": 4.9968e-2, "nu": 5e-5, "frame": 0.0065},
    "channel5200": {"u_tau": 4.14872e-2, "nu": 8e-6},
}
"""Channels of Re_tau 999 and 5186, half height 1 (Graham et al. 2016, J. Turbulence 17, 181; Lee & Moser 2015, J. Fluid
Mech. 774, 395); `frame` is the time between stored frames, of which the first is number 1 at time 0."""

PERIOD = {"x": 8 * math.pi, "z": 3 * math.pi}
"""Of both, in half heights."""

ON_THE_WALL = 1.0
"""Largest distance from the wall, in wall units, of a plane that counts as being on it: the r.m.s. there is 0.3 % off
(Re_tau 178)."""

_FRAME = re.compile(r"pressure_(\d+)$", re.IGNORECASE)


def is_cut_out(file: StoredArrays) -> bool:
    """Whether a file has the arrays of a cut-out with pressure."""
    return bool(_frames(file)) and any(array.leaf == "xcoor" for array in file.arrays.values())


def jhtdb_planes(file: StoredArrays, stated: UserMetadata) -> RawPlanes:
    """The wall planes of a cut-out.

    Raises:
        InfieldError: It does not name its flow, has no plane on a wall, or is no cut-out.
    """
    stated.refuse(file.path, "a cut-out of the JHTDB, which holds it", "variable", "order")
    name = str(stated.flow or file.attributes.get("dataset", ""))
    flow = _flow(file, name, stated)
    frames = _frames(file)
    numbers = sorted(frames)
    first = frames[numbers[0]]
    positions = _positions(file, first)
    odd = next((array for array in frames.values() if array.shape != first.shape), None)
    if odd is not None:
        raise InfieldError(
            where=f"{file.path}: '{odd.name}'", found=f"shape {odd.shape}", expected=f"{first.shape} as the others"
        )
    walls = _on_walls(file, positions["y"], flow["u_tau"] / flow["nu"])
    tail = (0,) * (len(first.shape) - 3)

    def read(times: slice, wall: int) -> np.ndarray:
        y = walls[wall][1]
        return np.stack([frames[i].at((slice(None), y, slice(None), *tail)) for i in numbers[times]])

    lengths = {f"length_{axis}": length for axis, length in PERIOD.items() if _fills(positions[axis], length)}
    coordinates = {
        axis: Positions(positions[axis], periodic=None if f"length_{axis}" in lengths or name not in FLOWS else False)
        for axis in ("z", "x")
    }
    if len(numbers) > 1 or "frame" in flow:
        times = (np.array(numbers) - 1) * flow.get("frame", 1.0)
        coordinates["time"] = Positions(times, "" if "frame" in flow else "frames")
    return RawPlanes(
        path=file.path,
        kind="JHTDB cut-out",
        sizes={"z": first.shape[0], "x": first.shape[2], "time": len(numbers), "wall": len(walls)},
        read=read,
        flow={"u_tau": flow["u_tau"], "nu": flow["nu"], "half_height": 1.0, **(lengths if name in FLOWS else {})},
        coordinates=coordinates,
        walls=tuple(wall for wall, _ in walls),
        provenance={
            "dataset": name,
            "frames": [numbers[0], numbers[-1]],
            "y": [float(positions["y"][i]) for _, i in walls],
        },
    )


def _frames(file: StoredArrays) -> dict[int, StoredArray]:
    found = ((_FRAME.search(array.leaf), array) for array in file.arrays.values())
    return {int(match.group(1)): array for match, array in found if match}


def _flow(file: StoredArrays, name: str, stated: UserMetadata) -> Mapping[str, float]:
    if stated.flow is not None and stated.flow not in FLOWS:
        raise InfieldError(
            where="{flow}", found=f"'{stated.flow}'", expected=f"one of {', '.join(FLOWS)}", parameters=["flow"]
        )
    if name in FLOWS:
        return FLOWS[name]
    if stated.u_tau is None or stated.nu is None:
        raise InfieldError(
            where=file.path,
            found=f"a cut-out of the flow {name or 'of no name'!r}",
            expected=f"one of {', '.join(FLOWS)}",
            remedy="state it ({flow}, or {u_tau} and {nu})",
            parameters=["flow", "u_tau", "nu"],
        )
    return {"u_tau": stated.u_tau, "nu": stated.nu}


def _positions(file: StoredArrays, frame: StoredArray) -> dict[str, np.ndarray]:
    found = {}
    for i, axis in enumerate("zyx"):
        array = next((a for a in file.arrays.values() if a.leaf == f"{axis}coor"), None)
        if array is None or len(frame.shape) not in (3, 4) or array.shape != (frame.shape[i],):
            what = "nothing" if array is None else f"shape {array.shape}"
            raise InfieldError(
                where=f"{file.path}: '{axis}coor'",
                found=f"{what} beside '{frame.name}' of shape {frame.shape}",
                expected="the positions of an array (z, y, x, 1)",
            )
        found[axis] = array.whole()
    return found


def _fills(values: np.ndarray, period: float) -> bool:
    n = len(values)
    return n > 1 and spans(n, (float(values[-1]) - float(values[0])) / (n - 1), period)


def _on_walls(file: StoredArrays, y: np.ndarray, per_length: float) -> list[tuple[int, int]]:
    """The walls that are cut out, 0 or 1, each with the number of its plane."""
    found = []
    for wall, place in ((0, -1.0), (1, 1.0)):
        nearest = int(np.abs(y - place).argmin())
        if abs(float(y[nearest]) - place) * per_length <= ON_THE_WALL:
            found.append((wall, nearest))
    if not found:
        distance = float(np.min(1 - np.abs(y))) * per_length
        raise InfieldError(
            where=f"{file.path}: 'ycoor'",
            found=f"planes from y = {y.min():g} to {y.max():g}, the nearest at y+ = {distance:.3g}",
            expected=f"one on a wall, y+ at most {ON_THE_WALL:g}",
            remedy="cut out y = -1 or 1",
        )
    return found
