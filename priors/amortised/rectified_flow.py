r"""A posterior-mean rectified flow, as a file holds it: an estimate of the posterior mean, and a flow on from there.

"Posterior-Mean Rectified Flow: Towards Minimum MSE Photo-Realistic Image Restoration" (Ohayon, Michaeli & Elad 2025,
arXiv:2410.00418). With f(y) = E[x_1 | y],

.. math:: x_0 = f(y) + \sigma_s e,   x_t = t x_1 + (1 - t) x_0,   v(x, t) = E[x_1 - x_0 | x_t = x],

the flow of v carries the law of x_0 to the law of the fields. The flow is a function of x_t alone, not of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from infield.core.registry import StoredKind, entry_key
from infield.priors.amortised import unrolled
from infield.priors.amortised.base import AmortisedModel, arguments_from_entry, entry_of, network_of
from infield.priors.amortised.unrolled import Unrolled
from infield.priors.storage.checkpoint import load_checkpoint

KIND = "pmrf"
ENTRY = entry_key(KIND)
VERSION = 1


@dataclass(frozen=True, kw_only=True, repr=False)
class RectifiedFlow(AmortisedModel):
    """v on standardised fields. Arguments as `AmortisedModel`, and:

    Arguments:
        mean: f, in the same standardised units.
        spread: sigma_s, standard deviation of what is added to f(y), in standardised units.
    """

    mean: Unrolled
    spread: float

    papers: ClassVar[tuple[str, ...]] = ("ohayon2025pmrf",)
    what: ClassVar[str] = "a posterior-mean rectified flow"
    sampler: ClassVar[str] = "pmrf"

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """v(x, t), shape of x; x `(batch, channel, *space)`, t `(batch,)`."""
        weight = next(self.network.parameters())
        return self.network(x.to(weight), t.to(weight)).to(x)

    def to(self, device: torch.device | str) -> RectifiedFlow:
        """A copy whose networks run elsewhere."""
        return replace(self, network=self.network.to(device), mean=self.mean.to(device))


def to_entry(model: RectifiedFlow, weights: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """Return the checkpoint entry. Arguments as of `base.entry_of`."""
    mean = unrolled.to_entry(model.mean)
    return {"version": VERSION, **entry_of(model, weights), "mean": mean, "spread": model.spread}


def from_entry(entry: Mapping[str, Any], network: nn.Module | None = None, *, sha256: str = "") -> RectifiedFlow:
    """The inverse of `to_entry`.

    Arguments:
        entry: Result of `to_entry`.
        network: A network to use as it is; without one it is built and gets the stored weights.
        sha256: Digest of the file.
    """
    network = network_of(entry) if network is None else network
    mean, spread = unrolled.from_entry(entry["mean"]), float(entry["spread"])
    return RectifiedFlow(**arguments_from_entry(entry), network=network, mean=mean, spread=spread, sha256=sha256)


def load_rectified_flow(path: str | Path, device: torch.device | str = "cpu") -> RectifiedFlow:
    """Load a posterior-mean rectified flow from its checkpoint; no other file is needed, and nothing in it is executed.

    Arguments:
        path: A checkpoint of `infield fit`, or the slim file that it leaves beside it (`pmrf.ckpt`).
        device: Device of the networks.

    Raises:
        InfieldError: As `read_entry`; or a part is missing or of another shape.
    """
    model: RectifiedFlow = load_checkpoint(path, KIND, device)
    return model


STORED = StoredKind(KIND, VERSION, to_entry, from_entry, placement="training grid")
