"""Every option that a refusal names is followed: the same command with it succeeds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from examples.kspace_examples import head, kspace, write_fastmri
from examples.wall_files import netcdf

pytestmark = pytest.mark.field
Make = Callable[[Path], tuple[object, ...]]
Options = dict[str, tuple[object, ...]]

TABLE = ("--value", "t", "--at", "lon", "lat", "--grid", 0.5)
PLACES = ((3.0, 50.1), (3.4, 51.0), (4.6, 52.3), (5.1, 50.7))


def table(values, *options, header="lon,lat,t", at=TABLE) -> Make:
    def make(folder):
        rows = "".join(f"{lon},{lat},{value}\n" for (lon, lat), value in zip(PLACES, values, strict=True))
        (folder / "t.csv").write_text(f"{header}\n{rows}" if header else rows)
        return "table", folder / "t.csv", *at, *options

    return make


def dates(folder):
    (folder / "t.csv").write_text("day,t\n03/04/2020,1\n05/04/2020,2\n04/05/2020,4\n")
    return "table", folder / "t.csv", "--value", "t", "--at", "day", "--grid", 1


def grid(*options, gap=None) -> Make:
    def make(folder):
        values = np.arange(12.0).reshape(3, 4)
        values[1, 1] = gap or values[1, 1]
        land = (("y", "x"), (~np.isfinite(values)).astype(np.int8), {"standard_name": "land_binary_mask"})
        field = xr.Dataset({"t": (("y", "x"), values), "land": land}, {"y": [1.0, 2, 3], "x": [1.0, 2, 3, 4]})
        field.to_netcdf(folder / "f.nc")
        return "grid", folder / "f.nc", "--variable", "t", *options

    return make


def scan(values: np.ndarray, *options, name="k.npy") -> Make:
    def make(folder):
        path = folder / name
        np.save(path, values) if path.suffix == ".npy" else write_fastmri(path, values)
        return "mri", path, *options

    return make


def planes(*options, **changes) -> Make:
    def make(folder):
        netcdf(folder / "whole.nc", format="NETCDF3_64BIT")
        with xr.open_dataset(folder / "whole.nc", decode_times=False) as whole:
            whole.load().rename(changes).to_netcdf(folder / "p.nc")
        return "wall-pressure", folder / "p.nc", *options

    return make


K = kspace()
IMAGE = head((64, 54))[0] * head((64, 54))[1]

CASES: dict[str, tuple[Make, Options]] = {
    "a number that stands for missing values": (
        table((1.0, 2.0, 4.0, -9999.0)),
        {"--missing": (-9999,), "--no-missing": ()},
    ),
    "a word that stands for missing values": (table((1.0, "trace", 3.0, 4.0)), {"--missing": ("trace",)}),
    "no header": (table((1.0, 2.0, 3.0, 4.0), header=None), {"--columns": ("lon", "lat", "t")}),
    "dates of which day or month may be first": (dates, {"--dates": ("day-first",)}),
    "units to convert from": (table((1.0, 2.0, 3.0, 4.0), "--convert", "K"), {"--units": ("degC",)}),
    "a gridded number that stands for missing values": (
        grid(gap=-9999.0),
        {"--missing": (-9999,), "--no-missing": ()},
    ),
    "gaps that are none": (grid("--no-gaps", gap=np.nan), {"--no-gaps": None, "--mask": ("land",)}),
    "coils last": (scan(K.transpose(1, 2, 0)[None], name="k.h5"), {"--order": ("slice,ky,kx,coil",)}),
    "images": (
        scan(IMAGE),
        {"--image": (), "--unchecked": (), "--order": None},
    ),
    "several slices": (scan(np.stack([K, K]), name="k.h5"), {"--slice": (1,)}),
    "a resolution without the size of a point": (scan(K, "--resolution", 4), {"--voxel": (2, 2)}),
    "a spanwise axis called y": (planes(z="y"), {"--order": ("time,wall,z,x",)}),
}
"""Name -> what makes a command that is refused, and the options that the refusal names with their values: None for one
that is left out of the command, or to be given only beside others."""


@pytest.mark.parametrize("case", CASES)
def test_every_option_that_a_refusal_names_works(case, infield, tmp_path):
    make, options = CASES[case]
    command = [str(part) for part in ("convert", *make(tmp_path))]
    line = infield(*command, "-o", tmp_path / "m.zarr").refused()
    advice = line.partition("expected")[2]
    named = set(re.findall(r"--[a-z][a-z-]+", advice))
    assert named and named <= set(options), (named - set(options), line)
    for number, (option, values) in enumerate(options.items()):
        if option not in named:
            continue
        if values is None:
            more = [part for part in command if part != option]
        else:
            given = values if values and str(values[0]).startswith("--") else (option, *values)
            more = [*command, *map(str, given)]
        if more == command:  # beside others
            continue
        said = infield(*more, "-o", tmp_path / f"m{number}.zarr")
        assert said.status == 0, (option, said.err)
