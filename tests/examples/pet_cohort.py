"""A small file of `infield simulate pet` without a scanner: regional means of the law, images painted from them."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from infield.core.grid import Axis, Grid
from infield.datasets.formats.simulation import SimulationWriter, Variable
from infield.datasets.pet.amyloid_law import AmyloidLaw
from infield.datasets.pet.brain_regions import GROUPS, NAMES, nearest_region, volume_places
from infield.datasets.pet.phantom import QUANTITIES

GRID = Grid(
    tuple(Axis(k, tuple(np.arange(a, b, 24.0)), "mm") for k, a, b in (("z", -36, 61), ("y", -96, 73), ("x", -60, 61)))
)
LAW = AmyloidLaw(groups=GROUPS)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def labels():
    """Region of each voxel of the grid."""
    return nearest_region(volume_places(*(np.array(axis.coordinates) for axis in GRID.axes)))


def write_cohort(path, n=512):
    """Write it; returns baseline, follow-up `(n, regions)` and years."""
    years = 0.5 + 4 * torch.rand(n, generator=rng(), dtype=torch.float64)
    baseline, follow_up, _ = LAW.pairs(n, years, rng(1))
    regions, quantities = (("region", len(NAMES)),), (("quantity", len(QUANTITIES)),)
    variables = [Variable(name, "image") for name in ("baseline", "follow_up", "grey", "white")]
    variables += [Variable(f"{k}_regions", k, axes=regions) for k in ("baseline", "follow_up")]
    place = labels()
    masks = torch.nn.functional.one_hot(place, len(NAMES)).movedim(-1, 0).double()
    weights = masks / masks.flatten(1).sum(1).clamp_min(1).reshape(-1, 1, 1, 1)
    writer = SimulationWriter(
        path,
        grid=GRID,
        variables=[*variables, Variable("subject", "numbers", axes=quantities)],
        samples=n,
        block=n,
        run={"kind": "pet", "parameters": {}, "seed": 0, "synthetic": 1},
        coordinates={
            "region": xr.Variable("region", np.array(NAMES)),
            "quantity": xr.Variable("quantity", np.array(QUANTITIES)),
            "region_weights": xr.Variable(("region", "z", "y", "x"), weights.float().numpy()),
        },
    )
    subject = torch.zeros(n, len(QUANTITIES), dtype=torch.float64)
    subject[:, QUANTITIES.index("years")] = years
    fields = {"baseline": baseline[:, place], "baseline_regions": baseline, "follow_up_regions": follow_up}
    fields |= {"follow_up": follow_up[:, place], "grey": torch.full((n, *place.shape), 0.6, dtype=torch.float64)}
    fields["white"] = fields["grey"] / 2
    writer.write_block(0, {name: values.numpy() for name, values in {**fields, "subject": subject}.items()})
    writer.finish()
    return baseline, follow_up, years
