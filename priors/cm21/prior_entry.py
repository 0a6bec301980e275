"""What a checkpoint stores of a prior of lightcones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core.registry import StoredKind, entry_key
from infield.priors.cm21 import emulator as lightcone_emulator
from infield.priors.cm21 import voxel_transform
from infield.priors.cm21.box_repeats import BoxRepeatNetwork
from infield.priors.cm21.linear_correction import LinearCorrection
from infield.priors.cm21.prior import LightconePrior
from infield.priors.cm21.slice_network import from_parts, to_parts
from infield.priors.cm21.slice_spectra import SliceSpectra
from infield.priors.cm21.slice_statistics import SliceStatistics
from infield.priors.networks.local_unet import LocalUNet
from infield.priors.storage.checkpoint import load_checkpoint
from infield.priors.storage.network import build_network, network_description

KIND = "lightcones"
ENTRY = entry_key(KIND)
VERSION = 4


def to_entry(prior: LightconePrior, weights: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """What a checkpoint stores: nested dictionaries of tensors, numbers and text.

    Arguments:
        prior: The prior.
        weights: Of its network, where others than its own are to be stored.
    """
    weights = prior.network.state_dict() if weights is None else weights
    return {
        "version": VERSION,
        "name": prior.name,
        "network": network_description(prior.network),
        "weights": {name: value.detach().cpu() for name, value in weights.items()},
        "statistics": to_parts(prior.statistics),
        "spectra": to_parts(prior.spectra),
        "repeats": None if prior.repeats is None else to_parts(prior.repeats),
        "linear_part": to_parts(prior.linear_part),
        "drawn": to_parts(prior.drawn),
        "transform": voxel_transform.to_entry(prior.transform),
        "ranges": {name: list(span) for name, span in prior.ranges.items()},
        "cell": prior.cell,
        "points": list(prior.points),
        "distance": torch.from_numpy(np.array(prior.distance)),
        "redshift": torch.from_numpy(np.array(prior.redshift)),
        "provenance": dict(prior.provenance),
    } | ({"emulator": lightcone_emulator.to_entry(prior.emulator)} if prior.emulator else {})


def from_entry(entry: Mapping[str, Any], network: LocalUNet | None = None, *, sha256: str = "") -> LightconePrior:
    """The inverse of `to_entry`.

    Arguments:
        entry: What `to_entry` returned.
        network: A network to use as it is; without one it is built and gets the stored weights.
        sha256: Digest of the file.
    """
    if network is None:
        built = build_network(entry["network"])
        assert isinstance(built, LocalUNet)
        network = built
        network.load_state_dict(dict(entry["weights"]))
        network.eval().requires_grad_(False)
    nx, ny = entry["points"]
    return LightconePrior(
        name=entry["name"],
        network=network,
        statistics=from_parts(SliceStatistics, entry["statistics"]),
        spectra=from_parts(SliceSpectra, entry["spectra"]),
        repeats=None if entry["repeats"] is None else from_parts(BoxRepeatNetwork, entry["repeats"]),
        linear_part=from_parts(LinearCorrection, entry["linear_part"]),
        drawn=from_parts(SliceSpectra, entry["drawn"]),
        transform=voxel_transform.from_entry(entry["transform"]),
        ranges={name: (float(low), float(high)) for name, (low, high) in entry["ranges"].items()},
        cell=float(entry["cell"]),
        points=(int(nx), int(ny)),
        distance=entry["distance"].numpy(),
        redshift=entry["redshift"].numpy(),
        provenance={**entry["provenance"], "sha256": sha256} if sha256 else entry["provenance"],
        emulator=lightcone_emulator.from_entry(entry["emulator"]) if "emulator" in entry else None,
        sha256=sha256,
    )


def load_lightcone_prior(path: str | Path, device: torch.device | str = "cpu") -> LightconePrior:
    """Load a prior of lightcones from its checkpoint; no other file is needed.

    Raises:
        InfieldError: The file is missing or corrupt, holds no such prior, is of a newer version, or a part is missing.
    """
    prior: LightconePrior = load_checkpoint(path, KIND, device)
    return prior


STORED = StoredKind(KIND, VERSION, to_entry, from_entry, placement="context")
