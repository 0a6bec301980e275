"""Training fields from any file that xarray opens: a variable `(sample, [channel,] *space)` with coordinates and units.

What the file must have: the variable's attribute `units`; for every space dimension a coordinate with `units`, and with
`periodic: 1` where the axis is periodic. The length of the source is in the units of these coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Real
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_convert

from infield.core._lightning import LightningDataModule
from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid, PointSet, snap
from infield.datasets.formats.agreement import with_increasing_axes
from infield.datasets.formats.field import CHANNEL, COMPLEX_CHANNELS
from infield.datasets.formats.zarr_group import refusal

SAMPLE = "sample"

FACTS = ("Re_tau", "synthetic")
"""Attributes of a file that a prior's provenance repeats: of which flow the fields are."""


class FieldFile(LightningDataModule):
    """Batches of training fields `(batch, channel, *space)` in units, read lazily.

    Complex fields become two channels. The last samples of the file are held out for validation.

    Arguments:
        path: Zarr group, netCDF or HDF5 file.
        variable: Name of the variable.
        batch_size: Fields a batch.
        validation: Share of the samples that is held out; 0 for none.
        statistics: Number of training fields, evenly spread, from which mean and covariance are estimated.
        memory_gib: Fields that take less than this are read once and kept, GiB.
        num_workers: Processes that read.
        seed: Of the order of the samples.
        sample_axis: Name of the dimension that numbers the fields, e.g. `time`. Fields along it count as independent.
    """

    def __init__(
        self,
        path: str,
        variable: str = "field",
        batch_size: int = 32,
        validation: float = 0.05,
        statistics: int = 4096,
        memory_gib: float = 2.0,
        num_workers: int = 0,
        seed: int = 0,
        sample_axis: str = SAMPLE,
    ) -> None:
        super().__init__()
        if batch_size < 1 or not 0 <= validation < 1 or statistics < 3:
            raise InfieldError(
                where="training fields",
                found=f"batch_size {batch_size}, validation {validation}, statistics {statistics}",
                remedy="expected at least 1, a share in [0, 1) and at least 3",
            )
        self.path, self.variable = Path(path), variable
        self.batch_size, self.validation, self.statistics = batch_size, validation, statistics
        self.memory_gib, self.num_workers, self.seed, self.sample_axis = memory_gib, num_workers, seed, sample_axis

    def setup(self, stage: str) -> None:
        """Open the file and check its metadata."""
        dataset = open_dataset(self.path)
        if self.variable not in dataset:
            self._refuse_variable(dataset)
        array = dataset[self.variable]
        if array.dtype.kind not in "iufc":
            raise refusal(self.path, self.variable, f"values of type {array.dtype}", "numbers")
        if self.sample_axis not in array.dims or len(array.dims) < 2:
            known = [str(dim) for dim in array.dims]
            raise InfieldError(
                where=f"{self.path}: '{self.variable}'",
                found=f"dimensions ({', '.join(known)})",
                expected=f"({self.sample_axis}, [{CHANNEL},] *space)",
                remedy="name the dimension that numbers the fields: {sample_axis}",
                parameters={"sample_axis": "time" if "time" in known else known[0]},
            )
        if self.sample_axis != SAMPLE:
            dataset = dataset.drop_vars(self.sample_axis, errors="ignore").rename({self.sample_axis: SAMPLE})
            array = dataset[self.variable]
        space = [str(name) for name in array.dims if name not in (SAMPLE, CHANNEL)]
        dataset = with_increasing_axes(dataset, space)
        array = dataset[self.variable]
        self.grid = self._where(dataset, array, space)
        self.grid_description = self.grid.to_json()
        self.units = units_of(self.path, array, self.variable)
        self.channels = channel_names(self.path, array, self.variable)
        stored = {name: dataset.attrs.get(name) for name in FACTS}
        self.facts = {name: float(value) for name, value in stored.items() if isinstance(value, Real)}
        order = [SAMPLE, *([CHANNEL] if CHANNEL in array.dims else []), *space]
        held_out = int(self.validation * array.sizes[SAMPLE])
        count = array.sizes[SAMPLE] - held_out
        if count < max(3, self.batch_size):
            raise refusal(
                self.path,
                self.variable,
                f"{count} samples to train on",
                f"at least {max(3, self.batch_size)}, one batch",
                "lower `batch_size` or give more samples",
            )
        array = array.transpose(*order)
        if array.nbytes <= self.memory_gib * 2**30:
            array = array.load()
        self.training = FieldSamples(self.path, array, range(count))
        self.held_out = FieldSamples(self.path, array, range(count, count + held_out))

    def _refuse_variable(self, dataset: xr.Dataset) -> NoReturn:
        known = sorted(map(str, dataset.data_vars))
        fields = [name for name in known if SAMPLE in dataset[name].dims and dataset[name].ndim > 1]
        if not fields:
            names = ", ".join(known) or "no variable"
            raise refusal(self.path, self.variable, "no such variable", f"a field ({SAMPLE}, *space) beside {names}")
        raise InfieldError(
            where=f"{self.path}: '{self.variable}'",
            found="no such variable",
            expected=f"one of {', '.join(known)}",
            remedy="name it: {training_variable}",
            parameters={"training_variable": fields[0]},
        )

    def _where(self, dataset: xr.Dataset, array: xr.DataArray, space: list[str]) -> Grid | PointSet:
        """Domain of the fields of a variable, from the coordinates of its space dimensions."""
        return grid_from_dataset(self.path, dataset, space)

    def examples(self) -> Tensor:
        """At most `statistics` training fields in units, shape `(examples, channel, *space)`."""
        count = len(self.training)
        return self.training[np.linspace(0, count - 1, min(count, self.statistics)).astype(int).tolist()]

    def train_dataloader(self) -> DataLoader[Tensor]:
        def epoch() -> int:
            return self.trainer.current_epoch if self.trainer else 0

        order = EpochOrder(len(self.training), self.seed, epoch)
        return self._loader(self.training, sampler=order, drop_last=True)

    def val_dataloader(self) -> DataLoader[Tensor] | list[Any]:
        return self._loader(self.held_out) if len(self.held_out) else []

    def _loader(self, samples: FieldSamples, **settings: Any) -> DataLoader[Tensor]:
        settings.update(num_workers=self.num_workers, persistent_workers=self.num_workers > 0)
        return DataLoader(samples, self.batch_size, collate_fn=default_convert, **settings)


class FieldSamples(Dataset[Tensor]):
    """Some samples of a variable; a batch is one read."""

    def __init__(self, path: Path, array: xr.DataArray, samples: range) -> None:
        self.path, self.array, self.samples = path, array, samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, indices: list[int]) -> Tensor:
        """Fields of shape `(len(indices), channel, *space)`, in the order of the indices."""
        wanted = np.asarray(self.samples)[indices]
        ordered, back = np.unique(wanted, return_inverse=True)  # files are read fastest, some only, in increasing order
        values = np.asarray(self.array.isel({SAMPLE: ordered}).values)[back]
        whole = np.isfinite(values).reshape(len(values), -1).all(1)
        if not whole.all():
            raise refusal(
                self.path, str(self.array.name), f"NaN or infinity in sample {wanted[~whole][0]}", "finite values"
            )
        if values.dtype.kind == "c":
            values = np.stack([values.real, values.imag], axis=1)
        elif CHANNEL not in self.array.dims:
            values = values[:, None]
        return torch.from_numpy(values if values.dtype.kind == "f" else values.astype(_exact(values.dtype)))

    __getitems__ = __getitem__


def _exact(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    """The smallest precision that holds all integers of a type; float64 for those of 64 bits."""
    return np.float32 if dtype.itemsize <= 2 else np.float64


class EpochOrder(Sampler[int]):
    """Every sample once an epoch, in an order that depends on seed and epoch alone."""

    def __init__(self, count: int, seed: int, epoch: Callable[[], int]) -> None:
        # The epoch is read from the trainer: `set_epoch` of Lightning 2.6 is one behind in a run that was resumed.
        self.count, self.seed, self.epoch = count, seed, epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng((self.seed, self.epoch())).permutation(self.count).tolist())


def open_dataset(path: Path) -> xr.Dataset:
    """Open a zarr group, netCDF or HDF5 file lazily; coordinates stay the numbers of the file.

    Raises:
        InfieldError: Nothing is there, or xarray cannot read it.
    """
    if not path.exists():
        raise InfieldError(
            where=path, found="nothing there", expected="a zarr group, netCDF or HDF5 file", remedy="check the path"
        )
    try:
        if path.is_dir():
            return xr.open_zarr(path, consolidated=False, chunks=None, decode_times=False)
        return xr.open_dataset(path, chunks=None, decode_times=False)
    except Exception as error:  # xarray passes on whatever its engines raise
        reason = str(error).strip().split("\n")[0]
        raise InfieldError(
            where=path,
            found=f"something that cannot be read ({type(error).__name__}: {reason})",
            expected="a zarr group, netCDF or HDF5 file",
        ) from error


def grid_from_dataset(path: Path, dataset: xr.Dataset, dims: list[str]) -> Grid:
    """The grid of some dimensions of a dataset, from their coordinates.

    Raises:
        InfieldError: A coordinate is missing, has no units, or is not strictly increasing.
    """
    axes = []
    for name in dims:
        if name not in dataset.coords or dataset[name].dtype.kind not in "iuf":
            raise refusal(path, name, "no coordinate of numbers for this dimension", "its positions, with their units")
        coordinate = dataset[name]
        periodic = coordinate.attrs.get("periodic", 0)
        if periodic not in (0, 1):
            raise refusal(path, f"{name}.periodic", repr(periodic), "0 or 1")
        positions = tuple(snap(coordinate.values).tolist())
        try:
            axes.append(Axis(name, positions, units_of(path, coordinate, name), bool(periodic)))
        except InfieldError as error:
            raise error.within(path) from error
    return Grid(tuple(axes))


def units_of(path: Path, array: xr.DataArray, name: str) -> str:
    """The attribute `units` of a variable; InfieldError where it has none."""
    units = array.attrs.get("units")
    if not isinstance(units, str):
        raise refusal(path, f"{name}.units", repr(units), "its units as text, '1' for none")
    return units


def channel_names(path: Path, array: xr.DataArray, name: str) -> tuple[str, ...]:
    """Channels of a variable: those that its coordinate `channel` names, or numbered; real and imag of complex values.

    Raises:
        InfieldError: Complex values have a dimension `channel`.
    """
    if array.dtype.kind == "c":
        if CHANNEL in array.dims:
            raise refusal(path, name, f"complex values with a dimension {CHANNEL}", "complex values or channels")
        return COMPLEX_CHANNELS
    if CHANNEL not in array.dims:
        return (name,)
    if CHANNEL in array.coords:
        meanings = array[CHANNEL].attrs.get("flag_meanings")
        if isinstance(meanings, str) and len(meanings.split()) == array.sizes[CHANNEL]:
            return tuple(meanings.split())
    return tuple(f"{name}_{i}" for i in range(array.sizes[CHANNEL]))
