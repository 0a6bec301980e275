"""The simulator 21cmFAST 4 (Mesinger, Furlanetto & Cen 2011; Murray et al. 2020), one process a lightcone."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from infield.core.errors import InfieldError
from infield.core.extras import MissingExtra

INSTALL = (
    "install it: pip install 'infield[cm21]'; it is compiled and needs GSL and FFTW with their headers (Debian: "
    "libgsl-dev, libfftw3-dev), or name another Python that has it ({python})"
)


@dataclass(frozen=True)
class Simulator21cmFAST:
    """Settings that all cones of a data set share.

    Arguments:
        points: Cells across, HII_DIM.
        box: Size across in Mpc, BOX_LEN.
        redshift: Redshift of the nearest cell.
        depth: Cells of the line of sight, as deep as they are wide.
        settings: Other parameters by 21cmFAST's names.
        python: The Python that has py21cmfast; None for this one.
    """

    points: int = 64
    box: float = 128.0
    redshift: float = 7.51
    depth: int = 256
    settings: Mapping[str, Any] = field(default_factory=dict)
    python: str | None = None

    def check(self) -> None:
        """InfieldError where this Python has no simulator, and no other is named."""
        if self.python is None and importlib.util.find_spec("py21cmfast") is None:
            raise MissingExtra(
                where="21cmFAST",
                found="no package py21cmfast",
                expected="the simulator",
                remedy=INSTALL,
                parameters=["python"],
            )

    def line_of_sight(self, parameters: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Comoving distances in Mpc and redshifts of the cells, and the simulator's description of itself.

        Raises:
            InfieldError: The simulator refuses a setting.
        """
        answer = self._run(parameters, 1, simulate=False)
        return answer["distance"], answer["redshift"], json.loads(str(answer["described"]))

    def simulate(self, parameters: Mapping[str, float], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """One cone, float32: brightness temperatures in mK, `(x, y, los)`, and the linear density contrast of its
        initial conditions, as it is today, in a box of their finer grid. Cell i of the line of sight is cut from slice
        i of the box, which comes again and again.

        Arguments:
            parameters: Astrophysical parameters by 21cmFAST's names.
            seed: Seed of the initial conditions.

        Raises:
            InfieldError: The simulator refuses a setting, or fails.
        """
        found = self._run(parameters, seed, simulate=True)
        return found["brightness_temp"], found["initial_density"]

    def _run(self, parameters: Mapping[str, float], seed: int, *, simulate: bool) -> dict[str, np.ndarray]:
        self.check()
        shared = {"points": self.points, "box": self.box, "redshift": self.redshift, "depth": self.depth}
        settings = {**self.settings, **parameters}
        if "ION_Tvir_MIN" in settings:  # one temperature for both, as in the published sets
            settings.setdefault("X_RAY_Tvir_MIN", settings["ION_Tvir_MIN"])
        request = {**shared, "settings": settings, "seed": seed, "simulate": simulate}
        with tempfile.TemporaryDirectory() as folder:
            question, answer = Path(folder) / "request.json", Path(folder) / "answer.npz"
            question.write_text(json.dumps(request), encoding="utf-8")
            script = Path(__file__).with_name("run_21cmfast.py")
            command = [self.python or sys.executable, str(script), str(question), str(answer)]
            try:
                done = subprocess.run(
                    command, cwd=folder, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
                )
            except OSError as error:
                raise InfieldError(
                    where="{python}",
                    found=f"no such program ({error.strerror})",
                    parameters={"python": self.python},
                ) from error
            if not answer.exists():
                raise InfieldError(_how_it_ended(done), where=f"21cmFAST: seed {seed}, {_listed(parameters)}")
            with np.load(answer, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
        if "error" in found:
            reason = str(found["error"])
            if reason.startswith("ModuleNotFoundError"):
                raise InfieldError(
                    where=self.python, found=f"no package py21cmfast ({reason})", expected="it", remedy=INSTALL
                )
            raise InfieldError(reason, where=f"21cmFAST: seed {seed}, {_listed(parameters)}")
        return found


def _how_it_ended(done: subprocess.CompletedProcess[str]) -> str:
    """Describe the failure of a process that left no answer."""
    last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
    if done.returncode < 0:
        return f"its process was ended by {signal.Signals(-done.returncode).name} ({last})"
    return f"its process left with status {done.returncode} ({last})"


def _listed(parameters: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in parameters.items()) or "default parameters"
