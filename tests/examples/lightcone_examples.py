"""Files of lightcones in the layouts that simulators write, with the cones that are in them."""

from __future__ import annotations

import h5py
import numpy as np
from astropy.io import fits

from infield.datasets.cm21.cosmology import LINE_MHZ, cosmology, distances_of

N, DEPTH, CELL, Z0 = 4, 10, 4.0, 7.51
COSMO = {"hlittle": 0.677, "OMm": 0.31, "OMb": 0.049, "POWER_INDEX": 0.967}


def distances(depth=DEPTH, neutrinos=3.044):
    return float(distances_of(Z0, cosmology(67.7, 0.31, 0.049, neutrinos))) + CELL * np.arange(depth)


def cone(seed=0, shape=(N, N, DEPTH)):
    """Temperatures that tell x from y from the line of sight, a third of them exactly zero."""
    generator = np.random.default_rng(seed)
    values = 20 * generator.standard_normal(shape)
    return np.where(generator.random(shape) < 1 / 3, 0.0, values - np.arange(shape[-1])).astype(np.float32)


def version_4(path, values, *, points=N, cell=CELL, seed=7, tvir=4.7, zeta=30.0, depth=None, unfinished=-1, **others):
    """As 21cmFAST 4.1.1 saves a cone; `others` are astrophysical parameters."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"lightcone": True, "__version__": "4.1.1", "last_completed_lcidx": unfinished})
        file.create_dataset("lightcones/brightness_temp", data=values)
        file["lightcones/density"] = np.ones(values.shape, np.float32)
        file["lightcone_distances"] = distances(depth or values.shape[-1])
        inputs = file.create_group("InputParameters")
        inputs.attrs.update({"21cmFAST-version": "4.1.1", "random_seed": seed})
        inputs.create_group("simulation_options").attrs.update({"HII_DIM": points, "BOX_LEN": points * cell})
        inputs.create_group("cosmo_params").attrs.update(COSMO)
        astro = {"HII_EFF_FACTOR": zeta, "ION_Tvir_MIN": tvir, "X_RAY_Tvir_MIN": tvir, "L_X": 40.0, **others}
        inputs.create_group("astro_params").attrs.update(astro)
        inputs.create_group("astro_options").attrs["USE_TS_FLUCT"] = True
    return values


def version_3(path, values, *, distance="distances", seed=7, tvir=4.7, zeta=30.0):
    """As 21cmFAST 3.4.0 saves a cone; older ones have no distances."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"version": "3.4.0", "random_seed": seed, "redshift": Z0})
        file["lightcones/brightness_temp"] = values
        if distance is not None:
            file[distance] = distances(values.shape[-1], 3.046)
        file.create_group("user_params").attrs.update({"HII_DIM": N, "BOX_LEN": N * CELL})
        file.create_group("cosmo_params").attrs.update(COSMO)
        file.create_group("astro_params").attrs.update({"HII_EFF_FACTOR": zeta, "ION_Tvir_MIN": tvir, "L_X": 40.0})
        file.create_group("flag_options").attrs["USE_TS_FLUCT"] = True
    return values


def stack(path, values, *, longer=3):
    """As ml21cm stacks cones `(N, x, y, los)`; the axis of redshifts is longer than the cones."""
    parameters = np.stack([np.linspace(4, 6, len(values)), np.linspace(10, 250, len(values))], 1)
    with h5py.File(path, "w") as file:
        file["brightness_temp"] = values
        file["params/keys"] = ["ION_Tvir_MIN", "HII_EFF_FACTOR"]
        file["params/values"] = parameters
        file["seeds"] = 100 + np.arange(len(values))
        z = Z0 + 0.01 * np.arange(values.shape[-1] + longer)
        file["redshifts_distances"] = np.stack([z, distances(len(z))])
        file["kwargs"] = [["BOX_LEN", str(N * CELL)], ["HII_DIM", str(N)]]
    return parameters


def cube(path, planes, *, unit="JY/BEAM", step=-0.5e6, ctype="FREQ", stokes=False, cunit="Hz"):
    """A FITS cube `(frequency, y, x)`; the first channel is at 160 MHz."""
    data = planes[None] if stokes else planes
    hdu = fits.PrimaryHDU(data.astype(np.float32))
    hdu.header.update(
        {"CTYPE1": "RA---SIN", "CDELT1": -16 / 3600, "CTYPE2": "DEC--SIN", "CDELT2": 16 / 3600, "CTYPE3": ctype,
         "CRVAL3": 160e6, "CRPIX3": 1.0, "CDELT3": step, "CUNIT3": cunit, "BUNIT": unit, "BMAJ": 0.02, "BMIN": 0.015}
    )  # fmt: skip
    hdu.writeto(path)
    return 160.0 + step / 1e6 * np.arange(len(planes))


def redshift_of(frequency):
    return LINE_MHZ / np.asarray(frequency) - 1
