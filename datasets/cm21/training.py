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
import xarray as xr
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from infield.core._lightning import LightningDataModule
from infield.core.errors import InfieldError
from infield.datasets.cm21.lightcone_file import BOX_AXES, DENSITY, TEMPERATURE, Lightcones, open_lightcones
from infield.datasets.formats.zarr_group import refusal
from infield.datasets.training.fields import EpochOrder

Window = tuple[Tensor, ...]
"""Values `(batch, channel, x, y, window)`, parameters `(batch, parameters)` and first cells `(batch,)`; optionally
also boxes of initial conditions, `(batch, 1, x, y, los)`."""

STATISTICS = 512
"""Windows, evenly spread over the cones, that `examples` gives."""


class LightconeFile(LightningDataModule):
    """Batches of windows of a file of lightcones, of the values that a transform makes of their temperatures.

    All cones are held in memory, as values in half precision. The last ones are held out for validation.

    Arguments:
        path: A file of lightcones (`infield simulate 21cm`, `infield convert lightcone`), or several of one grid, one
            simulator and one range of parameters.
        window: Cells of the line of sight that are seen at a time, at most its depth.
        batch_size: Windows a batch.
        parameters: Names of the parameters that cones are conditioned on; all that vary where not given, none for cones
            without a condition.
        validation: Share of the cones that is held out.
        cones: At most so many are used; all where not given.
        windows: Of each cone in an epoch.
        starts: Places where the windows of a cone begin, its own; anywhere where 0. What a training works out for a
            window's place and parameters, it may then keep.
        boxes: Whether windows come with their initial conditions, which then are held in memory as well; they begin at
            even cells.
        workers: Processes that transform the cones at the start.
        num_workers: Processes that cut windows.
        seed: Of order, windows, turns and shifts, which derive from seed, epoch and number alone.
    """

    def __init__(
        self,
        path: str | list[str],
        window: int = 128,
        batch_size: int = 4,
        parameters: list[str] | None = None,
        validation: float = 0.05,
        cones: int | None = None,
        windows: int = 1,
        starts: int = 0,
        boxes: bool = False,
        workers: int = 0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        least = min(batch_size, windows, window - 1, workers + 1, num_workers + 1, starts + 1)
        if least < 1 or not 0 <= validation < 1:
            raise InfieldError(
                where="lightcones to train on",
                found=(
                    f"batch_size {batch_size}, windows {windows}, validation {validation}, window {window}, starts "
                    f"{starts}, workers {workers}, num_workers {num_workers}"
                ),
                remedy=(
                    "expected at least 1 of the first two, a share in [0, 1), at least 2 cells and at least 0 of the "
                    "others"
                ),
            )
        self.paths = [Path(one) for one in ([path] if isinstance(path, str) else path)]
        self.window, self.batch_size, self.chosen, self.starts = window, batch_size, parameters, starts
        self.validation, self.most, self.windows, self.seed = validation, cones, windows, seed
        self.with_boxes, self.workers, self.num_workers = boxes, workers, num_workers

    def setup(self, stage: str) -> None:
        """Read the files and check their metadata."""
        opened = [open_lightcones(path) for path in self.paths]
        path, (_, about) = self.paths[0], opened[0]
        parameters = self._joined([other for _, other in opened])
        every = sum(other.samples for _, other in opened)
        count, depth = min(self.most or every, every), about.grid.shape[2]
        if self.window > depth:
            raise refusal(path, TEMPERATURE, f"{depth} cells of the line of sight", f"at least {self.window}",
                          "lower `window`")  # fmt: skip
        spacing = {round(float(step), 6) for axis in about.grid.axes for step in np.diff(axis.coordinates)}
        if max(spacing) - min(spacing) > 1e-3 * max(spacing):
            raise refusal(path, "x, y, los", f"cells of {min(spacing):g} to {max(spacing):g} Mpc", "cubes")
        varying = [name for name, values in parameters.items() if np.ptp(values) > 0]
        names = varying if self.chosen is None else self.chosen
        for name in names:
            if name not in varying:
                raise refusal(path, name, "no parameter of this name that varies", f"some of {varying}")
        held_out = int(self.validation * count)
        if count - held_out < max(3, self.batch_size):
            raise refusal(path, TEMPERATURE, f"{count - held_out} cones to train on",
                          f"at least {max(3, self.batch_size)}", "lower `batch_size` or give more cones")  # fmt: skip
        self.cell = float(np.mean(np.diff(about.grid.axes[0].coordinates)))
        self.points = (about.grid.shape[0], about.grid.shape[1])
        self.distance, self.redshift = np.array(about.grid.axes[2].coordinates), np.array(about.redshift)
        self.theta = torch.from_numpy(np.stack([parameters[name][:count] for name in names], axis=1)
                                      if names else np.empty((count, 0))).float()  # fmt: skip
        ranges = about.provenance.get("ranges", {})
        self.ranges = {
            name: tuple(map(float, ranges.get(name, (parameters[name].min(), parameters[name].max()))))
            for name in names
        }
        files = ", ".join(path.name for path in self.paths)
        self.facts = {"cones": count, "simulator": about.provenance.get("simulator"), "file": files}
        values = np.empty((count, *about.grid.shape), dtype=np.float32)
        start = 0
        for one, (group, other) in zip(self.paths, opened, strict=True):
            here = values[start : start + other.samples]
            here[:] = group[TEMPERATURE].isel(sample=slice(0, len(here))).values
            bad = ~np.isfinite(here).all((1, 2, 3))
            if bad.any():
                raise refusal(one, TEMPERATURE, f"NaN or infinity in cone {int(bad.argmax())}", "finite values")
            start += len(here)
        self.temperature = torch.from_numpy(values)[:, None]
        self.boxes = self._initial_conditions([group for group, _ in opened], count)
        self.values = torch.empty(0)  # see `apply`
        self.training, self.held_out = range(count - held_out), range(count - held_out, count)

    def _joined(self, files: list[Lightcones]) -> dict[str, np.ndarray]:
        """Parameters of the cones of all files, one after the other; refuses files that do not belong together."""
        first = files[0]
        for path, other in zip(self.paths, files, strict=True):
            for what, one, expected in (
                ("x, y, los", other.grid, first.grid),
                ("redshift", list(other.redshift), list(first.redshift)),
                ("parameters", sorted(other.parameters), sorted(first.parameters)),
                ("settings of the simulator", dict(other.provenance), dict(first.provenance)),
            ):
                if one != expected:
                    raise refusal(path, what, "others", f"those of {self.paths[0]}", "train on files of one kind")
        return {name: np.concatenate([one.parameters[name] for one in files]) for name in first.parameters}

    def _initial_conditions(self, groups: list[xr.Dataset], count: int) -> Tensor:
        """Boxes of so many cones, `(cones, 1, x, y, los)` in half precision; none if they are not requested."""
        found: list[Tensor] = []
        for path, group in zip(self.paths, groups, strict=True):
            if not self.with_boxes or len(found) == count:
                break
            if DENSITY not in group or group[DENSITY].dims != ("sample", *BOX_AXES):
                raise refusal(path, DENSITY, "no initial conditions", f"('sample', {', '.join(BOX_AXES)})",
                              "simulate anew by `infield simulate 21cm`, which keeps them")  # fmt: skip
            for i in range(min(group.sizes["sample"], count - len(found))):
                box = group[DENSITY][i].values
                expected = tuple(found[0].shape[1:]) if found else box.shape
                if not np.isfinite(box).all() or box.shape != expected:
                    raise refusal(path, DENSITY, f"NaN, infinity or a shape {box.shape} in cone {i}",
                                  f"finite values, {expected} in all cones")  # fmt: skip
                found.append(torch.from_numpy(box)[None].half())
        return torch.stack(found) if found else torch.empty(0)

    def keep_temperatures(self) -> None:
        """Make windows of temperatures as they are."""
        self.values, self.temperature = self.temperature.half(), self.temperature[:0]

    def apply(self, transform: Callable[[Tensor], Tensor], progress: Callable[[Iterable[Any]], Iterable[Any]]) -> None:
        """Keep the values that a transform makes of the cones, and no longer their temperatures.

        Arguments:
            transform: From `(batch, 1, x, y, los)` to `(batch, channel, x, y, los)`, as
                `priors.voxel_transform.VoxelTransform.forward`.
            progress: Called with each lightcone, in order.
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
        chooses = rng
        if data.starts:  # one of a few, which depend on the cone alone
            chooses = np.random.default_rng((data.seed, cone, int(rng.integers(data.starts))))
        # Beyond both ends and back: else the first and the last cells would hardly ever be seen.
        start = int(np.clip(chooses.integers(-data.window // 2, last + data.window // 2 + 1), 0, last))
        start -= start % 2 if len(data.boxes) else 0
        seen = values[..., start : start + data.window]
        across = bool(rng.integers(2))
        turned = [axis for axis in (1, 2) if rng.integers(2)]
        shifts = [int(rng.integers(n)) for n in seen.shape[1:3]]

        def moved(field: Tensor) -> Tensor:
            finer = field.shape[1] // seen.shape[1]
            field = field.transpose(1, 2) if across else field
            return field.flip(turned).roll([finer * shift for shift in shifts], (1, 2))

        window = moved(seen), data.theta[cone], torch.tensor(start)
        return (*window, moved(data.boxes[cone])) if len(data.boxes) else window


def _in_half(transform: Callable[[Tensor], Tensor], cone: np.ndarray) -> np.ndarray:
    return transform(torch.from_numpy(cone)).half().numpy()
