"""Training on a family of measurements: fields are measured anew in every batch, by random operators.

The fingerprints of the family are surveyed before training, so that the trained model stores the range for which it is
valid.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn

from infield.core._lightning import LightningModule, OptimizerLRSchedulerConfig
from infield.core.errors import InfieldError
from infield.priors.amortised.base import AmortisedModel
from infield.priors.base import Standardisation
from infield.priors.storage.network import network_description
from infield.priors.training.common import (
    VALIDATION,
    adamw_with_cosine,
    batch_generator,
    resumable_entry,
    standard_normal,
    training_record,
)

N_FINGERPRINT_DRAWS = 2048
"""Number of operators drawn before training to find the range of their fingerprints."""


@runtime_checkable
class Family(Protocol):
    """A family of linear operators, e.g. one of `datasets.training.operator_families`."""

    def draw(self, grid: Any, channels: int, generator: Generator) -> Any:
        """Draw one operator at random."""
        ...

    def numbers(self, operator: Any) -> tuple[str, dict[str, float]]:
        """Return the name and the fingerprint of an operator."""
        ...


def survey(family: Family, grid: Any, channels: int, generator: Generator) -> dict[str, Any]:
    """Return the name of a family's operators, `operator`, and the range of each fingerprint number, `numbers`.

    Raises:
        InfieldError: They are of several kinds.
    """
    seen = [family.numbers(family.draw(grid, channels, generator)) for _ in range(N_FINGERPRINT_DRAWS)]
    names = {name for name, _ in seen}
    if len(names) != 1:
        raise InfieldError(where="family of operators", found=sorted(names), expected="operators of one kind")
    ranges = {key: [min(n[key] for _, n in seen), max(n[key] for _, n in seen)] for key in seen[0][1]}
    return {"operator": names.pop(), "numbers": ranges}


@dataclass(frozen=True)
class MeasuredBatch:
    """Some fields that one operator measured.

    Arguments:
        x_1: The fields, standardised, shape `(batch, channel, *space)`, float32.
        operator: A.
        y: Data, shape `(batch, *data)`, 0 where nothing is observed.
        noise: s, standard deviation of the noise of this measurement, standardised.
    """

    x_1: Tensor
    operator: Any
    y: Tensor
    noise: float


def measured(
    family: Family, grid: Any, x_1: Tensor, noise: tuple[float, float], noiseless: float, generator: Generator
) -> MeasuredBatch:
    """Measure fields by one operator of a family, with noise from a range.

    Arguments:
        family: Family of operators.
        grid: Domain of the fields.
        x_1: Fields, shape `(batch, channel, *space)`.
        noise: Least and greatest standard deviation.
        noiseless: Fraction of the measurements without noise.
        generator: On the CPU.
    """
    operator = family.draw(grid, x_1.shape[1], generator).to(x_1)
    share, between = torch.rand(2, generator=generator).tolist()
    s = 0.0 if share < noiseless else noise[0] + between * (noise[1] - noise[0])
    clean = operator.A(x_1)
    n = standard_normal(clean.shape, clean, generator)
    if operator.observed is not None:
        n = n * operator.observed.to(clean)
    return MeasuredBatch(x_1, operator, clean + s * n, s)


def standardisation_of(fields: Tensor) -> Standardisation:
    """Mean of each channel, and one scale for all, so that operators keep their closed forms.

    Raises:
        InfieldError: There is one value only.
    """
    shift = fields.mean((0, *range(2, fields.ndim))).reshape(-1, *[1] * (fields.ndim - 2))
    scale = (fields - shift).square().mean().sqrt().expand(shift.shape).clone()
    if not scale.min() > 0:
        raise InfieldError(where="training fields", found="one value only", expected="fields that vary")
    return Standardisation(shift, scale)


class FamilyTraining(LightningModule):
    """Base of the trainings of an `AmortisedModel` on the fields of a data module; subclasses define model and
    loss.

    Arguments:
        network: Network to train.
        family: Family of operators.
        noise: Least and greatest standard deviation of the noise, in standard deviations of the field.
        noiseless: Fraction of the measurements without noise.
        operators: Operators per batch.
        learning_rate: Peak learning rate of AdamW; a cosine reduces it to a hundredth over a run of known length.
        warmup: Steps of linear warm-up.
        weight_decay: Weight decay of AdamW.
        seed: Random seed; operators, noise and all else random derive from seed, epoch and batch.

    Raises:
        InfieldError: The network or a number is not as expected.
    """

    what: ClassVar[str]
    """Name in messages."""
    entry: ClassVar[str]
    """Key of the checkpoint entry."""
    fixed: ClassVar[tuple[str, ...]] = ("network", "noise", "serves", "grid", "units", "channels")
    """Parts of the entry that must agree when a run is resumed."""
    model: Any

    def __init__(
        self,
        network: nn.Module,
        family: Any,
        noise: tuple[float, float],
        noiseless: float,
        operators: int,
        learning_rate: float,
        warmup: int,
        weight_decay: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.description = network_description(network)
        if not 0 <= noiseless <= 1 or not 0 <= noise[0] <= noise[1] or operators < 1:
            raise InfieldError(
                where=self.what,
                found=f"noise {tuple(noise)}, noiseless {noiseless:g}, operators {operators}",
                remedy="expected increasing numbers of at least 0, a share from 0 to 1, and at least one operator",
            )
        if not isinstance(family, Family):
            raise InfieldError(where=self.what, found=f"the family {family!r}", expected="one with draw and numbers")
        self.network, self.family, self.seed = network, family, seed
        self.noise, self.noiseless, self.operators = (float(noise[0]), float(noise[1])), noiseless, operators
        self.learning_rate, self.warmup, self.weight_decay = learning_rate, warmup, weight_decay

    def expect_network(self, channels: int, inputs: int, times: int) -> None:
        """Refuse a network of other sizes.

        Arguments:
            channels: Channels of the fields.
            inputs: Channels of what goes in.
            times: Numbers that go in.
        """
        arguments = self.description["arguments"]
        found = (arguments["channels"], arguments.get("inputs") or arguments["channels"], arguments.get("times", 1))
        if found != (channels, inputs, times):
            raise InfieldError(
                where=f"network of a {self.what}",
                found=f"channels {found[0]}, inputs {found[1]}, times {found[2]}",
                expected=f"{channels}, {inputs} and {times} for these fields",
            )

    def setup(self, stage: str) -> None:
        """Measure the training fields, and survey the family of operators."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        fields = data.examples().to(torch.float64)
        self.grid = data.grid
        generator = batch_generator(self.seed, VALIDATION + 1, 0, self.global_rank)
        kind = {"kind": self.what, "family": repr(self.family), "seed": self.seed, "examples": len(fields)}
        facts: dict[str, Any] = {
            "name": f"{self.what}, {self.description['name']}",
            "network": self.network,
            "event_shape": tuple(fields.shape[1:]),
            "noise": (0.0 if self.noiseless else self.noise[0], self.noise[1]),
            "serves": survey(self.family, data.grid, fields.shape[1], generator),
            "grid_description": data.grid_description,
            "units": data.units,
            "channels": data.channels,
            "provenance": kind,
        }
        self.model = self.make(fields, facts)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.loss(batch, batch_generator(self.seed, self.current_epoch, batch_idx, self.global_rank))
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        loss = self.loss(batch, batch_generator(self.seed, VALIDATION, batch_idx, self.global_rank))
        self.log("validation_loss", loss, prog_bar=True, batch_size=len(batch), sync_dist=True)

    def measured_parts(self, fields: Tensor, generator: Generator) -> Iterator[MeasuredBatch]:
        """The fields of a batch, each part of them measured by an operator of its own."""
        x_1 = self.model.standardisation.from_units(fields).float()
        for part in x_1.split(-(-len(x_1) // self.operators)):
            yield measured(self.family, self.grid, part, self.noise, self.noiseless, generator)

    @abstractmethod
    def make(self, fields: Tensor, facts: dict[str, Any]) -> AmortisedModel:
        """Return the model to train.

        Arguments:
            fields: Training fields in units, shape `(examples, channel, *space)`, float64.
            facts: Arguments of an `AmortisedModel`, all but its standardisation.
        """

    @abstractmethod
    def loss(self, fields: Tensor, generator: Generator) -> Tensor:
        """Mean loss of fields `(batch, channel, *space)` in units, with random numbers of a CPU generator."""

    @abstractmethod
    def to_entry(self, model: Any, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entry of the model in a checkpoint of Lightning, with the weights of that checkpoint."""

    @abstractmethod
    def from_entry(self, entry: Mapping[str, Any]) -> AmortisedModel:
        """The model that a checkpoint stores, with the network of this run."""

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        return adamw_with_cosine(self, self.learning_rate, self.weight_decay, self.warmup)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the model; the averaging callback has already swapped in the averaged weights."""
        training = training_record(self.trainer, checkpoint)
        model = replace(self.model, provenance={**self.model.provenance, "training": training})
        checkpoint[self.entry] = self.to_entry(model, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the standardisation of the first run."""
        every = self.to_entry(self.model, {"state_dict": self.state_dict()})
        now = {key: every[key] for key in self.fixed}
        entry = resumable_entry(checkpoint, self.entry, now, f"that of a {self.what}")
        self.model = self.from_entry(entry)
