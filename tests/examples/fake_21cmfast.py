"""A stand-in for the public functions of py21cmfast 4 that `infield simulate 21cm` calls. It simulates nothing."""

SOURCE = '''
"""Not 21cmFAST: temperatures are random numbers that depend on the seed and the parameters."""
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from astropy import units

__version__ = os.environ.get("FAKE_VERSION", "4.1.1")
KNOWN = {"USE_TS_FLUCT", "N_THREADS", "HII_DIM", "BOX_LEN", "ION_Tvir_MIN", "X_RAY_Tvir_MIN", "HII_EFF_FACTOR", "L_X"}
KNOWN |= {"M_MIN_in_Mass"}


def comoving_distance(z):  # of no universe
    return 1000 * z * units.Mpc


class InputParameters:
    def __init__(self, seed, settings):
        self.seed, self.settings, self.node_redshifts = seed, settings, ()
        self.simulation_options = SimpleNamespace(DIM=2 * settings["HII_DIM"])
        self.cosmo_params = SimpleNamespace(cosmo=SimpleNamespace(comoving_distance=comoving_distance))

    @classmethod
    def from_template(cls, name, random_seed, **settings):
        unknown = sorted(set(settings) - KNOWN)
        if unknown:
            raise TypeError(f"{unknown[0]} is not a valid keyword input.")
        return cls(random_seed, settings)

    def with_logspaced_redshifts(self, zmin):
        self.node_redshifts = (35.0, zmin)
        return self


class OutputCache:
    def __init__(self, folder):
        assert Path(folder).is_dir()


class RectilinearLightconer:
    def __init__(self, lc_distances, cosmo, quantities):
        self.shape = len(lc_distances)
        self.lc_redshifts = lc_distances.to_value(units.Mpc) / 1000


class InitialConditions:
    def __init__(self, inputs):
        shape = (inputs.simulation_options.DIM,) * 3
        self.arrays = {"hires_density": np.random.default_rng((inputs.seed, 1)).standard_normal(shape)}

    def get(self, name):
        return self.arrays[name]


def compute_initial_conditions(*, inputs, cache, write):
    assert not write
    return InitialConditions(inputs)


def run_lightcone(*, lightconer, inputs, initial_conditions, cache, write, progressbar):
    initial_conditions.arrays.clear()  # as the simulator does, for memory
    said = Path(os.environ["FAKE_LOG"])
    with said.open("a") as file:
        file.write(f"{inputs.seed}\\n")
    if os.environ.get("FAKE_FAILS_AT") == str(len(said.read_text().split())):
        os.abort()
    s = inputs.settings
    assert s["X_RAY_Tvir_MIN"] == s["ION_Tvir_MIN"] and s["N_THREADS"] == 1 and not write and not progressbar
    shape = (s["HII_DIM"], s["HII_DIM"], lightconer.shape)
    noise = np.random.default_rng(inputs.seed).standard_normal(shape)
    return SimpleNamespace(lightcones={"brightness_temp": s["HII_EFF_FACTOR"] + noise})
'''


def install(folder, monkeypatch):
    """Let this process and its children find the stand-in; returns the file that lists the seeds of its runs."""
    package = folder / "py21cmfast"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    log = folder / "runs.txt"
    monkeypatch.setenv("FAKE_LOG", str(log))
    return log
