"""A posterior to a map for other programs: mean, standard deviation, quantiles and draws, in netCDF or GeoTIFF."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.core.extras import require
from infield.datasets.formats.carried import LAND
from infield.datasets.formats.field import CHANNEL
from infield.datasets.formats.output_lock import writing
from infield.datasets.formats.posterior import open_posterior
from infield.datasets.formats.zarr_group import CONVENTIONS, explain_disk_full

VALUES_PER_READ = 2**25
"""Of all samples of a part of the field, whose quantiles are computed together."""

QUANTILES = (0.05, 0.5, 0.95)
_OF_SAMPLES = ("samples", "mean", "std", "done", "sample", "velocity_calls", "operator_calls", "seconds", "block")
_OF_MAP = ("Conventions", "history", "institution", "source", "references", "comment", "title", "prior", "sampler",
           "seed", "measurement_sha256", "trusted", "trusted_because")  # fmt: skip


def map_of(path: Path, *, quantiles: Sequence[float] = QUANTILES, draws: Sequence[int] = ()) -> xr.Dataset:
    """Summaries of a posterior at each point, with the names of its field.

    Arguments:
        path: The posterior.
        quantiles: Between 0 and 1, of the samples.
        draws: Numbers of samples that go along.

    Returns:
        Variables `NAME` (the mean), `NAME_sd`, `NAME_q05`, ... and `NAME_draws (sample, ...)`, NaN on land; NAME is the
        channel, or "field" where there are several. With fewer than two samples there are no quantiles.

    Raises:
        InfieldError: The posterior is none, or not complete; or a quantile or a draw is not to be had.
    """
    for q in quantiles:
        if not 0 <= q <= 1:
            raise InfieldError(
                where="{quantiles}", found=f"{q:g}", expected="numbers from 0 to 1", parameters=["quantiles"]
            )
    with open_posterior(path) as group:
        count = int(group.sizes.get("sample", 0))
        for number in draws:
            if not 0 <= number < count:
                raise InfieldError(
                    where=f"{path}: samples", found=number, expected=f"numbers of samples from 0 to {count - 1}"
                )
        channels = json.loads(group.attrs["field"])["channels"]
        name = str(channels[0] if len(channels) == 1 else "field")
        mean = group["mean"]
        about = {key: value for key, value in mean.attrs.items() if key not in ("variable_name", "units")}
        units = {"units": mean.attrs["units"]}
        mapping = {"grid_mapping": about["grid_mapping"]} if "grid_mapping" in about else {}
        label = str(about.get("long_name", name))
        land = group[LAND].astype(bool) if LAND in group.variables else None

        def blank(values: xr.Variable | np.ndarray, attributes: Mapping[str, Any], *more: str) -> xr.Variable:
            found = np.array(getattr(values, "values", values), dtype=np.float64)
            if land is not None:
                found[..., land.transpose(*mean.dims[-land.ndim :]).values] = np.nan
            return xr.Variable((*more, *mean.dims), found, {**attributes, **units})

        variables = {
            name: blank(mean.variable, about),
            f"{name}_sd": blank(group["std"].variable, _others(group["std"].attrs)),
        }
        if count > 1:
            for q, values in zip(quantiles, _quantiles(group["samples"], quantiles), strict=True):
                text = f"{name}_q{f'{100 * q:g}'.replace('.', '_').zfill(2)}"
                about_q = {**mapping, "long_name": f"{100 * q:g} % quantile of {label}", "quantile": float(q)}
                variables[text] = blank(values, about_q)
        if draws:
            chosen = group["samples"].isel(sample=list(draws))
            about_draws = {**mapping, "long_name": f"draws of {label}"}
            variables[f"{name}_draws"] = blank(chosen.variable, about_draws, "sample")
        kept = {*mean.dims, *_scalars(group), *(n for n, v in group.coords.items() if set(v.dims) <= set(mean.dims))}
        coordinates = {str(n): v for n, v in group.variables.items() if n in kept}
        if draws:
            coordinates["sample"] = xr.Variable(("sample",), np.asarray(draws), {"long_name": "number of the draw"})
        others = {
            str(n): v
            for n, v in group.variables.items()
            if n not in coordinates and n not in _OF_SAMPLES and n not in variables
        }
        attributes = {key: group.attrs[key] for key in _OF_MAP if key in group.attrs}
        steps = "\n".join(filter(None, (f"infield convert posterior: {path.name}", attributes.get("history", ""))))
        attributes |= {"Conventions": CONVENTIONS, "history": steps}
        ordered = {**others, **variables}
        dataset = xr.Dataset(ordered, coords=coordinates, attrs=attributes).load()
    for variable in dataset.variables.values():
        variable.encoding = {}
    return dataset


def _others(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in attributes.items() if key not in ("variable_name", "units")}


def _scalars(group: xr.Dataset) -> list[str]:
    """Coordinates of places that were chosen, e.g. one time."""
    return [str(n) for n, v in group.variables.items() if not v.dims and "standard_name" in v.attrs]


def _quantiles(samples: xr.DataArray, quantiles: Sequence[float]) -> np.ndarray:
    """Quantiles over the samples, shape `(quantiles, [channel,] *space)`, a part of the field in memory at a time.

    That of p lies at rank p (n + 1) of n draws: an interval between two holds a new draw as often as it states.
    """
    first, size = samples.dims[1], samples.shape[1]
    rows = max(1, VALUES_PER_READ // max(1, samples.size // size))
    parts = [
        np.quantile(
            samples.isel({first: slice(start, start + rows)}).values.astype(np.float64),
            quantiles,
            axis=0,
            method="weibull",
        )
        for start in range(0, size, rows)
    ]
    return np.concatenate(parts, axis=1)


def write_netcdf(dataset: xr.Dataset, path: Path) -> None:
    """Write a map as netCDF 4; it appears under its name only when it is whole."""
    draft = path.with_name(path.name + ".draft")
    encoding = {n: {"zlib": True, "complevel": 4} for n, v in dataset.data_vars.items() if v.ndim > 1}
    with explain_disk_full(path, "make room and start again"), writing(path):
        try:
            dataset.to_netcdf(draft, engine="netcdf4", encoding=encoding)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def write_geotiff(dataset: xr.Dataset, path: Path) -> None:
    """Write a map of two axes as GeoTIFF, a band for each variable; needs rasterio (the extra `maps`).

    Raises:
        InfieldError: rasterio is not installed, or the field is not on two evenly spaced axes.
    """
    rasterio = require("rasterio", "maps", where=path, instead="or write netCDF (.nc)")
    from_origin = require("rasterio.transform", "maps", where=path).from_origin
    bands = {n: v for n, v in dataset.data_vars.items() if v.ndim >= 2 and n != LAND and v.dtype.kind == "f"}
    y, x = next(iter(bands.values())).dims[-2:]
    steps = [np.diff(dataset[d].values) for d in (y, x)]
    flat = all(v.dims in ((y, x), ("sample", y, x)) for v in bands.values())
    if not flat or any(len(s) == 0 or not np.allclose(s, s[0], rtol=1e-4) for s in steps) or CHANNEL in dataset.dims:
        shape = dict(next(iter(bands.values())).sizes)
        raise InfieldError(where=path, found=f"a field on {shape}", expected="two evenly spaced axes for GeoTIFF")
    dy, dx = (float(s.mean()) for s in steps)
    images, names = [], []
    for name, values in bands.items():
        for i, image in enumerate(values.values.reshape(-1, *values.shape[-2:])):
            images.append(image[::-1])
            names.append(str(name) if values.ndim == 2 else f"{name} {int(dataset['sample'][i])}")
    transform = from_origin(float(dataset[x][0]) - dx / 2, float(dataset[y][-1]) + dy / 2, dx, dy)
    draft = path.with_name(path.name + ".draft")
    settings = {"height": len(dataset[y]), "width": len(dataset[x]), "count": len(images), "dtype": "float32"}
    with explain_disk_full(path, "make room and start again"), writing(path):
        try:
            with rasterio.open(
                draft, "w", driver="GTiff", crs=_crs(dataset, str(y), str(x)), transform=transform, nodata=np.nan,
                compress="deflate", **settings,
            ) as file:  # fmt: skip
                for i, (name, image) in enumerate(zip(names, images, strict=True), start=1):
                    file.write(image.astype(np.float32), i)
                    file.set_band_description(i, name)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def _crs(dataset: xr.Dataset, y: str, x: str) -> str | None:
    """The coordinate reference system, as PROJ writes it; None if the file has none."""
    if all(str(dataset[d].attrs.get("units", "")).startswith("degree") for d in (y, x)):
        return "EPSG:4326"
    units = dataset[x].attrs.get("units")
    for variable in dataset.variables.values():
        if "crs_wkt" in variable.attrs and units in ("m", "metre", "metres"):
            return str(variable.attrs["crs_wkt"])
        if variable.attrs.get("grid_mapping_name") == "azimuthal_equidistant" and units in ("km", "m"):
            a = variable.attrs
            return (
                f"+proj=aeqd +lat_0={a['latitude_of_projection_origin']} +lon_0={a['longitude_of_projection_origin']} "
                f"+R={a['earth_radius']} +units={units} +no_defs"
            )
    return None
