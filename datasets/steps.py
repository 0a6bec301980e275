"""For a training that makes its own examples: an epoch is so many steps, whose batches are their numbers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from infield import InfieldError, import_torchvision_first

import_torchvision_first()
from lightning.pytorch import LightningDataModule  # noqa: E402


class Steps(LightningDataModule):
    """Numbers of steps.

    Arguments:
        steps: Of an epoch.
        validation: Steps of a validation.
    """

    def __init__(self, steps: int = 128, validation: int = 1) -> None:
        super().__init__()
        if steps < 1 or validation < 0:
            raise InfieldError(
                f"steps: found {steps} of an epoch, {validation} of a validation; expected 1 and 0 or more"
            )
        self.steps, self.validation = steps, validation

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(TensorDataset(torch.arange(self.steps)), batch_size=1)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(TensorDataset(torch.arange(self.validation)), batch_size=1)
