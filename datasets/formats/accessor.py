"""`dataset.infield` of posteriors that xarray holds: quantiles over the samples, and a plot of mean and spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.physics.units import conversion


@xr.register_dataset_accessor("infield")
class PosteriorAccessor:
    """Methods of a posterior beyond its variables.

    Arguments:
        dataset: A posterior, of `infield.open_posterior`, `infield.reconstruct` or `xarray.open_zarr`.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def quantile(self, q: float | Sequence[float]) -> xr.DataArray:
        """Quantiles of the samples, point by point, with coordinates and units.

        They are order statistics of n samples in the definition of Weibull, at probabilities i / (n + 1): a new draw
        lies below one with that probability.

        Arguments:
            q: One or more probabilities, in [1 / (n + 1), n / (n + 1)].

        Returns:
            The field, with a dimension `quantile` where several are given.

        Raises:
            InfieldError: The dataset has no samples, or too few for a probability.
        """
        samples = self._samples()
        n, levels = samples.sizes["sample"], np.atleast_1d(np.asarray(q, dtype=float))
        least = 1 / (n + 1)
        if levels.size == 0 or not ((levels >= least - 1e-12) & (levels <= 1 - least + 1e-12)).all():
            raise InfieldError(
                where="quantile",
                found=f"q {q} for {n} samples",
                expected=f"probabilities from {least:.3g} to {1 - least:.3g}",
                remedy="draw more samples for more extreme ones",
            )
        samples = samples.chunk({"sample": -1}) if samples.chunks else samples
        found = samples.quantile(q, dim="sample", method="weibull", keep_attrs=True)
        return found.rename("quantile_of_samples")

    def interval(self, probability: float = 0.9) -> xr.DataArray:
        """Ends of the central interval of a probability, along the dimension `quantile`."""
        return self.quantile([(1 - probability) / 2, (1 + probability) / 2])

    def to(self, units: str) -> xr.Dataset:
        """The posterior in other units, e.g. "km h-1", as pint and UDUNITS spell them.

        Values are scaled and shifted, standard deviations scaled; variables of other units stay as they are.

        Arguments:
            units: Of the same quantity.

        Returns:
            A new dataset.

        Raises:
            InfieldError: The dataset has no samples, or no factor leads from its units to these.
        """
        old = str(self._samples().attrs.get("units", "1"))
        convert, changed = conversion(old, units), {}
        for name, variable in self._dataset.data_vars.items():
            if variable.attrs.get("units") != old:
                continue
            values = convert.slope * variable + (0.0 if str(name).endswith("std") else convert.offset)
            changed[name] = values.astype(variable.dtype).assign_attrs({**variable.attrs, "units": units})
        return self._dataset.assign(changed)

    @property
    def trusted(self) -> str:
        """Statement of how far the posterior may be trusted."""
        verdict, because = (self._dataset.attrs.get(name) for name in ("trusted", "trusted_because"))
        return "unchecked" if verdict is None else f"{ {0: 'no', 1: 'yes'}.get(verdict, verdict) }: {because}"

    def plot(self, channel: int | str = 0) -> Any:
        """Mean and standard deviation side by side, or along one axis the mean with its 90 % interval.

        Arguments:
            channel: Index or name, where the field has several.

        Returns:
            The matplotlib figure.

        Raises:
            InfieldError: The field has more than two axes.
        """
        from matplotlib import pyplot  # takes a while to import

        mean: Any
        std: Any
        mean, std = (self._channel(self._dataset[name], channel) for name in ("mean", "std"))
        if mean.ndim == 1 and mean.dims[0] in mean.coords:
            figure, ax = pyplot.subplots(layout="constrained")
            x = mean[mean.dims[0]].values
            low, high = self._channel(self.interval(), channel).transpose("quantile", ...).values
            ax.fill_between(x, low, high, alpha=0.25, linewidth=0, label="90 % interval")
            mean.plot(ax=ax, label="mean")
            ax.legend()
            return figure
        if mean.ndim != 2:
            raise InfieldError(
                where="plot",
                found=f"a field on {mean.dims}",
                expected="one or two axes",
                remedy="select a slice with .isel first",
            )
        figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
        mean.plot(ax=axes[0], robust=True)
        std.plot(ax=axes[1], robust=True, cmap="cividis")
        for ax, name in zip(axes, ("mean", "standard deviation"), strict=True):
            ax.set_title(name)
        return figure

    def _samples(self) -> xr.DataArray:
        if "samples" not in self._dataset or "sample" not in self._dataset["samples"].dims:
            raise InfieldError(
                where="dataset.infield",
                found=f"the variables {sorted(map(str, self._dataset.data_vars))}",
                expected="a posterior with samples",
            )
        return self._dataset["samples"]

    def _channel(self, array: xr.DataArray, channel: int | str) -> xr.DataArray:
        if "channel" not in array.dims:
            return array
        names = str(array["channel"].attrs.get("flag_meanings", "")).split() if "channel" in array.coords else []
        if isinstance(channel, str):
            if channel not in names:
                raise InfieldError(where="channel", found=repr(channel), expected=f"one of {', '.join(names)}")
            channel = names.index(channel)
        return array.isel(channel=channel)
