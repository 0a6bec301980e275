"""Pairs of regional means, baseline and follow-up, from a file of `infield simulate pet`, to train bridges on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from infield.core._lightning import LightningDataModule
from infield.core.errors import InfieldError
from infield.datasets.formats.simulation import open_simulation
from infield.datasets.pet.amyloid_law import AmyloidLaw
from infield.datasets.pet.brain_regions import nearest_region, volume_places
from infield.datasets.pet.region_scans import RegionScans

IMAGES = ("baseline", "follow_up", "grey", "white")


@dataclass(frozen=True, eq=False)
class CohortImages:
    """Slices of some subjects of `infield simulate pet`, `(subjects, z, y, x)`, float32.

    Arguments:
        baseline, follow_up: SUVR.
        grey, white: Fractions of tissue.
        weights: Of the regional means, `(regions, z, y, x)`.
        labels: Region of each voxel, `(z, y, x)`.
        spacing: Of y and x, mm.
        centre: y and x of the middle of a slice, mm.
    """

    baseline: Tensor
    follow_up: Tensor
    grey: Tensor
    white: Tensor
    weights: Tensor
    labels: Tensor
    spacing: float
    centre: tuple[float, float]


def images_of(dataset: xr.Dataset) -> dict[str, Any]:
    """The arguments of `CohortImages`, of all subjects of a data set of `infield simulate pet`."""
    z, y, x = (dataset[axis].values for axis in "zyx")
    return {
        **{name: torch.from_numpy(dataset[name].values).float() for name in IMAGES},
        "weights": torch.from_numpy(dataset["region_weights"].values).float(),
        "labels": nearest_region(volume_places(z, y, x)),
        "spacing": float(np.diff(y)[0]),
        "centre": (float(y.mean()), float(x.mean())),
    }


class RegionPairs(LightningDataModule):
    """Batches of baselines `(batch, regions)`, follow-ups `(batch, regions)` and years `(batch,)`, as measured.

    The last subjects of the file are held out for validation.

    Arguments:
        path: File of `infield simulate pet`.
        batch_size: Pairs a batch.
        validation: Fraction of the subjects that is held out; 0 for none.
        seed: Of the order of the pairs.
        pairs: Number of pairs to draw from the law of the cohort and from a linear model of its scans, which is fitted
            to the subjects that are not held out (`datasets.pet.region_scans`): training then needs some hundred
            simulated subjects. 0: the pairs are those of the file.
    """

    units = "SUVR"

    def __init__(
        self, path: str, batch_size: int = 256, validation: float = 0.05, seed: int = 0, pairs: int = 0
    ) -> None:
        super().__init__()
        if batch_size < 1 or pairs < 0 or not 0 <= validation < 1:
            raise InfieldError(
                where="pairs of regions",
                found=f"batch_size {batch_size}, validation {validation}, pairs {pairs}",
                expected="at least 1, a fraction in [0, 1) and at least 0",
            )
        self.path, self.batch_size, self.validation, self.seed = Path(path), batch_size, validation, seed
        self.pairs = pairs

    def setup(self, stage: str) -> None:
        """Read the regional means of all subjects."""
        dataset = open_simulation(self.path)
        wanted = ("baseline_regions", "follow_up_regions", "subject")
        missing = [name for name in wanted if name not in dataset]
        if missing:
            raise InfieldError(
                where=self.path,
                found=f"no variable {', '.join(missing)}",
                expected="a file of `infield simulate pet`",
            )
        years = dataset["subject"].values[:, [str(q) for q in dataset["quantity"].values].index("years")]
        every = (dataset["baseline_regions"].values, dataset["follow_up_regions"].values, years)
        tensors = [torch.from_numpy(np.asarray(values, dtype=np.float32)) for values in every]
        count = len(years) - int(self.validation * len(years))
        if count < self.batch_size:
            raise InfieldError(
                where=self.path, found=f"{count} subjects to train on", expected=f"at least {self.batch_size}, a batch"
            )
        self.regions = tuple(str(name) for name in dataset["region"].values)
        self.synthetic = bool(dataset.attrs.get("synthetic", 0))
        self.provenance: dict[str, Any] = {
            "data": self.path.name,
            "subjects": count,
            "parameters": json.loads(dataset.attrs.get("parameters", "{}")),
            **_scale(dataset, self.regions),
        }
        self.training = TensorDataset(*(values[:count] for values in tensors))
        if self.pairs:
            self.training = TensorDataset(
                *_drawn(dataset.isel(sample=slice(count)), years[:count], self.pairs, self.seed)
            )
            self.provenance["pairs"] = self.pairs
        self.held_out = TensorDataset(*(values[count:] for values in tensors))

    def examples(self) -> tuple[Tensor, Tensor, Tensor]:
        """All training pairs."""
        x_b, x_f, years = self.training.tensors
        return x_b, x_f, years

    def images(self, n: int) -> CohortImages:
        """Images of the first n subjects, none of which is held out.

        Raises:
            InfieldError: There are not so many, or the file holds no tissues.
        """
        dataset, most = open_simulation(self.path), self.provenance["subjects"]
        missing = [name for name in IMAGES if name not in dataset]
        if missing or n > most:
            found = f"no variable {', '.join(missing)}" if missing else f"{most} subjects to train on"
            raise InfieldError(where=self.path, found=found, expected=f"images of {n} subjects with their tissues")
        return CohortImages(**images_of(dataset.isel(sample=slice(n))))

    def train_dataloader(self) -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(self.training, self.batch_size, shuffle=True, drop_last=True, generator=generator)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        return DataLoader(self.held_out, self.batch_size) if len(self.held_out) else []


def _drawn(dataset: xr.Dataset, years: np.ndarray, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of the law of the cohort and of the linear model of its scans, float32, and their years."""
    parameters = json.loads(dataset.attrs["parameters"])
    law = AmyloidLaw(**{**parameters["law"], "groups": tuple(parameters["law"]["groups"])})
    quantities = [str(q) for q in dataset["quantity"].values]

    def both(kind: str) -> Tensor:
        names = (f"baseline_regions{kind}", f"follow_up_regions{kind}")
        return torch.stack([torch.from_numpy(dataset[name].values.astype(float)) for name in names])

    subject = torch.from_numpy(dataset["subject"].values.astype(float))
    reference = torch.stack([subject[:, quantities.index(name)] for name in ("ref_baseline", "ref_follow_up")])
    scans = RegionScans.fit(both("_law"), both("_noise_free"), both(""), reference)
    generator = torch.Generator().manual_seed(seed)
    low, high = (float(v) for v in parameters.get("years", (years.min(), years.max())))
    when = low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)
    baseline, follow_up, _ = scans.pairs(law, n, when, generator)
    return baseline.float(), follow_up.float(), when.float()


def _scale(dataset: xr.Dataset, regions: tuple[str, ...]) -> dict[str, Any]:
    """The composite, and a scale of the cohort's own: 0 without amyloid, 100 at the law's median capacity.

    The line is the regression of the law's composite on the measured one at baseline.
    """
    law = json.loads(dataset.attrs.get("parameters", "{}")).get("law")
    if law is None or "baseline_regions_law" not in dataset or len(law["groups"]) != len(regions):
        return {}
    inside = np.array([g >= 0 for g in law["groups"]])
    measured, true = (dataset[name].values[:, inside].mean(1) for name in ("baseline_regions", "baseline_regions_law"))
    slope, intercept = np.polyfit(measured, true, 1)
    line = [100 * slope / law["capacity"], 100 * (intercept - 1) / law["capacity"]]
    return {
        "composite": [name for name, one in zip(regions, inside, strict=True) if one],
        "synthetic_centiloid": [float(v) for v in line],
    }
