"""A trained bridge of regional vectors: what a checkpoint holds of it, and draws of follow-ups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.registry import StoredKind, entry_key
from infield.priors.bridges.bridge import BridgePrior, Steps
from infield.priors.bridges.channels import BrownianChannel, Channel, PoissonChannel
from infield.priors.bridges.image_law import ImageLaw
from infield.priors.bridges.regions import ChangeModel, RegionContext, RegionDenoiser
from infield.priors.storage.network import build_network, network_description, with_plugins

KIND = "bridge"
ENTRY = entry_key(KIND)
VERSION = 1

MAX_ROWS = 4096
"""Follow-ups that are drawn at once."""


@dataclass(frozen=True)
class RegionBridge:
    """A law of regional follow-ups given a baseline and years.

    Arguments:
        denoiser: Mean of the follow-up given the state.
        channel: Poisson or Brownian.
        clock: Steps of tau.
        regions: Names of the values, in their order.
        units: Of the values.
        synthetic: Whether it was trained on synthetic data; every output records it.
        provenance: Record of data and training, in JSON types.
        steps: Plain, or compound where the network has a dispersion.
        sha256: Digest of the file.
        images: Law of the voxels of an image given its regional means; None for regional means alone.
    """

    denoiser: RegionDenoiser
    channel: Channel
    clock: tuple[float, ...]
    regions: tuple[str, ...]
    units: str
    synthetic: bool
    provenance: dict[str, Any]
    steps: Steps = "plain"
    sha256: str = ""
    images: ImageLaw | None = None

    @property
    def years(self) -> tuple[float, float]:
        """Range of the intervals of its training."""
        return self.denoiser.change.years

    @property
    def prior(self) -> BridgePrior:
        """As a bridge."""
        return BridgePrior(self.channel, self.denoiser, self.clock, self.steps)

    def to(self, device: torch.device | str) -> RegionBridge:
        """The same, its network run elsewhere."""
        self.denoiser.network.to(device)
        return self

    def predict(self, x_b: Tensor, years: Tensor | float) -> Tensor:
        """E[x_f | x_b, years]: the denoiser before any count, `(subjects, regions)`."""
        context = self._context(x_b, years)
        with torch.no_grad():
            return self.denoiser(torch.zeros_like(x_b), 0.0, context).mean

    def sample(
        self, x_b: Tensor, years: Tensor | float, n: int, generator: Generator, *, extrapolate: bool = False
    ) -> Tensor:
        """Draw n follow-ups for each baseline.

        Arguments:
            x_b: Baselines, `(subjects, regions)`, in `units`.
            years: To the follow-up, a number or `(subjects,)`.
            n: Draws.
            generator: Random numbers.
            extrapolate: Take years beyond the range of training.

        Returns:
            `(subjects, n, regions)`.

        Raises:
            InfieldError: Another number of regions, or years that are not above 0 or beyond the range of training.
        """
        context = self._context(x_b, years)
        low, high = self.years
        if not (context.years > 0).all():
            raise InfieldError(where="bridge: years", found=f"{float(context.years.min()):g}", expected="above 0")
        if not extrapolate and not ((context.years >= low - 1e-6) & (context.years <= high + 1e-6)).all():
            raise InfieldError(
                where="bridge: years",
                found=f"{float(context.years.min()):g} to {float(context.years.max()):g}",
                expected=f"the range of training, {low:.3g} to {high:.3g}",
                remedy="allow it by {extrapolate}",
                parameters=["extrapolate"],
            )
        drawn = []
        for rows in torch.arange(len(x_b), device=x_b.device).split(max(1, MAX_ROWS // n)):
            many = RegionContext(x_b[rows], context.years[rows]).repeat(n)
            drawn.append(self.prior.sample(many.x_b, many, generator).reshape(len(rows), n, -1))
        return torch.cat(drawn)

    def _context(self, x_b: Tensor, years: Tensor | float) -> RegionContext:
        if x_b.ndim != 2 or x_b.shape[1] != len(self.regions):
            raise InfieldError(
                where="bridge: baseline",
                found=f"shape {tuple(x_b.shape)}",
                expected=f"a row of {len(self.regions)} regions for each subject",
            )
        return RegionContext(x_b, torch.as_tensor(years, dtype=x_b.dtype, device=x_b.device).expand(len(x_b)))


def make_channel(name: str, s: float = 1.0) -> Channel:
    """A channel by its name; `s` is of the Brownian one.

    Raises:
        InfieldError: There is no such channel.
    """
    if name == PoissonChannel.name:
        return PoissonChannel()
    if name == BrownianChannel.name:
        return BrownianChannel(s)
    raise InfieldError(where="bridge: channel", found=f"{name!r}", expected="poisson or brownian")


def to_entry(bridge: RegionBridge) -> dict[str, Any]:
    """Return the checkpoint entry: nested dictionaries of tensors, numbers and text."""
    network = network_description(bridge.denoiser.network)
    change = bridge.denoiser.change
    return {
        "version": VERSION,
        "values": "regions",
        "network": network,
        "weights": {k: v.detach().cpu() for k, v in bridge.denoiser.network.state_dict().items()},
        "change": {
            f.name: list(v) if isinstance(v := getattr(change, f.name), tuple) else v for f in fields(ChangeModel)
        },
        "channel": {"name": bridge.channel.name, **asdict(bridge.channel)},  # type: ignore[call-overload]
        "clock": list(bridge.clock),
        "steps": bridge.steps,
        "regions": list(bridge.regions),
        "units": bridge.units,
        "synthetic": bridge.synthetic,
        "provenance": with_plugins(bridge.provenance, network),
        **({} if bridge.images is None else {"images": bridge.images.to_entry()}),
    }


def from_entry(entry: Mapping[str, Any], sha256: str = "") -> RegionBridge:
    """The inverse of `to_entry`.

    Raises:
        InfieldError: The network or the channel has an unknown name.
    """
    network = build_network(entry["network"])
    network.load_state_dict(dict(entry["weights"]))
    network.eval().requires_grad_(False)
    parts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry["change"].items()}
    change = ChangeModel(**parts)
    channel = make_channel(**entry["channel"])
    return RegionBridge(
        RegionDenoiser(change, network, positive=channel.name == PoissonChannel.name),
        channel,
        tuple(entry["clock"]),
        tuple(entry["regions"]),
        entry["units"],
        bool(entry["synthetic"]),
        dict(entry["provenance"]),
        entry.get("steps") or "plain",  # files of before the dispersion
        sha256,
        ImageLaw.from_entry(entry["images"]) if "images" in entry else None,
    )


STORED = StoredKind(KIND, VERSION, to_entry, from_entry)
