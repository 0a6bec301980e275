"""Pairs of training fields from one file: a field and what a solver makes of it, as `infield simulate` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_convert

from infield.core._lightning import LightningDataModule
from infield.datasets.formats.zarr_group import refusal
from infield.datasets.training.fields import EpochOrder, FieldFile, FieldSamples, open_dataset

Pair = tuple[Tensor, Tensor]


class FieldPairs(LightningDataModule):
    """Batches of (fields, solutions), both `(batch, channel, *space)` in units on one grid, read lazily.

    The last samples of the file are held out; they measure the error of what is trained.

    Arguments:
        path: Zarr group, netCDF or HDF5 file.
        field: Name of the variable that goes in.
        solution: Name of the variable that comes out.
        batch_size: Pairs a batch.
        validation: Share of the samples that is held out.
        statistics: Number of training pairs, evenly spread, from which mean and deviation are estimated.
        memory_gib: Variables that take less than this are read once and kept, GiB.
        num_workers: Processes that read.
        seed: Of the order of the samples.
    """

    def __init__(
        self,
        path: str,
        field: str = "coefficient",
        solution: str = "solution",
        batch_size: int = 32,
        validation: float = 0.1,
        statistics: int = 1024,
        memory_gib: float = 2.0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        settings = (batch_size, validation, statistics, memory_gib)
        self.path, self.batch_size, self.num_workers, self.seed = Path(path), batch_size, num_workers, seed
        self.files = tuple(FieldFile(path, name, *settings) for name in (field, solution))

    def setup(self, stage: str) -> None:
        """Open the file and check its metadata."""
        for file in self.files:
            file.setup(stage)
        first, second = self.files
        if first.grid != second.grid:
            expected = f"{first.grid.names} as of {first.variable}, in this order"
            raise refusal(self.path, second.variable, f"dimensions {second.grid.names}", expected)
        self.grid, self.grid_description = first.grid, first.grid_description
        self.units = (first.units, second.units)
        self.channels = (first.channels, second.channels)
        self.operator = _operator(self.path)
        self.training = PairSamples(first.training, second.training)
        self.validation = PairSamples(first.held_out, second.held_out)

    def examples(self) -> Pair:
        """At most `statistics` training pairs in units."""
        x, u = (file.examples() for file in self.files)
        return x, u

    def held_out(self, count: int) -> Pair:
        """At most `count` of the pairs that are not trained on, evenly spread."""
        n = len(self.validation)
        return self.validation[np.linspace(0, n - 1, min(count, n)).astype(int).tolist()]

    def train_dataloader(self) -> DataLoader[Pair]:
        def epoch() -> int:
            return self.trainer.current_epoch if self.trainer else 0

        order = EpochOrder(len(self.training), self.seed, epoch)
        return self._loader(self.training, sampler=order, drop_last=True)

    def val_dataloader(self) -> DataLoader[Pair] | list[Any]:
        return self._loader(self.validation) if len(self.validation) else []

    def _loader(self, samples: PairSamples, **settings: Any) -> DataLoader[Pair]:
        settings.update(num_workers=self.num_workers, persistent_workers=self.num_workers > 0)
        return DataLoader(samples, self.batch_size, collate_fn=default_convert, **settings)


class PairSamples(Dataset[Pair]):
    """The same samples of two variables."""

    def __init__(self, fields: FieldSamples, solutions: FieldSamples) -> None:
        self.fields, self.solutions = fields, solutions

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, indices: list[int]) -> Pair:
        """Both, of shape `(len(indices), channel, *space)`, in the order of the indices."""
        return self.fields[indices], self.solutions[indices]

    __getitems__ = __getitem__


def _operator(path: Path) -> dict[str, Any] | None:
    """The solver that made the solutions, as `infield simulate` notes it; None where another program wrote the file."""
    attributes = open_dataset(path).attrs
    if attributes.get("infield_format") != "simulation" or "parameters" not in attributes:
        return None
    operator = json.loads(attributes["parameters"]).get("operator")
    return operator if isinstance(operator, dict) else None
