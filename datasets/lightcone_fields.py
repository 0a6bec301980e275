"""Lightcones as training data: windows of the line of sight, turned and shifted as the law of the sky allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from infield import InfieldError, import_torchvision_first
from infield.datasets.fields import EpochOrder
from infield.datasets.lightcones import TEMPERATURE, open_lightcones
from infield.datasets.zarr_group import refusal

import_torchvision_first()
from lightning.pytorch import LightningDataModule  # noqa: E402

Window = tuple[Tensor, Tensor, Tensor]
"""Values `(batch, channel, x, y, window)`, parameters `(batch, parameters)` and first cells `(batch,)`."""

STATISTICS = 512
"""Windows, evenly spread over the cones, that `examples` gives."""


class LightconeFile(LightningDataModule):
    """Batches of windows of a file of lightcones, of the values that a transform makes of their temperatures.

    All cones are held in memory, as values in half precision. The last cones of the file are held out for validation.

    Arguments:
        path: A file of lightcones (`infield simulate 21cm`, `infield convert lightcone`).
        window: Cells of the line of sight that are seen at a time, at most its depth.
        batch_size: Windows a batch.
        parameters: Names of the parameters that cones are conditioned on; all that vary where not given, none for cones
            without a condition.
        validation: Share of the cones that is held out.
        cones: At most so many are used; all where not given.
        windows: Of each cone in an epoch.
        workers: Processes that transform the cones at the start.
        num_workers: Processes that cut windows.
        seed: Of order, windows, turns and shifts, which derive from seed, epoch and number alone.
    """

    def __init__(
        self,
        path: str,
        window: int = 128,
        batch_size: int = 4,
        parameters: list[str] | None = None,
        validation: float = 0.05,
        cones: int | None = None,
        windows: int = 1,
        workers: int = 0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(batch_size, windows) < 1 or not 0 <= validation < 1 or window < 2 or min(workers, num_workers) < 0:
            raise InfieldError(
                f"lightcones to train on: found batch_size {batch_size}, windows {windows}, validation {validation}, "
                f"window {window}, workers {workers}, num_workers {num_workers}; expected at least 1 of the "
                "first two, a share in [0, 1), at least 2 cells and at least 0 processes"
            )
        self.path, self.window, self.batch_size, self.chosen = Path(path), window, batch_size, parameters
        self.validation, self.most, self.windows, self.seed = validation, cones, windows, seed
        self.workers, self.num_workers = workers, num_workers

    def setup(self, stage: str) -> None:
        """Read the file and check what it says of itself."""
        group, about = open_lightcones(self.path)
        temperature = group[TEMPERATURE]
        count, depth = min(self.most or about.samples, about.samples), about.grid.shape[2]
        if self.window > depth:
            raise refusal(self.path, TEMPERATURE, f"{depth} cells of the line of sight", f"at least {self.window}",
                          "lower `window`")  # fmt: skip
        spacing = {round(float(step), 6) for axis in about.grid.axes for step in np.diff(axis.coordinates)}
        if max(spacing) - min(spacing) > 1e-3 * max(spacing):
            raise refusal(self.path, "x, y, los", f"cells of {min(spacing):g} to {max(spacing):g} Mpc", "cubes")
        varying = [name for name, values in about.parameters.items() if np.ptp(values) > 0]
        names = varying if self.chosen is None else self.chosen
        for name in names:
            if name not in varying:
                raise refusal(self.path, name, "no parameter of this name that varies", f"some of {varying}")
        held_out = int(self.validation * count)
        if count - held_out < max(3, self.batch_size):
            raise refusal(self.path, TEMPERATURE, f"{count - held_out} cones to train on",
                          f"at least {max(3, self.batch_size)}", "lower `batch_size` or give more cones")  # fmt: skip
        self.cell = float(np.mean(np.diff(about.grid.axes[0].coordinates)))
        self.points = (about.grid.shape[0], about.grid.shape[1])
        self.distance, self.redshift = np.array(about.grid.axes[2].coordinates), np.array(about.redshift)
        self.theta = torch.from_numpy(np.stack([about.parameters[name][:count] for name in names], axis=1)
                                      if names else np.empty((count, 0))).float()  # fmt: skip
        told = about.provenance.get("ranges", {})
        self.ranges = {
            name: tuple(map(float, told.get(name, (about.parameters[name].min(), about.parameters[name].max()))))
            for name in names
        }
        self.facts = {"cones": count, "simulator": about.provenance.get("simulator"), "file": self.path.name}
        values = np.asarray(temperature.isel(sample=slice(0, count)).values, dtype=np.float32)
        bad = ~np.isfinite(values).reshape(count, -1).all(1)
        if bad.any():
            raise refusal(self.path, TEMPERATURE, f"NaN or infinity in cone {int(bad.argmax())}", "finite values")
        self.temperature = torch.from_numpy(values)[:, None]
        self.values = torch.empty(0)  # see `apply`
        self.training, self.held_out = range(count - held_out), range(count - held_out, count)

    def apply(self, transform: Callable[[Tensor], Tensor], progress: Callable[[Iterable[Any]], Iterable[Any]]) -> None:
        """Keep the values that a transform makes of the cones, and no longer their temperatures.

        Arguments:
            transform: From `(batch, 1, x, y, los)` to `(batch, channel, x, y, los)`, as
                `priors.voxel_transform.VoxelTransform.forward`.
            progress: Told of each cone, in order.
        """
        cones = (cone[None].numpy() for cone in self.temperature)
        in_half = partial(_in_half, transform)
        if self.workers:
            one: Any = {"initializer": torch.set_num_threads, "initargs": (1,)}  # threads do not survive a fork
            with ProcessPoolExecutor(self.workers, mp_context=get_context("fork"), **one) as pool:
                values = list(progress(pool.map(in_half, cones, chunksize=4)))
        else:
            values = list(progress(map(in_half, cones)))
        self.values = torch.from_numpy(np.concatenate(values))
        self.temperature = self.temperature[:0]

    def examples(self) -> Window:
        """Windows of training cones, evenly spread, as they are."""
        numbers = np.linspace(0, len(self.training) - 1, min(STATISTICS, 4 * len(self.training))).astype(int)
        last = self.values.shape[-1] - self.window
        starts = (np.arange(len(numbers)) * (0.5 + 5**0.5 / 2) % 1 * (last + 1)).astype(int)
        windows = [self.values[i, ..., s : s + self.window] for i, s in zip(numbers, starts, strict=True)]
        return torch.stack(windows), self.theta[numbers], torch.from_numpy(starts)

    def train_dataloader(self) -> DataLoader[Window]:
        def epoch() -> int:
            return self.trainer.current_epoch if self.trainer else 0

        windows = Windows(self, self.training, epoch)
        order = EpochOrder(self.windows * len(windows), self.seed, epoch)
        return DataLoader(windows, self.batch_size, sampler=order, drop_last=True, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader[Window] | list[Any]:
        if not len(self.held_out):
            return []
        windows = Windows(self, self.held_out, lambda: VALIDATION)
        return DataLoader(windows, self.batch_size, num_workers=self.num_workers)


VALIDATION = 2**31
"""Stands for the epoch in windows of validation, which are the same in every epoch."""


class Windows(Dataset[Window]):
    """Windows of some cones, each cone once for every number of cones."""

    def __init__(self, data: LightconeFile, cones: range, epoch: Callable[[], int]) -> None:
        self.data, self.cones, self.epoch = data, cones, epoch

    def __len__(self) -> int:
        return len(self.cones)

    def __getitem__(self, number: int) -> Window:
        """A window, shifted by any number of cells across and turned by any symmetry of the square."""
        data, cone = self.data, self.cones[number % len(self.cones)]
        rng = np.random.default_rng((data.seed, self.epoch(), number))
        values = data.values[cone]
        last = values.shape[-1] - data.window
        # Beyond both ends and back: else the first and the last cells would hardly ever be seen.
        start = int(np.clip(rng.integers(-data.window // 2, last + data.window // 2 + 1), 0, last))
        seen = values[..., start : start + data.window]
        if rng.integers(2):
            seen = seen.transpose(1, 2)
        turned = [axis for axis in (1, 2) if rng.integers(2)]
        shifts = [int(rng.integers(n)) for n in seen.shape[1:3]]
        return seen.flip(turned).roll(shifts, (1, 2)), data.theta[cone], torch.tensor(start)


def _in_half(transform: Callable[[Tensor], Tensor], cone: np.ndarray) -> np.ndarray:
    return transform(torch.from_numpy(cone)).half().numpy()
