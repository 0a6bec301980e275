"""Further situations of the page of `field_situations`: raw k-space, PET images, tables and gridded fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy.io
import xarray as xr

from examples.kspace_examples import kspace, write_cfl, write_fastmri, write_mat_73, write_mrd, xml
from infield.datasets.mri.convert import convert_mri
from infield.datasets.mri.readers.common import ArrayLayout
from infield.datasets.pet.readers.open import open_image
from infield.datasets.tables.gridded import Gridded, convert_grid
from infield.datasets.tables.scattered import Scattered, convert_table
from infield.datasets.tables.table import Layout

Act = Callable[[Path], object]
SHAPE = (64, 54)
K = kspace(SHAPE).astype(np.complex64)


def mri(write: Act, order: tuple[str, ...] | None = None, **asked: object) -> Act:
    layout = None if order is None else ArrayLayout(order=order)
    return lambda folder: convert_mri(write(folder), layout=layout, **asked)


def lines(data: np.ndarray = K, **more: object) -> list[dict]:
    return [{"data": data[:, j], "kspace_encode_step_1": j, **more} for j in range(data.shape[1])]


def mrd(header: str = xml(54, 64, 54), rows: list[dict] | None = None) -> Act:
    return lambda folder: write_mrd(folder / "k.mrd", header, lines() if rows is None else rows)


def fastmri(data: np.ndarray = K[None], **more: object) -> Act:
    return lambda folder: write_fastmri(folder / "k.h5", data, **more)


def numpy(data: np.ndarray = K, **more: np.ndarray) -> Act:
    def write(folder: Path) -> Path:
        if more:
            np.savez(folder / "k.npz", kspace=data, **more)
            return folder / "k.npz"
        np.save(folder / "k.npy", data)
        return folder / "k.npy"

    return write


def bruker(folder: Path) -> Path:
    for name in ("acqp", "method", "fid"):
        (folder / name).write_text("##TITLE=Parameter List\n")
    return folder / "fid"


def matlab(folder: Path) -> Path:
    write_mat_73(folder / "k.mat", kspace=K.transpose(1, 2, 0))
    return folder / "k.mat"


def volume(folder: Path) -> Path:
    np.zeros(8 * 8 * 8 * 2, "<c8").tofile(folder / "k.cfl")
    (folder / "k.hdr").write_text("# Dimensions\n8 8 8 2\n")
    return folder / "k.cfl"


def pet(suffix: str = ".nii.gz", sidecar: dict | None = None, **asked: object) -> Act:
    def act(folder: Path) -> object:
        import nibabel

        image = nibabel.Nifti1Image(np.full((4, 5, 6, 1), 5000.0, np.float32), np.diag([2.0, 2, 2, 1]))
        path = folder / f"sub-1_pet{suffix}"
        nibabel.save(image, folder / "sub-1_pet.nii.gz")
        if path.name != "sub-1_pet.nii.gz":
            (folder / "sub-1_pet.nii.gz").rename(path)
        if sidecar is not None:
            (folder / "sub-1_pet.json").write_text(json.dumps(sidecar), encoding="utf-8")
        return open_image(path, **asked)

    return act


RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"lon": 8 + RNG.random(9), "lat": 50 + RNG.random(9), "t": RNG.random(9)})


def table(change: Callable[[pd.DataFrame], pd.DataFrame] = lambda f: f, at=("lon", "lat"), value="t", layout=None,
          name="t.csv", write: dict | None = None, **asked: object) -> Act:  # fmt: skip
    def act(folder: Path) -> object:
        change(FRAME.copy()).to_csv(folder / name, index=False, **(write or {}))
        settings = {"grid": (0.5,) * len(at), "layout": layout or Layout(), **asked}
        return convert_table(folder / name, Scattered(value=value, at=at, **settings))

    return act


def dated(*dates: str, **layout: object) -> Act:
    change = lambda f: f.iloc[: len(dates)].assign(day=list(dates))  # noqa: E731
    return table(change, at=("day",), layout=Layout(**layout), grid=(1.0,))


def field(lat=(10.0, 11, 12), lon=(20.0, 21, 22, 23), data=None, units="degC", **attributes: object) -> xr.Dataset:
    data = np.arange(12.0).reshape(3, 4) if data is None else data
    return xr.Dataset(
        {"sst": (("lat", "lon"), data, {"units": units, **attributes})},
        {"lat": ("lat", list(lat), {"units": "degrees_north"}), "lon": ("lon", list(lon), {"units": "degrees_east"})},
    )


def grid(made: xr.Dataset, name: str = "f.nc", encoding: dict | None = None, **asked: object) -> Act:
    def act(folder: Path) -> object:
        if name.endswith(".zarr"):
            made.to_zarr(folder / name, zarr_format=2, consolidated=True)
        else:
            made.to_netcdf(folder / name, encoding=encoding or {})
        return convert_grid(folder / name, Gridded(variable="sst", **asked))

    return act


def without_scales(folder: Path) -> object:
    with h5py.File(folder / "f.h5", "w") as file:
        file["sst"] = np.arange(12.0).reshape(3, 4)
    return convert_grid(folder / "f.h5", Gridded(variable="sst"))


def matlab_5(folder: Path) -> object:
    scipy.io.savemat(folder / "f.mat", {"sst": np.arange(12.0).reshape(3, 4)})
    return convert_grid(folder / "f.mat", Gridded(variable="sst"))


MISSING = np.where(np.arange(12.0).reshape(3, 4) == 5, -9999, np.arange(12.0).reshape(3, 4))
SIDECAR = {"Units": "Bq/mL", "TracerName": "florbetapir"}

MORE: dict[str, dict[str, Act]] = {
    "k-space, fastMRI's layout": {
        "whole slices": mri(fastmri()),
        "a partial echo of zeros": mri(fastmri((K * (np.arange(64) > 12)[:, None])[None])),
        "coils last": mri(fastmri(K.transpose(1, 2, 0)[None])),
        "coils last, axes stated": mri(fastmri(K.transpose(1, 2, 0)[None]), order=("slice", "ky", "kx", "coil")),
        "several slices, none chosen": mri(fastmri(np.stack([K, K]))),
        "an image in place of k-space": mri(fastmri(np.abs(np.fft.ifft2(K)).astype(complex)[None])),
    },
    "k-space, ISMRMRD": {
        "Cartesian lines": mri(mrd()),
        "spokes": mri(mrd(xml(54, 64, 54, trajectory="radial"))),
        "two phase encodings": mri(
            mrd(rows=[{**line, "kspace_encode_step_2": i % 2} for i, line in enumerate(lines())])
        ),
        "no XML": mri(mrd("no header")),
    },
    "k-space, arrays": {
        ".npy": mri(numpy()),
        ".npz with a mask that calls zeros measured": mri(
            numpy(K * (np.arange(64) > 12)[:, None], mask=np.ones(SHAPE))
        ),
        "MATLAB 7.3": mri(matlab),
        "BART": mri(lambda f: write_cfl(f / "k.cfl", K, (0, 1))),
        "BART, a volume": mri(volume),
        "a dead coil": mri(numpy(K * (np.arange(len(K)) > 0)[:, None, None])),
        "12 lines off centre": mri(numpy(np.roll(K, 12, 1))),
        "NaN": mri(numpy(np.where(np.arange(64)[:, None] == 3, np.nan, K))),
        "Bruker ParaVision": mri(bruker),
    },
    "PET image": {
        "BIDS NIfTI without a sidecar": pet(),
        "BIDS NIfTI without a sidecar, units stated": pet(units="Bq/mL"),
        "BIDS NIfTI, a sidecar without times": pet(sidecar=SIDECAR),
        "MINC": pet(".mnc"),
    },
    "table": {
        "CSV": table(),
        "semicolons and decimal commas": table(write={"sep": ";", "decimal": ","}),
        "tabs and decimal commas, Windows' alphabet": table(
            lambda f: f.rename(columns={"t": "Höhe"}),
            value="Höhe",
            write={"sep": "\t", "decimal": ",", "encoding": "cp1252"},
        ),
        "-9999 unmarked": table(lambda f: f.assign(t=f["t"].where(f.index > 1, -9999))),
        "-9999 named": table(lambda f: f.assign(t=f["t"].where(f.index > 1, -9999)), layout=Layout(missing=(-9999,))),
        "a latitude of 523": table(lambda f: f.assign(lat=10 * f["lat"])),
        "dates 13/04/2020, 05/04/2020": dated("13/04/2020", "05/04/2020"),
        "dates 03/04/2020, 05/04/2020": dated("03/04/2020", "05/04/2020"),
        "dates 03/04/2020, 05/04/2020, days first": dated("03/04/2020", "05/04/2020", dates="day-first"),
        "degF to degC": table(units="degF", convert="degC"),
        "units that nobody knows": table(units="bananas"),
        "text among numbers": table(lambda f: f.astype({"t": object}).replace({"t": {f["t"][0]: "trace"}})),
        "a column that is not there": table(value="sst"),
        "all values equal": table(lambda f: f.assign(t=1.0)),
    },
    "gridded field": {
        "netCDF": grid(field()),
        "zarr of version 2, consolidated": grid(field(), "f.zarr"),
        "HDF5 without dimension scales": without_scales,
        "MATLAB of version 5": matlab_5,
        "-9999 without a fill value": grid(field(data=MISSING), encoding={"sst": {"_FillValue": None}}),
        "-9999 named": grid(field(data=MISSING), encoding={"sst": {"_FillValue": None}}, missing=(-9999.0,)),
        "decreasing latitudes": grid(field(lat=(12.0, 11, 10))),
        "a coordinate twice": grid(field(lat=(10.0, 11, 11))),
        "coordinates in no order": grid(field(lat=(10.0, 12, 11))),
        "longitudes over the date line": grid(field(lon=(179.0, 180, -179, -178))),
        "a valid range as text": grid(field(valid_range="0, 9")),
        "a valid range that is none": grid(field(valid_range="low")),
        "a variable that is not there": grid(field().rename(sst="t2m")),
    },
}
