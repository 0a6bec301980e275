"""Adapters of wall pressure: HDF5, netCDF and zarr planes; and the door to the other formats.

*Planes*: an array `(time, [wall,] z, x)` whose axes are named by dimension scales or labels, by an attribute `dims` or
`axes`, by coordinates of fitting sizes, or by the user; coordinates `x`, `z`, `time` with `units`; the flow's numbers
(`Re_tau`, `u_tau`, `nu`, `half_height`, `rho`) as attributes or scalars. Coordinates without units are in the file's
own consistent units, those of u_tau and nu; so is a pressure without units, unless the coordinates are in wall units.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from infield.core import registry
from infield.core.checks import is_number
from infield.core.errors import InfieldError
from infield.datasets.formats.foreign_arrays import StoredArray, StoredArrays, open_arrays
from infield.datasets.wall_pressure.readers.common import (
    UserMetadata,
    WallPlaneSource,
    make_source,
)
from infield.datasets.wall_pressure.readers.jhtdb import is_cut_out, jhtdb_planes
from infield.datasets.wall_pressure.readers.raw_planes import Positions, RawPlanes

DOMAIN = "wall_pressure"
"""Reader `wall_pressure.yaml` of the registry, a function of a path, what is `UserMetadata` and a
`contextlib.ExitStack` for what is to be closed, returns `RawPlanes`."""

ROLES = {
    "x": ("x", "x_plus", "xplus", "x+", "streamwise"),
    "z": ("z", "z_plus", "zplus", "z+", "spanwise"),
    "y": ("y",),
    "time": ("time", "t", "step", "snapshot", "sample", "frame"),
    "wall": ("wall", "walls"),
}
"""Names under which files have their axes."""

PRESSURES = ("pressure", "p", "wall_pressure", "p_wall", "pwall", "pw")
FLOW = {
    "re_tau": ("retau", "frictionreynoldsnumber"),
    "u_tau": ("utau", "frictionvelocity"),
    "nu": ("nu", "viscosity", "kinematicviscosity"),
    "half_height": ("halfheight", "h", "delta"),
    "rho": ("rho", "density"),
    "length_x": ("lx", "lengthx"),
    "length_z": ("lz", "lengthz"),
}
"""Names under which files have the numbers of their flow; capitals, spaces and underscores do not matter."""


@contextmanager
def open_planes(path: Path, stated: UserMetadata) -> Iterator[WallPlaneSource]:
    """Open planes of any of the formats; the file stays open meanwhile.

    Raises:
        InfieldError: The file is missing, damaged or incomplete, or contradicts what was stated.
    """
    name = DOMAIN + path.suffix.lower()
    if registry.known("readers", name):
        with ExitStack() as stack:
            yield make_source(registry.load("readers", name)(path, stated, stack), stated)
        return
    with open_arrays(path) as file:
        found = jhtdb_planes(file, stated) if is_cut_out(file) else array_planes(file, stated)
        yield make_source(found, stated)


def array_planes(file: StoredArrays, stated: UserMetadata) -> RawPlanes:
    """Planes in an array with named axes, or with axes that can be distinguished.

    Raises:
        InfieldError: There is no such array, or more than one way to understand it.
    """
    if file.attributes.get("infield_complete", 1) != 1:
        raise InfieldError(
            where=file.path, found="a run that is not finished", expected="all of it", remedy="start it again to resume"
        )
    stated.refuse(file.path, "planes that are no cut-out of the JHTDB", "flow")
    array = _pressure(file, stated)
    roles, named, history = _order(file, array, stated)
    own = dict(zip(roles, array.dims, strict=True))  # what the file calls each axis, whatever it is
    sizes = dict(zip(roles, array.shape, strict=True))
    if not {"z", "x"} <= set(roles):
        found = ", ".join(roles)
        raise InfieldError(
            where=f"{file.path}: '{array.name}'",
            found=f"the axes {found}",
            expected="z (spanwise) and x (streamwise) among them",
            remedy="name them in the order of the file ({order})",
            parameters=["order"],
        )
    walls = None
    if "y" in sizes:  # the walls by their positions
        y = _coordinate(file, array, "y", sizes["y"], own["y"])
        roles = tuple("wall" if role == "y" else role for role in roles)
        sizes["wall"] = sizes.pop("y")
        if y is not None and sizes["wall"] == 2:
            walls = tuple(int(value > y.values.mean()) for value in y.values)
    if sizes.get("wall", 1) > 2:
        raise InfieldError(
            where=f"{file.path}: '{array.name}'",
            found=f"{sizes['wall']} points along '{own.get('y') or own['wall']}', taken for walls",
            expected="1 or 2",
            remedy="if it is the spanwise axis, name the axes in the order of the file ({order})",
            parameters=["order"],
        )
    z_is_fastest = roles.index("x") < roles.index("z")
    coordinates: dict[str, Positions] = {}
    for role in ("z", "x", "time"):
        positions = _coordinate(file, array, role, sizes[role], own[role]) if role in sizes else None
        if positions is not None:
            coordinates[role] = positions
            continue
        other = _coordinate(file, array, role, None, own[role]) if role in sizes else None
        if other is not None:
            raise InfieldError(
                where=f"{file.path}: '{array.name}'",
                found=f"{len(other.values)} positions of '{role}' for an axis of {sizes[role]} points",
                expected="as many: the axes are in another order than stated",
                remedy="({order})",
                parameters=["order"],
            )
    return RawPlanes(
        path=file.path,
        kind=str(file.attributes.get("infield_format", "planes of an array")),
        sizes={"wall": 1, "time": 1, **sizes},
        read=_reader(array, roles),
        flow=_flow(file, array),
        pressure_units=str(array.attributes.get("units", "")),
        coordinates=coordinates,
        walls=walls,
        synthetic=file.attributes.get("synthetic") in (1, True),
        provenance={"variable": array.name, "axes": list(roles), "title": str(file.attributes.get("title", ""))},
        history=(*history, *(["axes x and z exchanged"] if z_is_fastest else [])),
        order_is_named=named,
        z_is_fastest=z_is_fastest,
    )


def _pressure(file: StoredArrays, stated: UserMetadata) -> StoredArray:
    if stated.variable is not None:
        if stated.variable not in file.arrays:
            names = ", ".join(file.arrays) or "none"
            raise InfieldError(
                where=file.path,
                found=f"no array '{stated.variable}'",
                expected=f"one of {names}",
                remedy="({variable})",
                parameters=["variable"],
            )
        return file.arrays[stated.variable]
    planes = [array for array in file.arrays.values() if sum(n > 1 for n in array.shape) >= 2]
    found = [array for array in planes if array.leaf in PRESSURES] or planes
    if len(found) != 1:
        names = ", ".join(array.name for array in found) or "none"
        raise InfieldError(
            where=file.path,
            found=f"the arrays {names}",
            expected=f"one of planes, named {' or '.join(PRESSURES[:3])}",
            remedy="name it ({variable})",
            parameters=["variable"],
        )
    return found[0]


def _role(name: str | None) -> str | None:
    known = (name or "").strip().lower()
    return next((role for role, names in ROLES.items() if known in names), None)


def _order(file: StoredArrays, array: StoredArray, stated: UserMetadata) -> tuple[tuple[str, ...], bool, list[str]]:
    """What each axis of the pressure is, whether by names, and a note on it."""
    where = f"{file.path}: '{array.name}' of shape {array.shape}"
    named = [_role(name) for name in array.dims]
    all_named = None not in named and len(set(named)) == len(named)
    if stated.order is None:
        return (tuple(map(str, named)), True, []) if all_named else _order_by_size(file, array, named, where)
    given = [_role(name) for name in stated.order]
    order = ",".join(stated.order)
    if len(given) != len(array.shape) or None in given or len(set(given)) < len(given):
        raise InfieldError(
            where=where,
            found=f"the order {order} ({{order}})",
            expected=f"{len(array.shape)} different names out of time, wall, z and x",
            parameters=["order"],
        )
    other_convention = "y" in named  # codes differ in which of y and z is spanwise, and which normal to the wall
    for name, role in zip(named, given, strict=True):
        if name not in (None, role) and not (other_convention and name in ("y", "z", "wall")):
            raise InfieldError(
                where=where,
                found=f"an axis that is {name} in the file and {role} in the order stated",
                expected="the same",
                remedy="leave the order out ({order})",
                parameters=["order"],
            )
    return tuple(map(str, given)), all_named, [f"axes as stated: {order}"]


def _order_by_size(
    file: StoredArrays, array: StoredArray, named: Sequence[str | None], where: str
) -> tuple[tuple[str, ...], bool, list[str]]:
    """What axes without names are, from the sizes of coordinates, if only one way fits."""
    there = {role: c for role in ("time", "wall", "z", "x") if (c := _coordinate(file, array, role, None)) is not None}
    fitting = [
        [role for role, c in there.items() if len(c.values) == n] if name is None else [name]
        for name, n in zip(named, array.shape, strict=True)
    ]

    def assignments(left: list[list[str]], taken: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if not left:
            yield taken
        for role in left[0] if left else ():
            if role not in taken:
                yield from assignments(left[1:], (*taken, role))

    ways = list(assignments(fitting, ()))
    if len(ways) != 1:
        known = ", ".join(f"{role} of {len(c.values)}" for role, c in there.items()) or "none"
        how = "more than one way" if ways else "no way"
        raise InfieldError(
            where=where,
            found=f"axes without names and {how} to match them with the coordinates ({known})",
            expected="names",
            remedy="give them in the order of the file, e.g. {order}",
            parameters={"order": ("time", "z", "x")},
        )
    return ways[0], False, [f"axes found by their sizes: {','.join(ways[0])}"]


def _coordinate(
    file: StoredArrays, array: StoredArray, role: str, size: int | None, own: str | None = None
) -> Positions | None:
    """The coordinate of a role, beside the pressure or at the top of the file; `own` is the file's name of the axis."""
    group = array.name.rsplit("/", 1)[0] + "/" if "/" in array.name else ""
    names = [str(name) for name in array.dims if _role(name) == role]
    if own is not None and _role(own) not in (role, None):  # another code's convention: its name alone counts
        names = [own]
    else:
        names += ROLES[role]
    for name in names:
        for place in dict.fromkeys((group, "")):
            found = next((a for a in file.arrays.values() if a.name.lower() == f"{place}{name}".lower()), None)
            if found is None or len(found.shape) != 1 or (size is not None and found.shape[0] != size):
                continue
            values = found.whole()
            if len(values) > 1 and not values.any():  # an axis without a coordinate, as netCDF stores it
                continue
            periodic = found.attributes.get("periodic")
            units = str(found.attributes.get("units", ""))
            return Positions(values, units, None if periodic is None else bool(periodic))
    return None


def _flow(file: StoredArrays, array: StoredArray) -> dict[str, float]:
    """The flow's numbers, from attributes of file and variable and from scalars."""
    scalars: dict[str, Any] = {a.name: a for a in file.arrays.values() if math.prod(a.shape) == 1}
    scalars |= {**file.attributes, **array.attributes}
    scalars = {name: _number_of_text(value) for name, value in scalars.items()}
    plain = {re.sub(r"[\s_]", "", name.rsplit("/", 1)[-1].lower()): value for name, value in scalars.items()}
    found = {}
    for quantity, names in FLOW.items():
        value = next((plain[name] for name in names if name in plain), None)
        if isinstance(value, StoredArray):
            value = value.whole().reshape(()).item()
        if is_number(value):
            found[quantity] = float(value)
    return found


def _number_of_text(value: Any) -> Any:
    """The number that a text attribute is; anything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _reader(array: StoredArray, roles: Sequence[str]) -> Callable[[slice, int], np.ndarray]:
    kept = [role for role in roles if role != "wall"]
    order = [kept.index(role) for role in ("time", "z", "x") if role in kept]

    def read(times: slice, wall: int) -> np.ndarray:
        index: dict[str, slice | int] = {"time": times, "wall": wall}
        values = np.transpose(array.at(tuple(index.get(role, slice(None)) for role in roles)), order)
        return values if "time" in kept else values[None]

    return read
