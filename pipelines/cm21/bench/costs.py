"""What a lightcone of the simulator costs: seconds of a core, beside which those of a prior are read."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from infield.core.errors import InfieldError
from infield.datasets.cm21.lightcone_file import Lightcones
from infield.physics.cm21.simulator import Simulator21cmFAST


@dataclass
class Clock:
    """Time of the clock and of this thread's core, seconds, since it was made."""

    def __post_init__(self) -> None:
        self.start = time.perf_counter(), time.thread_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self.start[0], time.thread_time() - self.start[1]


def simulator_core_seconds(cones: Lightcones, point: dict[str, float], python: str | None) -> float:
    """Seconds of a core for one cone of the simulator on the grid and with the settings of a file, less its start.

    Raises:
        InfieldError: The simulator is not there or fails, or the file lacks its settings.
    """
    settings: dict[str, Any] | None = cones.provenance.get("settings")
    if settings is None:
        raise InfieldError(
            where="--simulations", found="no settings of the simulator in it", expected="--simulator-seconds"
        )
    stored_settings = {name: value for name, value in settings.items() if name not in ("HII_DIM", "BOX_LEN")}
    if stored_settings.get("X_RAY_Tvir_MIN") == "ION_Tvir_MIN":  # as `infield simulate` writes it
        del stored_settings["X_RAY_Tvir_MIN"]
    (nx, _, depth), (box, _, _) = cones.grid.shape, cones.grid.lengths
    simulator = Simulator21cmFAST(nx, box, float(cones.redshift[0]), depth, stored_settings, python)

    def core_seconds() -> float:
        found = os.times()
        return found.children_user + found.children_system

    start = core_seconds()
    simulator.line_of_sight(point)
    started = core_seconds()
    simulator.simulate(point, 1)
    return core_seconds() - started - (started - start)
