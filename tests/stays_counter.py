"""Counter of how often one `reconstruct` changes rooms, of calls against the order of the rooms, and of files opened.

Run it as a program for the figures, with `-v` for every stay: `python tests/stays_counter.py [-v]`.

A reader follows each function where it is first called. A *stay* is a maximal run of such functions within one room;
what lies on the ground floor, `core`, belongs to the stay that it is called from, and is counted beside. A *climb* is a
call from a function of a lower room up to one of a higher room, as from `physics` to `posterior`; functions of the
ground floor and of other packages in between are looked through. Pairs of functions are counted, and all calls beside
them. Threads count, in the order of their calls.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parents[1]
HEIGHT = {"core": 0, "physics": 1, "priors": 2, "datasets": 2, "posterior": 3, "pipelines": 4}
"""Rooms, lowest first; of two at one height neither is above the other."""


@dataclass
class Route:
    """Where a run has been.

    Arguments:
        functions: Room and name of every function of the package, in the order of first calls.
        climbs: How often each pair of caller and callee was called against the order of the rooms.
        opened: Paths of the groups that were opened, with repetition.
    """

    functions: list[tuple[str, str]] = field(default_factory=list)
    climbs: Counter[tuple[str, str]] = field(default_factory=Counter)
    opened: list[Path] = field(default_factory=list)

    def stays(self, *, ground_floor: bool = False) -> list[tuple[str, list[str]]]:
        """Room and functions of each stay; of those on the ground floor as well, or without its functions."""
        found: list[tuple[str, list[str]]] = []
        for room, name in self.functions:
            if room == "core" and not ground_floor:
                continue
            if not found or found[-1][0] != room:
                found.append((room, []))
            found[-1][1].append(name)
        return found


@contextmanager
def followed() -> Iterator[Route]:
    """Follow all that runs meanwhile, in threads that start meanwhile as well."""
    route, seen, rooms = Route(), set[CodeType](), dict[str, str | None]()

    def room_of(code: CodeType) -> str | None:
        if code.co_filename not in rooms:
            inner = Path(code.co_filename).resolve()
            parts = inner.relative_to(ROOT).parts if inner.is_relative_to(ROOT) else ("",)
            parts = parts[2:] if parts[:2] == ("src", "infield") else parts
            rooms[code.co_filename] = parts[0] if parts[0] in HEIGHT else None
        return rooms[code.co_filename] if code.co_flags & CO_OPTIMIZED else None  # no bodies of modules and classes

    def profile(frame: FrameType, event: str, _: Any) -> None:
        room = room_of(frame.f_code) if event == "call" else None
        if room is None:
            return
        if frame.f_code not in seen:
            seen.add(frame.f_code)
            route.functions.append((room, _name(frame.f_code)))
        caller = frame.f_back
        while caller is not None and room_of(caller.f_code) in (None, "core"):
            caller = caller.f_back
        if caller is not None and HEIGHT[str(room_of(caller.f_code))] < HEIGHT[room]:
            route.climbs[_name(caller.f_code), _name(frame.f_code)] += 1

    from infield.datasets.formats import zarr_group

    with _each_opening_noted(zarr_group.open_group, route.opened):
        threading.setprofile(profile)
        sys.setprofile(profile)
        try:
            yield route
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


@contextmanager
def _each_opening_noted(open_group: Callable[..., Any], opened: list[Path]) -> Iterator[None]:
    """Note the path whenever a group is opened, in every module that has imported the function by name."""

    def noting(path: Path, *arguments: Any, **settings: Any) -> Any:
        opened.append(Path(path))
        return open_group(path, *arguments, **settings)

    ours = [module for name, module in sys.modules.items() if name.startswith("infield.")]
    users = [module for module in ours if getattr(module, "open_group", None) is open_group]
    patches = [patch.object(module, "open_group", noting) for module in users]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def _name(code: CodeType) -> str:
    return f"{Path(code.co_filename).resolve().relative_to(ROOT)}: {code.co_qualname}"


def follow_reconstruct(folder: Path) -> tuple[Route, Path]:
    """Follow a small `reconstruct` with a trained prior and a report; returns its route and its measurement's path.

    It is run once before, so that what is imported or kept then is not a matter of what else ran in the process.
    """
    from examples.example_files import checkpoint, line, save

    from infield.pipelines.cli import main

    measurement, prior = save(line(), folder / "m.zarr"), checkpoint(folder / "prior.ckpt")
    arguments = ["--prior", prior, "-o", folder / "p.zarr", "--samples", 2, "--workers", 1, "--with", "levels=3"]
    command = [str(a) for a in ("reconstruct", measurement, *arguments, "--json", "--report", folder / "r.html")]
    main(command)
    with followed() as route:
        main([*command, "--overwrite"])
    return route, measurement


def openings(route: Route, measurement: Path) -> int:
    """How often the measurement's file was opened."""
    return sum(path.resolve() == measurement.resolve() for path in route.opened)


def figures(route: Route, measurement: Path) -> str:
    """The figures in one line."""
    climbs = f"{len(route.climbs)} climbs ({route.climbs.total()} calls)"
    opened = f"the measurement's file opened {openings(route, measurement)} times"
    stays = f"{len(route.stays())} stays ({len(route.stays(ground_floor=True))} with those on the ground floor)"
    return f"{stays}, {climbs}, {opened}"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as name:
        found, file = follow_reconstruct(Path(name))
    if "-v" in sys.argv:
        for room, functions in found.stays(ground_floor=True):
            print(f"{room}: {', '.join(functions)}")
        for (low, high), times in found.climbs.items():
            print(f"climb, {times} times: {low} -> {high}")
    print(figures(found, file))
