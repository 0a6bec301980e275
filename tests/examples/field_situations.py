"""Situations in which people's files are found, each made by a few lines and tried: the rows of a table of the docs.

`rows(folder)` makes every file in a folder of its own and returns what happens to it. As a script it prints the page:
`python tests/examples/field_situations.py > docs/formats_situations.md`, with `src` and `tests` on the path.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
import xarray as xr

from examples.example_files import plane
from examples.field_situations_devices import DEVICES
from examples.field_situations_more import MORE
from examples.lightcone_examples import CELL, DEPTH, Z0, N, cone, cube, distances, stack, version_3, version_4
from examples.wall_files import hdf5, netcdf, smooth
from infield import InfieldError, open_measurement
from infield.core.grid import Grid
from infield.core.registry import entry_key
from infield.datasets.cm21.cosmology import LINE_MHZ, cosmology, distances_of, redshifts_of
from infield.datasets.cm21.readers import common as cm21
from infield.datasets.cm21.readers.open import open_lightcone_files
from infield.datasets.wall_pressure.readers import common as wall
from infield.datasets.wall_pressure.readers.open import open_planes
from infield.physics.operators.registry import build_operator
from infield.priors.storage.checkpoint import read_entry_of_any_kind
from infield.priors.storage.from_yaml import prior_from_description

Act = Callable[[Path], object]


def measurement(change: Callable[[xr.Dataset], xr.Dataset] = lambda d: d, after: Act = lambda p: None) -> Act:
    def act(folder: Path) -> object:
        path = folder / "m.zarr"
        change(plane((4, 5))).to_zarr(path, zarr_format=3, consolidated=False)
        after(path)
        return open_measurement(path)

    return act


def zipped(folder: Path) -> object:
    plane((4, 5)).to_zarr(folder / "m.zarr", zarr_format=3, consolidated=False)
    shutil.make_archive(str(folder / "m"), "zip", folder / "m.zarr")
    return open_measurement(folder / "m.zip")


def as_netcdf(folder: Path) -> object:
    plane((4, 5)).to_netcdf(folder / "m.nc")
    return open_measurement(folder / "m.nc")


def with_x(values: np.ndarray, units: str = "km", **attributes: str) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda d: d.assign_coords(x=("x", values, {"units": units, **attributes}))


def told(**texts: dict) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda d: d.assign_attrs({key: json.dumps(value) for key, value in texts.items()})


def bend(path: Path) -> None:
    chunk = path / "data/c/0/0"
    whole = bytearray(chunk.read_bytes())
    whole[len(whole) // 2] ^= 4
    chunk.write_bytes(whole)


def lightcone(write: Act, **stated: object) -> Act:
    def act(folder: Path) -> object:
        path = write(folder)
        source = open_lightcone_files([path], cm21.UserMetadata(**stated))
        return source.read(0)

    return act


def native(values: np.ndarray | None = None, change: Callable[[h5py.File], object] | None = None, old: bool = False):
    def write(folder: Path) -> Path:
        path = folder / "cone.h5"
        (version_3 if old else version_4)(path, cone() if values is None else values)
        if change is not None:
            with h5py.File(path, "r+") as file:
                change(file)
        return path

    return write


def changed(**at: object) -> np.ndarray:
    values = cone()
    for index, value in at.items():
        values[..., int(index[1:])] = value
    return values


def arrays(redshift=lambda z: z, scale: float = 1.0, box: float = N * CELL, distance=None):
    def write(folder: Path) -> Path:
        d = float(distances_of(np.array([Z0]), cosmology())[0]) + CELL * np.arange(DEPTH)
        entries = {"redshift": redshift(redshifts_of(d, cosmology())), "box_len_Mpc": box}
        if distance is not None:
            entries["distance_Mpc"] = distance(d)
        np.savez(folder / "cone.npz", brightness_temp=cone() * scale, **entries)
        return folder / "cone.npz"

    return write


def fits_cube(name: str = "c.fits", edit: Callable[[object], object] | None = None, **settings: object):
    def write(folder: Path) -> Path:
        from astropy.io import fits

        values = 20 * np.random.default_rng(0).standard_normal((6, N, N))
        cube(folder / name, values, **{"unit": "mK", **settings})
        if edit is not None:
            with fits.open(folder / name, mode="update") as file:
                edit(file[0])
        return folder / name

    return write


def planes(write: Act, **stated: object) -> Act:
    def act(folder: Path) -> object:
        with open_planes(write(folder), wall.UserMetadata(**stated)) as source:
            return source.read(range(source.planes.samples))

    return act


def packed(folder: Path) -> Path:
    netcdf(folder / "p.h5", packed=True, format="NETCDF4", engine="netcdf4")
    return folder / "p.h5"


def renamed(units: dict[str, str] | None = None, **names: str):
    def write(folder: Path) -> Path:
        hdf5(folder / "whole.h5")
        data = xr.open_dataset(folder / "whole.h5", decode_times=False).rename(names)
        for key, unit in (units or {}).items():
            data[key].attrs["units"] = unit
        data.to_netcdf(folder / "p.nc")
        return folder / "p.nc"

    return write


def spoiled(spoil: Callable[[np.ndarray], object]):
    def write(folder: Path) -> Path:
        p = smooth()
        spoil(p)
        hdf5(folder / "p.h5", p)
        return folder / "p.h5"

    return write


def backwards(folder: Path) -> Path:
    hdf5(folder / "whole.h5")
    xr.open_dataset(folder / "whole.h5", decode_times=False).isel(x=slice(None, None, -1)).to_netcdf(folder / "p.nc")
    return folder / "p.nc"


def operator(name: str, channels: int = 1, **parameters: object) -> Act:
    description = {"name": name, "parameters": parameters}
    return lambda folder: build_operator(description, {}, Grid.regular((8, 8)), channels)


def checkpoint(folder: Path) -> object:
    path = folder / "p.ckpt"
    torch.save({entry_key("prior"): {"version": 1, "weights": {"w": torch.ones(1000)}}}, path)
    whole = bytearray(path.read_bytes())
    whole[bytes(whole).index(np.float32(1).tobytes() * 10) + 2003] ^= 1 << 6
    path.write_bytes(whole)
    return read_entry_of_any_kind(path)


def prior(**law: object) -> Act:
    return lambda folder: prior_from_description({"prior": "gaussian", "law": law}, Grid.regular((5,)), 1)


POINTS = {"name": "points", "arrays": {"coordinates": "at"}}

SITUATIONS: dict[str, dict[str, Act]] = {
    "measurement": {
        "a zarr group in a folder": measurement(),
        "a zarr group in a zip archive": zipped,
        "netCDF": as_netcdf,
        "a decreasing axis": measurement(lambda d: d.isel(x=slice(None, None, -1))),
        "a decreasing axis under a convolution": measurement(
            lambda d: told(operator={"name": "convolution", "parameters": {"gaussian_width": 0.1}})(
                d.drop_vars("mask").isel(x=slice(None, None, -1))
            )
        ),
        "positions in single precision, far from zero": measurement(with_x((5e6 + 100 * np.arange(5)).astype("f4"))),
        "positions in no order": measurement(with_x(np.array([0.0, 2, 1, 3, 4]))),
        "longitudes across the date line": measurement(
            with_x(np.array([178.5, 179.5, -179.5, -178.5, -177.5]), "degrees_east")
        ),
        "a lost chunk": measurement(after=lambda p: (p / "data/c/0/0").unlink()),
        "a bent bit in an array of plain xarray": measurement(after=bend),
        "a list as the name of an array": measurement(told(operator={"name": "mask", "arrays": {"mask": ["mask"]}})),
        "no sensor at all": measurement(
            lambda d: told(operator=POINTS)(d.assign(at=(("none", "axis"), np.zeros((0, 2)))))
        ),
        "data in other units than the field": measurement(lambda d: d.assign(data=d["data"].assign_attrs(units="K"))),
    },
    "lightcone of 21cmFAST": {
        "version 4": lightcone(native()),
        "version 3": lightcone(native(old=True)),
        "slices that were never filled": lightcone(native(changed(_0=0, _1=0, _2=0))),
        "a value of 1e30": lightcone(native(changed(_5=1e30))),
        "a cone outside its nodes": lightcone(
            native(change=lambda f: f.create_dataset("InputParameters/node_redshifts", data=np.linspace(12, 9, 9)))
        ),
        "a run that stopped": lightcone(native(change=lambda f: f.attrs.modify("last_completed_lcidx", 5))),
        "distances in Mpc/h": lightcone(
            native(change=lambda f: f["lightcone_distances"].write_direct(0.677 * distances()))
        ),
        "version 3, distances from another redshift on": lightcone(
            native(old=True, change=lambda f: f.attrs.modify("redshift", 9.0))
        ),
        "hlittle in km/s/Mpc": lightcone(
            native(change=lambda f: f["InputParameters/cosmo_params"].attrs.modify("hlittle", 67.7))
        ),
    },
    "stack of ml21cm": {
        "as it is written": lightcone(lambda f: (stack(f / "s.h5", cone()[None]), f / "s.h5")[1]),
    },
    "numpy lightcone": {
        "redshifts and a box in Mpc": lightcone(arrays()),
        "frequencies in MHz for redshifts": lightcone(arrays(lambda z: LINE_MHZ / (1 + z))),
        "distances in Mpc/h": lightcone(arrays(distance=lambda d: 0.6766 * d)),
        "a box in Mpc/h": lightcone(arrays(box=0.6766 * N * CELL)),
        "kelvin": lightcone(arrays(scale=1e-3)),
        "kelvin, stated": lightcone(arrays(scale=1e-3), units="K"),
    },
    "FITS cube": {
        "mK, frequency third": lightcone(fits_cube()),
        "compressed (.fits.gz)": lightcone(fits_cube("c.fits.gz")),
        "Jy/beam with a beam": lightcone(fits_cube(unit="JY/BEAM")),
        "Kelvin": lightcone(fits_cube(unit="Kelvin")),
        "no CRPIX3": lightcone(fits_cube(edit=lambda hdu: hdu.header.remove("CRPIX3"))),
        "a spectral axis of velocities": lightcone(fits_cube(ctype="VRAD")),
        "a flagged channel": lightcone(fits_cube(edit=lambda hdu: hdu.data.__setitem__(2, 0))),
        "channels of equal width, even cells requested": lightcone(fits_cube(), resample=True),
    },
    "wall planes": {
        "HDF5 with dimension scales": planes(lambda f: (hdf5(f / "p.h5"), f / "p.h5")[1]),
        "packed netCDF-4 named .h5": planes(packed),
        "a spanwise axis called y": planes(renamed(z="y")),
        "a spanwise axis called y, axes stated": planes(renamed(z="y"), order=("time", "z", "x")),
        "pressure in N m-2, lengths in meter": planes(renamed({"p_wall": "N m-2", "z": "meter", "x": "meter"})),
        "pressure in units of temperature": planes(renamed({"p_wall": "K"})),
        "an axis that decreases": planes(backwards),
        "a plane that was never filled": planes(spoiled(lambda p: p[2].fill(0.0))),
        "a fill value that nothing marks": planes(spoiled(lambda p: p[2].__setitem__((3, 4), 9.96921e36))),
    },
    "operator of deepinv": {
        "numbers drawn at construction": operator("deepinv:Tomography", angles=10, img_width=8),
        "numbers drawn at construction, a seed in the file": operator(
            "deepinv:Tomography", angles=10, img_width=8, seed=1
        ),
        "an adjoint of another map": operator("deepinv:SequentialMRI", 2),
        "complex data": operator("deepinv:PtychographyLinearOperator"),
        "several tensors as data": operator("deepinv:Pansharpen", 3),
    },
    "checkpoint": {"a bent bit": checkpoint},
    "prior in YAML": {
        "a length of 0.1": prior(law="matern", nu=1.5, length=0.1),
        "a length of 1e308": prior(law="matern", nu=1.5, length=1e308),
    },
    **MORE,
    **DEVICES,
}


def rows(folder: Path, only: str | None = None) -> list[tuple[str, str, str]]:
    """Format, situation, and what happens: "read", or "refused" with its words (paths left out); of one format only."""
    found = []
    for form, situations in SITUATIONS.items():
        if only not in (None, form):
            continue
        for number, (situation, act) in enumerate(situations.items()):
            own = folder / f"{form.replace(' ', '-')}-{number}"
            own.mkdir(parents=True)
            try:
                act(own)
                outcome = "read"
            except InfieldError as error:
                outcome = f"refused: {error}".replace(f"{own}/", "").replace(f"{own}", form).replace("\t", " ")
            found.append((form, situation, outcome))
    return found


def page(folder: Path) -> str:
    """The table as a page of the docs."""
    lines = [
        "---",
        "orphan: true",
        "---",
        "",
        "# What happens to files as people have them",
        "",
        "Generated by `tests/examples/field_situations.py`, which makes each file and tries it.",
        "",
        "| format | situation | what happens |",
        "| --- | --- | --- |",
    ]
    cells = (tuple(cell.replace("|", "\\|").replace("<", "&lt;") for cell in row) for row in rows(folder))
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in cells)]) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        sys.stdout.write(page(Path(temporary)))
