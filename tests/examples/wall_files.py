"""Files of wall pressure in the layouts that simulations and databases write, with the planes that are in them."""

from __future__ import annotations

import math

import h5py
import numpy as np
import xarray as xr
import yaml
from scipy.io import FortranFile

RE_TAU, U_TAU, NU, RHO, H = 180.0, 0.27, 1.5e-5, 1.2, 0.01
"""Air between walls 2 cm apart."""

LX, LZ = 4 * math.pi * H, 4 / 3 * math.pi * H
NT, NZ, NX = 5, 12, 20


def smooth(shape=(NT, NZ, NX), seed=0):
    """Random planes whose neighbours are related, of standard deviation about 1, with a mean."""
    *many, nz, nx = shape
    kz, kx = np.fft.fftfreq(nz) * nz, np.fft.rfftfreq(nx) * nx
    low = np.exp(-0.5 * ((kz[:, None] / 1.5) ** 2 + (kx / 2.5) ** 2))
    noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal((*many, nz, nx)))
    p = np.fft.irfft2(noise * low, s=(nz, nx))
    return p / p.std() + 0.3


def fluctuation(p):
    """Planes less the mean of each."""
    return p - p.mean((-2, -1), keepdims=True)


def times(n=NT):
    return 0.4 + 0.02 * np.arange(n)


def coordinates(nz=NZ, nx=NX):
    return LZ / nz * np.arange(nz), LX / nx * np.arange(nx)


def hdf5(path, p=None, *, dims=("time", "z", "x"), scales=True, units=True, attributes=True, name="p_wall"):
    """Planes with positions in metres and pressure in Pa; axes named by dimension scales, or not at all."""
    p = smooth() if p is None else p
    z, x = coordinates()
    named = {"time": times(len(p)), "z": z, "x": x}
    stored = np.transpose(p, [("time", "z", "x").index(d) for d in dims]) * RHO * U_TAU**2
    with h5py.File(path, "w") as file:
        data = file.create_dataset(name, data=stored, chunks=(1, *stored.shape[1:]))
        for axis, values in named.items():
            file[axis] = values
            if units:
                file[axis].attrs["units"] = "s" if axis == "time" else "m"
            if scales:
                file[axis].make_scale(axis)
        if scales:
            for i, axis in enumerate(dims):
                data.dims[i].attach_scale(file[axis])
        if units:
            data.attrs["units"] = "Pa"
        if attributes:
            file.attrs.update({"Re_tau": RE_TAU, "u_tau": U_TAU, "nu": NU, "half_height": H, "rho": RHO})
    return p


def netcdf(path, p=None, *, packed=False, **settings):
    """The same as netCDF, in wall units, with the walls along an axis."""
    p = smooth((NT, 2, NZ, NX)) if p is None else p
    z, x = (values * U_TAU / NU for values in coordinates())
    dataset = xr.Dataset(
        {"pressure": (("time", "wall", "z", "x"), p, {"units": "rho u_tau^2"})},
        {
            "time": ("time", times(len(p)) * U_TAU / H, {"units": "h/u_tau"}),
            "wall": ("wall", [0, 1]),
            "z": ("z", z, {"units": "nu/u_tau", "periodic": 1}),
            "x": ("x", x, {"units": "nu/u_tau", "periodic": 1}),
        },
        {"Re_tau": RE_TAU},
    )
    packing = {"pressure": {"dtype": "i2", "scale_factor": 1e-3, "_FillValue": -32768}} if packed else {}
    dataset.to_netcdf(path, encoding=packing, **settings)
    return p


DESCRIPTOR = {
    "file": "p.bin",
    "nx": NX,
    "nz": NZ,
    "nstep": NT,
    "lengths": {"x": LX / H, "z": LZ / H},
    "u_tau": U_TAU,
    "nu": NU,
    "half_height": H,
    "rho": RHO,
    "dt": 0.02,
    "start": 0.4,
    "wall": "top",
}


def binary(folder, p=None, *, offset=0, records=False, written="<f8", fastest="xzt", **entries):
    """Planes as Fortran writes an array (nx, nz, nstep), or one of another order, with the entries of its
    descriptor."""
    p = smooth() if p is None else p
    fortran = np.transpose(p * RHO * U_TAU**2, ["tzx".index(axis) for axis in fastest]).astype(written)
    path = folder / "p.bin"
    if records:
        with FortranFile(path, "w", header_dtype=np.uint32) as file:
            for i in range(fortran.shape[2]):
                file.write_record(np.asfortranarray(fortran[:, :, i]).T)
    else:
        path.write_bytes(b"#" * offset + fortran.tobytes(order="F"))
    described = {**DESCRIPTOR, "offset": offset, "record_marker": 4 if records else 0, **entries}
    (folder / "p.yaml").write_text(yaml.safe_dump({k: v for k, v in described.items() if v is not None}))
    return p


JHTDB_U_TAU, JHTDB_NU = 4.9968e-2, 5e-5


def jhtdb(path, *, local=False, frames=(1, 2, 3), nz=12, nx=20, y=(-1.0, -0.99993), whole=True, attributes=True):
    """A cut-out as the service writes it (float32 positions), or as givernylocal does (netCDF-4 in `.h5`)."""
    span = 1.0 if whole else 0.1
    z = 3 * math.pi * span / nz * np.arange(nz)
    x = 8 * math.pi * span / nx * np.arange(nx)
    p = smooth((len(frames), nz, nx), seed=4)
    block = np.stack([p * JHTDB_U_TAU**2, 0.5 * p], axis=2)[:, :, : len(y), :, None].astype(np.float32)  # t, z, y, x, 1
    names = [f"{'pressure' if local else 'Pressure'}_{i:04d}" for i in frames]
    if not local:
        with h5py.File(path, "w") as file:
            for name, values in zip(names, block, strict=True):
                file[name] = values
            for name, values in (("xcoor", x), ("ycoor", np.array(y)), ("zcoor", z)):
                file[name] = values.astype(np.float32)
    else:
        dims = ("zcoor", "ycoor", "xcoor", "values")
        told = {"dataset": "channel", "t_start": frames[0], "t_end": frames[-1], "t_step": 1, "filterWidth": 1}
        xr.Dataset(
            {name: (dims, values) for name, values in zip(names, block, strict=True)},
            {"xcoor": x, "ycoor": np.array(y), "zcoor": z},
            told if attributes else {},
        ).to_netcdf(path, format="NETCDF4", mode="w")
    return p.astype(np.float32).astype(np.float64)
