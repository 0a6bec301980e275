"""Positions made ready for the search of neighbours: an order of their own, no ties, no contradiction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.posterior.kriging.law import JITTER, StationaryLaw
from infield.posterior.kriging.observations import Observations

SHIFT = 1e-7
"""Part of the extent by which positions are moved for the search of neighbours."""


@dataclass(frozen=True)
class Places:
    """Points in an order that does not depend on how they were listed.

    Arguments:
        order: The point at each place of the order, shape `(n,)`.
        embedded: E(x) in that order, float64, shape `(n, D)`; covariances are of these.
        search: The same, moved by a part in 10^7 of the extent, shape `(n, D)`: on grids whole sets of points are
            equally far away, and which of them are nearest must depend on their order and not on rounding.
    """

    order: np.ndarray
    embedded: Tensor
    search: np.ndarray

    @classmethod
    def of(cls, law: StationaryLaw, x: Tensor, *keys: Tensor) -> Places:
        """For positions x, shape `(n, ndim)`; points at one position are ordered by the keys, each of shape `(n,)`."""
        columns = [column.double().cpu().numpy() for column in (*x.unbind(1), *keys)]
        order = np.lexsort(columns[::-1])
        embedded = law.embed(x.double().cpu()[torch.from_numpy(order)])
        n, D = embedded.shape
        extent = float((embedded.amax(0) - embedded.amin(0)).max()) if n else 0.0
        shifts = np.random.default_rng(0).uniform(-0.5, 0.5, (n, D))
        return cls(order, embedded, embedded.numpy() + SHIFT * (extent or 1.0) * shifts)


def settled(law: StationaryLaw, data: Observations) -> tuple[Places, Observations]:
    """Data in the order of their places; of data without noise at one place that agree, the first is kept.

    Raises:
        InfieldError: Two data without noise at one place contradict each other.
    """
    columns = (data.y, data.noise)
    data = Observations(*(part.double().cpu() for part in (data.x, data.y, data.noise, data.design)))
    places = Places.of(law, data.x, *columns)
    data = data.at(torch.from_numpy(places.order))
    exact = np.flatnonzero((data.noise <= JITTER * law.variance).numpy())
    if len(exact) < 2:
        return places, data
    _, first, which = np.unique(
        np.round(places.embedded.numpy()[exact], 9), axis=0, return_index=True, return_inverse=True
    )
    kept = exact[first[which.ravel()]]
    apart = (data.y[exact] - data.y[kept]).abs() > 1e-6 * law.variance**0.5
    if apart.any():
        i = int(apart.nonzero()[0, 0])
        position = ", ".join(f"{value:.6g}" for value in data.x[exact[i]].tolist())
        raise InfieldError(
            where="data",
            found=f"{float(data.y[kept[i]]):.6g} and {float(data.y[exact[i]]):.6g} without noise at ({position})",
            expected="one value at one place",
            remedy="give the noise a variance",
        )
    remain = np.setdiff1d(np.arange(len(data)), np.setdiff1d(exact, kept))
    index = torch.from_numpy(remain)
    return Places(places.order[remain], places.embedded[index], places.search[remain]), data.at(index)
