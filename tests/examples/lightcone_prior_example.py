"""A small prior of lightcones with random weights: it knows nothing of the universe, but it can be drawn from."""

from __future__ import annotations

import numpy as np
import torch

from infield.datasets.cm21.cosmology import cosmology, redshifts_of
from infield.priors.cm21.density_network import DensityNetwork
from infield.priors.cm21.emulator import Emulator
from infield.priors.cm21.initial_density import InitialDensity
from infield.priors.cm21.linear_correction import LinearCorrection
from infield.priors.cm21.prior import LightconePrior
from infield.priors.cm21.prior_entry import to_entry
from infield.priors.cm21.slice_spectra import SliceSpectra
from infield.priors.cm21.slice_statistics import SliceStatistics
from infield.priors.cm21.voxel_transform import VoxelTransform
from infield.priors.networks.local_unet import LocalUNet

CELL = 4.0
RANGES = {"ION_Tvir_MIN": (4.0, 6.0), "HII_EFF_FACTOR": (10.0, 250.0)}


def emulator(points=4):
    density = InitialDensity(torch.tensor([-2.0, 1.0]), torch.tensor([1.0, -1.0]), finer=2, points=points)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = DensityNetwork(density.seen, told=23, encoder=8, widths=(8,))
        torch.nn.init.normal_(network.head.weight, std=0.3)
    return Emulator(network=network.eval().requires_grad_(False), density=density, provenance={"prior": "none"})


def prior(points=4, depth=12, seed=0, distance=9000.0, with_emulator=False):
    distances = distance + CELL * np.arange(depth)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = LocalUNet(channels=2, inputs=10, numbers=2, widths=(4,))
        for parameter in network.head.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        statistics = SliceStatistics(2, 2, width=4)
        spectra = SliceSpectra(2, 2, width=4)
    return LightconePrior(
        name="small",
        network=network.eval().requires_grad_(False),
        statistics=statistics.eval().requires_grad_(False),
        spectra=spectra.eval().requires_grad_(False),
        repeats=None,
        linear_part=LinearCorrection(2, 2, width=4).eval().requires_grad_(False),
        drawn=SliceSpectra(2, 1, width=4).eval().requires_grad_(False),
        transform=VoxelTransform("linear", -10.0, 20.0, fill=False),
        ranges=RANGES,
        cell=CELL,
        points=(points, points),
        distance=distances,
        redshift=redshifts_of(distances, cosmology()),
        provenance={"data": "none"},
        emulator=emulator(points) if with_emulator else None,
    )


def save(path, **changes):
    torch.save({"infield_lightcones": to_entry(prior(**changes))}, path)
    return path
