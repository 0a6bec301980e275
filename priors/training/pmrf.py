r"""Training a posterior-mean rectified flow (`priors.amortised.rectified_flow`), the second of PMRF's two stages.

"Posterior-Mean Rectified Flow: Towards Minimum MSE Photo-Realistic Image Restoration" (Ohayon, Michaeli & Elad 2025,
arXiv:2410.00418), algorithm 1. The first stage, f(y) = E[x_1 | y] by least squares, is
`priors.training.common.posterior_mean`, whose file is read here and stays as it is; the second is

.. math:: \min_v E |v(x_t, t) - (x_1 - x_0)|^2,   x_0 = f(y) + \sigma_s e,   x_t = t x_1 + (1 - t) x_0,

with t uniform, stratified over a batch as in the authors' code.

| paper | here |
| --- | --- |
| Z_0 = X* + sigma_s eps, Z_1 = X; t = 0 and 1 | x_0, x_1; likewise |
| one degradation | operators of a family and a range of noise: the data y include which it was |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn

from infield.core.errors import InfieldError
from infield.priors.amortised.average_velocity import outside_training_range
from infield.priors.amortised.rectified_flow import ENTRY, RectifiedFlow, from_entry, to_entry
from infield.priors.amortised.unrolled import load_unrolled
from infield.priors.training.common import network_weights, standard_normal
from infield.priors.training.measurement_family import FamilyTraining, MeasuredBatch


class PMRF(FamilyTraining):
    """Trains the flow of a `RectifiedFlow` on fields of a data module, measured anew in every batch.

    Arguments:
        network: A `priors.networks.unet.UNet` or `priors.networks.mlp.Perceptron` of as many channels as the data.
        mean: Checkpoint of an unrolled network (`unrolled.ckpt`), f. It defines the operators and the noise.
        family: Which operators.
        noise: Least and greatest standard deviation of the noise, in standard deviations of the field.
        noiseless: Fraction of the measurements without noise.
        spread: sigma_s, in standard deviations of the field. The laws of x_0 and x_1 must be ones that a flow can join;
            what is added costs square error.
        operators: Operators per batch.
        learning_rate: Peak learning rate of AdamW; a cosine reduces it to a hundredth over a run of known length.
        warmup: Steps of linear warm-up.
        weight_decay: Weight decay of AdamW.
        seed: Random seed; operators, noise, sources and times derive from seed, epoch and batch.
    """

    what = "posterior-mean rectified flow"
    entry = ENTRY
    fixed = (*FamilyTraining.fixed, "spread")
    model: RectifiedFlow

    def __init__(
        self,
        network: nn.Module,
        mean: str,
        family: Any,
        noise: tuple[float, float] = (0.0, 0.1),
        noiseless: float = 0.0,
        spread: float = 0.1,
        operators: int = 4,
        learning_rate: float = 5e-4,
        warmup: int = 100,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(network, family, noise, noiseless, operators, learning_rate, warmup, weight_decay, seed)
        if not spread > 0:
            raise InfieldError(where=self.what, found=f"spread {spread:g}", expected="one above 0")
        self.mean, self.spread = mean, float(spread)

    def make(self, fields: Tensor, facts: dict[str, Any]) -> RectifiedFlow:
        channels = fields.shape[1]
        self.expect_network(channels, channels, 1)
        f = load_unrolled(self.mean)
        found = (f.event_shape, f.units, f.grid_description)
        if found != (facts["event_shape"], facts["units"], facts["grid_description"]):
            raise InfieldError(
                where=self.mean,
                found=f"an estimate of fields of shape {f.event_shape} in '{f.units}'",
                expected=f"the grid, shape {facts['event_shape']}, and units '{facts['units']}' of these fields",
            )
        scale, served = float(f.standardisation.scale.flatten()[0]), facts["serves"]
        for end, noise in enumerate(facts["noise"]):
            numbers = {name: ends[end] for name, ends in served["numbers"].items()}
            reason = outside_training_range(f, served["operator"], numbers, scale * noise)  # type: ignore[arg-type]
            if reason:
                raise InfieldError(f"it was not trained for this family: {reason}", where=self.mean)
        facts["provenance"] = {**facts["provenance"], "mean": f.sha256}
        return RectifiedFlow(**facts, standardisation=f.standardisation, mean=f, spread=self.spread)

    def on_fit_start(self) -> None:
        """f is no part of this module, which is trained: it goes along by hand."""
        self.model.mean.to(self.device)

    def loss(self, fields: Tensor, generator: Generator) -> Tensor:
        with torch.no_grad():
            parts = [(part.x_1, self.source_of(part, generator)) for part in self.measured_parts(fields, generator)]
        x_1, x_0 = (torch.cat(both) for both in zip(*parts, strict=True))
        # algorithm 1, training, stage 2
        n = len(x_1)
        t = ((torch.arange(n) + torch.rand(n, generator=generator)) / n)[torch.randperm(n, generator=generator)].to(x_1)
        t_ = t.reshape(-1, *[1] * (x_1.ndim - 1))
        error = self.model.velocity(t_ * x_1 + (1 - t_) * x_0, t) - (x_1 - x_0)
        return error.square().mean()

    def source_of(self, part: MeasuredBatch, generator: Generator) -> Tensor:
        """x_0 = f(y) + sigma_s e, shape of x_1."""
        e = standard_normal(part.x_1.shape, part.x_1, generator)
        return self.model.mean.estimate(part.operator, part.y, part.noise) + self.spread * e

    def to_entry(self, model: RectifiedFlow, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
        return to_entry(model, network_weights(checkpoint))

    def from_entry(self, entry: Mapping[str, Any]) -> RectifiedFlow:
        return from_entry(entry, self.network)
