r"""Training an unrolled network (`priors.amortised.unrolled`) on the square error, whose least value is at the
posterior mean.

.. math:: \min_f E |f(y) - x_1|^2,   f(y) = E[x_1 | y].

It is MoDL's training (Aggarwal, Mani & Jacob 2019, arXiv:1712.02862), end to end through all K steps, over a family of
operators and a range of noise; and the first of the two stages of PMRF (`priors.training.common.pmrf`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn

from infield.core.errors import InfieldError
from infield.priors.amortised.unrolled import ENTRY, Unrolled, from_entry, to_entry
from infield.priors.training.common import network_weights
from infield.priors.training.measurement_family import FamilyTraining, standardisation_of

NUMBERS = 2
"""The step and the noise."""


class PosteriorMean(FamilyTraining):
    """Trains an `Unrolled` on fields of a data module, measured anew in every batch.

    Arguments:
        network: A `priors.networks.unet.UNet` or `priors.networks.mlp.Perceptron` with `inputs` three times the
            channels of the data and `times: 2`.
        family: Family of operators.
        noise: Least and greatest standard deviation of the noise, in standard deviations of the field.
        noiseless: Fraction of the measurements without noise.
        steps: K, evaluations of the network an estimate.
        operators: Operators per batch.
        learning_rate: Peak learning rate of AdamW; a cosine reduces it to a hundredth over a run of known length.
        warmup: Steps of linear warm-up.
        weight_decay: Weight decay of AdamW.
        seed: Random seed; operators and noise derive from seed, epoch and batch.
    """

    what = "unrolled network"
    entry = ENTRY
    model: Unrolled

    def __init__(
        self,
        network: nn.Module,
        family: Any,
        noise: tuple[float, float] = (0.0, 0.1),
        noiseless: float = 0.0,
        steps: int = 4,
        operators: int = 4,
        learning_rate: float = 5e-4,
        warmup: int = 100,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(network, family, noise, noiseless, operators, learning_rate, warmup, weight_decay, seed)
        if steps < 1:
            raise InfieldError(where=self.what, found=f"steps {steps}", expected="at least 1")
        self.log_variances = nn.Parameter(torch.zeros(steps + 1))  # of a standardised field, before training

    def make(self, fields: Tensor, facts: dict[str, Any]) -> Unrolled:
        channels = fields.shape[1]
        self.expect_network(channels, 3 * channels, NUMBERS)
        variances = self.log_variances.detach().exp()
        return Unrolled(**facts, standardisation=standardisation_of(fields), variances=variances)

    def loss(self, fields: Tensor, generator: Generator) -> Tensor:
        variances = self.log_variances.exp()
        squares = []
        for part in self.measured_parts(fields, generator):
            x_K = self.model.estimate(part.operator, part.y, part.noise, variances=variances)
            squares.append((x_K - part.x_1).square())
        return torch.cat(squares).mean()

    def to_entry(self, model: Unrolled, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
        variances = checkpoint["state_dict"]["log_variances"].exp().cpu()
        return {**to_entry(model, network_weights(checkpoint)), "variances": variances}

    def from_entry(self, entry: Mapping[str, Any]) -> Unrolled:
        if len(entry["variances"]) != len(self.log_variances):
            raise InfieldError(
                where="checkpoint to resume from",
                found=f"{len(entry['variances']) - 1} steps",
                expected=f"{len(self.log_variances) - 1} as this run has",
                remedy="use the run's own configuration, or start afresh in another directory",
            )
        return from_entry(entry, self.network)
