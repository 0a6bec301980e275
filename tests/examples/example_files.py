"""Small files to give the commands: measurements as plain xarray writes them, checkpoints, descriptions of priors."""

import json
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import nn

from infield.core.grid import Grid
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.flows.flow import LearnedFlow
from infield.priors.gaussian.kernels import Matern
from infield.priors.networks.fno import FNO
from infield.priors.storage.flow_entry import ENTRY, to_entry
from infield.priors.training.flow_matching import source_on


def plane(shape=(12, 16), share=0.5, std=0.1, seed=0, operator="mask") -> xr.Dataset:
    """A masked field as plain xarray writes it, see docs/formats.md."""
    rng = np.random.default_rng(seed)
    y, x = (np.arange(n) / shape[1] for n in shape)
    truth = np.sin(6 * y + 1)[:, None] * np.cos(5 * x)
    mask = rng.random(shape) < share
    data = np.where(mask, truth + std * rng.standard_normal(shape), 0.0)
    return xr.Dataset(
        {
            "data": (("y", "x"), data, {"units": "mK"}),
            "mask": (("y", "x"), mask.astype("int8")),
            "truth": (("y", "x"), truth, {"units": "mK"}),
        },
        coords={"y": ("y", y, {"units": "km", "periodic": 0}), "x": ("x", x, {"units": "km"})},
        attrs=_attributes(["y", "x"], "temperature", "mK", {"name": operator, "arrays": {"mask": "mask"}}, std**2),
    )


def line(n=17, units="K", std=0.5) -> xr.Dataset:
    """A field on a line, seen by every third point."""
    x = np.linspace(0, 1, n)
    mask = np.arange(n) % 3 == 1
    noise = std * np.random.default_rng(1).standard_normal(n)
    data = np.where(mask, 280 + 3 * np.sin(6 * x) + noise, 0.0)
    return xr.Dataset(
        {"data": ("x", data, {"units": units}), "mask": ("x", mask.astype("int8"))},
        coords={"x": ("x", x, {"units": "1"})},
        attrs=_attributes(["x"], "c0", units, {"name": "mask", "arrays": {"mask": "mask"}}, std**2),
    )


def scattered(n=48, sensors=(2, 9, 17, 24, 31, 38, 46), std=0.1) -> xr.Dataset:
    """Scattered points on a line and seven sensors on them: Gaussian-process regression."""
    rng = np.random.default_rng(2)
    x = np.sort(rng.random(n))
    index = np.array(sensors)
    data = np.sin(6 * x[index]) + std * rng.standard_normal(len(index))
    dataset = xr.Dataset(
        {
            "data": ("sensor", data, {"units": "m"}),
            "place": ("sensor", index),
            "position": ("point", x, {"units": "1"}),
        },
        attrs=_attributes(["point"], "height", "m", {"name": "points", "arrays": {"indices": "place"}}, std**2),
    )
    field = json.loads(dataset.attrs["field"])
    return dataset.assign_attrs(field=json.dumps(field | {"coordinates": ["position"]}))


def counts() -> xr.Dataset:
    """Photons: a convolved image under a Poisson law."""
    dataset = plane().drop_vars(["truth", "mask"])
    dataset["data"] = (("y", "x"), np.random.default_rng(3).poisson(4.0, (12, 16)).astype(float), {"units": "1"})
    blur = {"name": "convolution", "parameters": {"gaussian_width": 0.1}}
    return dataset.assign_attrs(operator=json.dumps(blur), noise=json.dumps({"law": "poisson", "gain": 1.0}))


def _attributes(dims: list[str], channel: str, units: str, operator: dict, variance: float) -> dict:
    return {
        "Conventions": "CF-1.11",
        "infield_format": "measurement",
        "infield_version": 1,
        "field": json.dumps({"dims": dims, "channels": [channel], "units": units}),
        "operator": json.dumps(operator),
        "noise": json.dumps({"law": "gaussian", "variance": variance}),
    }


def save(dataset: xr.Dataset, path: Path, **settings: object) -> Path:
    settings = {"encoding": {"mask": {"fill_value": -1}}} | settings if "mask" in dataset else settings
    dataset.to_zarr(path, mode="w", zarr_format=3, consolidated=False, **settings)
    return path


def checkpoint(path: Path, units="K", channels=1, n=17, axis_units="1", length=1.0) -> Path:
    """A small prior as `infield fit` leaves it; its network has random weights."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = FNO(1, channels, 4, 8, 2)
    nn.init.normal_(network.head.weight)
    grid = Grid.regular((n,), length, units=axis_units)
    source = source_on(Matern(1.5, 0.3), grid, channels)
    one = torch.ones(channels, 1).double()
    prior = LearnedFlow(
        name="a small flow",
        network=network.eval(),
        source=source,
        covariance=Covariance(
            source.modes,
            torch.rand(source.event_shape, generator=generator).double() + 0.1,
            torch.randn((3, *source.event_shape), generator=generator).double(),
        ),
        mean=torch.zeros(source.event_shape).double(),
        standardisation=Standardisation(280 * one, 3 * one),
        skip="gaussian",
        grid_description=grid.to_json(),
        units=units,
        channels=tuple(f"c{i}" for i in range(channels)),
        provenance={"kind": "flow"},
    )
    torch.save({ENTRY: to_entry(prior)}, path)
    return path


GAUSSIAN = "prior: gaussian\nlaw: {law: matern, nu: 1.5, length: 0.3}\n"
MIXTURE = """
prior: mixture
components:
  - {weight: 0.3, law: {law: matern, nu: 1.5, length: 0.1}}
  - {weight: 0.7, law: {law: matern, nu: 1.5, length: 0.4}}
source: {law: white}
"""


def samples(path: Path) -> np.ndarray:
    """Samples of a posterior file, by plain xarray."""
    with xr.open_zarr(path, consolidated=False) as posterior:
        return posterior["samples"].values


def kspace(shape=(48, 40), coils=4, centre=20, std=0.004, seed=0, share=0.45) -> np.ndarray:
    """Raw k-space of a complex head seen by several coils, (coil, ky, kx); 0 where nothing was sampled."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.hypot(y / 0.75, x / 0.7)
    image = (radius < 1) * (1 + 0.5 * np.cos(9 * y + 4 * x)) * np.exp(1j * (0.6 * y - x * y))
    angles = np.arange(coils) * 2 * np.pi / coils
    maps = np.stack([np.exp(-0.4 * ((y - np.cos(a)) ** 2 + (x - np.sin(a)) ** 2) + 1j * (a + y)) for a in angles])
    sampled = rng.random(shape) < share
    sampled[tuple(slice(n // 2 - centre // 2, n // 2 + centre // 2) for n in shape)] = True
    noise = std * (rng.standard_normal((coils, *shape)) + 1j * rng.standard_normal((coils, *shape)))
    axes = (-2, -1)
    clean = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(maps * image, axes), axes=axes, norm="ortho"), axes)
    return (clean + noise) * sampled
