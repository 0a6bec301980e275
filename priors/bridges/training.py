r"""Training of a bridge of regional vectors: the mean of the follow-up given its counts, equation (4) of
`priors.bridges.bridge`.

.. math:: L = E\, w(\tau) \lVert D(B_\tau, \tau, c) - x_f \rVert^2,

in the modes of the Gaussian model of the change and over the variance that this model leaves (`regions.bridge_loss`):
any weight has the conditional mean as its only minimum. tau is log-uniform over the clock; a tenth of the pairs has
tau = 0, which is the regression of the follow-up on the baseline.
"""

from __future__ import annotations

import copy
import math
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from infield.core._lightning import LightningModule, OptimizerLRSchedulerConfig
from infield.core.errors import InfieldError
from infield.priors.bridges.bridge import BridgePrior
from infield.priors.bridges.clocks import geometric_clock
from infield.priors.bridges.image_law import ImagePairs, fit_image_law
from infield.priors.bridges.region_bridge import ENTRY, RegionBridge, make_channel, to_entry
from infield.priors.bridges.regions import ChangeModel, RegionContext, RegionDenoiser, bridge_loss
from infield.priors.storage.network import network_description
from infield.priors.training.common import (
    VALIDATION,
    adamw_with_cosine,
    batch_generator,
    network_weights,
    training_record,
)


@runtime_checkable
class RegionTrainingPairs(Protocol):
    """Interface of the trainer's data module; its batches are (baselines, follow-ups, years)."""

    regions: tuple[str, ...]
    units: str
    synthetic: bool
    provenance: dict[str, Any]

    def examples(self) -> tuple[Tensor, Tensor, Tensor]:
        """Training pairs `(pairs, regions)` and years `(pairs,)`, to which the Gaussian model is fitted."""
        ...


@runtime_checkable
class HoldsImages(Protocol):
    """Interface of a data module whose pairs are of images; the law of voxels needs one."""

    def images(self, n: int) -> ImagePairs:
        """Images of the first n subjects, to which the law of voxels is fitted."""
        ...


class BridgeMatching(LightningModule):
    """Trains a network to the mean of the follow-up given the state of a channel.

    Arguments:
        network: A `Perceptron` on the regions, with 2 inputs and 2 times: 1 channel for the mean, 2 for the dispersion
            too, whose draws take compound steps.
        channel: "poisson" or "brownian".
        s: Standard deviation of the Brownian channel's increments of unit length.
        clock: First and last tau, and the number of steps in which draws are taken.
        regression_fraction: Fraction of the pairs with tau = 0; 1 for a regression alone.
        learning_rate: Peak learning rate of AdamW; a cosine reduces it to a hundredth over a run of known length.
        warmup: Steps of linear warm-up.
        weight_decay: Weight decay of AdamW.
        seed: Of tau and of the counts.
        balance: Share of the loss in which every region counts alike, 0 to 1 (`regions.bridge_loss`).
        images: Subjects to whose images the law of voxels is fitted (`priors.bridges.image_law`); 0 for none.
    """

    def __init__(
        self,
        network: nn.Module,
        channel: str = "poisson",
        s: float = 1.0,
        clock: tuple[float, float, int] = (0.5, 2e4, 120),
        regression_fraction: float = 0.1,
        learning_rate: float = 1e-3,
        warmup: int = 100,
        weight_decay: float = 0.0,
        seed: int = 0,
        images: int = 0,
        balance: float = 0.0,
    ) -> None:
        super().__init__()
        self.network, self.channel = network, make_channel(channel, s)
        self.description = network_description(network)
        self.clock = geometric_clock(clock[0], clock[1], int(clock[2]))
        if not 0 <= regression_fraction <= 1:
            raise InfieldError(
                where="bridge: regression_fraction", found=f"{regression_fraction!r}", expected="a fraction"
            )
        if images < 0:
            raise InfieldError(where="bridge: images", found=images, expected="a number of subjects, or 0")
        if not 0 <= balance <= 1:
            raise InfieldError(where="bridge: balance", found=f"{balance!r}", expected="a fraction")
        self.balance = balance
        self.regression_fraction, self.seed, self.images = regression_fraction, seed, images
        self.learning_rate, self.warmup, self.weight_decay = learning_rate, warmup, weight_decay

    def setup(self, stage: str) -> None:
        """Fit the Gaussian model of the change to the training pairs."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, RegionTrainingPairs):
            raise InfieldError(where="data of a bridge", found=type(data).__name__, expected="pairs, e.g. RegionPairs")
        found, expected = self.description["arguments"].get("shape"), [len(data.regions)]
        if found != expected:
            raise InfieldError(
                where=f"network {self.description['name']}",
                found=f"shape {found}",
                expected=f"{expected} as the pairs have regions",
            )
        change = ChangeModel.fit(*data.examples(), self.channel)
        self.denoiser = RegionDenoiser(change, self.network, positive=self.channel.name == "poisson")
        self.data = data
        if self.images and not isinstance(data, HoldsImages):
            raise InfieldError(
                where="bridge: images",
                found=f"{self.images} subjects, and {type(data).__name__} without images",
                expected="0, or pairs of images",
            )
        self.image_law = fit_image_law(data.images(self.images)) if self.images else None  # type: ignore[attr-defined]

    def loss(self, batch: list[Tensor], number: int, epoch: int) -> Tensor:
        """Mean over the batch; 1 for the Gaussian model alone, if it is right."""
        x_b, x_f, years = (values.float() for values in batch)
        generator = batch_generator(self.seed, epoch, number, self.trainer.global_rank)
        uniform = torch.rand(2, len(x_b), generator=generator)
        low, high = math.log(self.clock[0] / 2), math.log(self.clock[-1])
        tau = torch.exp(low + (high - low) * uniform[0]) * (uniform[1] >= self.regression_fraction)
        prior = BridgePrior(self.channel, self.denoiser, self.clock)
        state = prior.corrupt(x_f.cpu(), tau[:, None], generator).to(x_f)
        return bridge_loss(self.denoiser, state, tau.to(x_f), x_f, RegionContext(x_b, years), self.balance).mean()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch, batch_idx, self.current_epoch)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        loss = self.loss(batch, batch_idx, VALIDATION)
        self.log("validation_loss", loss, prog_bar=True, batch_size=len(batch[0]), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        return adamw_with_cosine(self, self.learning_rate, self.weight_decay, self.warmup)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the bridge. The callback that averages has already put its weights in place."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(network_weights(checkpoint))
        denoiser = RegionDenoiser(self.denoiser.change, network.eval(), self.denoiser.positive)
        bridge = RegionBridge(
            denoiser,
            self.channel,
            self.clock,
            tuple(self.data.regions),
            self.data.units,
            self.data.synthetic,
            {**self.data.provenance, "training": training_record(self.trainer, checkpoint)},
            "compound" if denoiser.disperses else "plain",
            images=self.image_law,
        )
        checkpoint[ENTRY] = to_entry(bridge)
