"""Tables and gridded fields that are given in memory, in place of files."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import xarray as xr


@dataclass(frozen=True)
class Given:
    """Data in memory.

    Arguments:
        values: A table, or a dataset whose times are numbers as CF writes them.
        name: What messages and the history of the result call it.
    """

    values: pd.DataFrame | xr.Dataset
    name: str

    def __str__(self) -> str:
        return self.name

    @classmethod
    def table(cls, frame: pd.DataFrame) -> Given:
        """Columns, and the index where its levels have names."""
        named = [name for name in frame.index.names if name is not None]
        whole = frame.reset_index(level=named) if named else frame
        return cls(whole.reset_index(drop=True).rename(columns=str), "the table")

    @classmethod
    def fields(cls, data: xr.Dataset | xr.DataArray) -> Given:
        """A dataset, or one variable, as a file would hold it without packing."""
        dataset = (data.to_dataset(name=data.name or "field") if isinstance(data, xr.DataArray) else data).load()
        coordinates = list(dataset.coords)
        variables, about = xr.conventions.cf_encoder(dataset.drop_encoding().variables, dataset.attrs)
        stored = xr.Dataset(variables, attrs=about)
        return cls(xr.decode_cf(stored, decode_times=False).set_coords(coordinates), "the dataset")
