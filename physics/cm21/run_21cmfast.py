"""One lightcone of 21cmFAST 4 in a process of its own: `python run_21cmfast.py REQUEST.json RESULT.npz`.

The simulator keeps state in C, is not safe in threads, and ends the process where it fails; so it runs apart. This file
imports nothing of Infield: any Python that has py21cmfast and numpy can run it. The request has `points`, `box` (Mpc),
`redshift` (the lowest), `depth` (cells of the line of sight), `settings` (other parameters by 21cmFAST's names),
`seed`, and `simulate`: false to learn the line of sight without simulating. Temperatures are the simulator's along the
line of sight, with the velocity gradient in the optical depth; cells are not moved by velocities.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

TEMPLATE = "const-zeta"
"""Sources of constant ionising efficiency, the model of Xia & Wise (arXiv 2605.29016)."""


def run(request: dict[str, Any]) -> dict[str, np.ndarray]:
    """Distances (Mpc), redshifts, `described` (JSON) and, if simulated, `brightness_temp` (mK, `(x, y, los)`) and
    `initial_density`, the linear density contrast of the initial conditions on their own finer grid, as it is today.

    Cell i of the line of sight is cut from slice i of the box, which comes again and again.
    """
    import py21cmfast as p21
    from astropy import units

    found = str(p21.__version__)
    if int(found.split(".")[0]) != 4:
        raise ValueError(f"found 21cmFAST {found}, expected version 4")
    cell = request["box"] / request["points"]
    settings = {"USE_TS_FLUCT": True, "N_THREADS": 1, "HII_DIM": request["points"], "BOX_LEN": request["box"]}
    settings["M_MIN_in_Mass"] = False  # the template has True, and then no virial temperature has any effect
    settings |= request["settings"]
    inputs = p21.InputParameters.from_template(TEMPLATE, random_seed=request["seed"], **settings)
    inputs = inputs.with_logspaced_redshifts(zmin=request["redshift"])
    universe = inputs.cosmo_params.cosmo
    nearest = universe.comoving_distance(request["redshift"]).to_value(units.Mpc)
    distance = nearest + cell * np.arange(request["depth"])
    lightconer = p21.RectilinearLightconer(
        lc_distances=distance * units.Mpc, cosmo=universe, quantities=("brightness_temp",)
    )
    redshift = np.asarray(lightconer.lc_redshifts, dtype=float)
    if redshift[-1] > inputs.node_redshifts[0]:
        raise ValueError(
            f"found a line of sight that ends at z = {redshift[-1]:.4g}, expected at most "
            f"{inputs.node_redshifts[0]:.4g}, where the simulation begins; set Z_HEAT_MAX or take fewer cells"
        )
    described = {"version": found, "template": TEMPLATE, "settings": settings, "nodes": len(inputs.node_redshifts)}
    described["box"] = int(inputs.simulation_options.DIM)  # cells of the initial conditions along each axis
    result = {"distance": distance, "redshift": redshift, "described": np.array(json.dumps(described))}
    if request["simulate"]:
        with tempfile.TemporaryDirectory() as folder:
            cache = p21.OutputCache(folder)
            begun = p21.compute_initial_conditions(inputs=inputs, cache=cache, write=False)
            result["initial_density"] = np.array(begun.get("hires_density"), dtype=np.float32)  # the run lets go of it
            cone = p21.run_lightcone(
                lightconer=lightconer, inputs=inputs, initial_conditions=begun, cache=cache, write=False,
                progressbar=False,
            )  # fmt: skip
        result["brightness_temp"] = np.asarray(cone.lightcones["brightness_temp"], dtype=np.float32)
    return result


def main(request: str, answer: str) -> None:
    """Write the answer, or the reason in one line if something fails."""
    warnings.simplefilter("ignore")
    try:
        result = run(json.loads(Path(request).read_text(encoding="utf-8")))
    except Exception as error:  # whatever the simulator raises
        result = {"error": np.array(f"{type(error).__name__}: {' '.join(str(error).split())}")}
    np.savez(answer, **result)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
