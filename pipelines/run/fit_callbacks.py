"""What `infield fit` adds to Lightning's callbacks: the data of a checkpoint, and a count of epochs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from infield.core._lightning import Callback, LightningModule, RichProgressBar, Trainer
from infield.core.errors import InfieldError


class SameData(Callback):
    """Stores a digest of the training data in checkpoints, and refuses to resume from one of other data.

    The digest is of the number of samples and of three of them, first, middle and last; of the number alone where
    samples are drawn anew each time.
    """

    digest: str | None = None
    resumed: str | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare, once the model's own `setup` has made of the data what it trains on."""
        with torch.random.fork_rng(devices=[]):  # data that are drawn anew leave the training's numbers as they are
            self.digest = digest_of_data(trainer)
        if None not in (self.resumed, self.digest) and self.resumed != self.digest:
            raise InfieldError(
                where="checkpoint to resume from",
                found="other training data",
                expected="those of its run",
                remedy="resume with the same data, or start afresh in another directory",
            )

    def state_dict(self) -> dict[str, Any]:
        return {"digest": self.digest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.resumed = state_dict.get("digest")


class Epochs(RichProgressBar):
    """Lightning's progress bar, without a number of epochs where the steps are what is limited."""

    def _get_train_description(self, current_epoch: int) -> str:
        limit = self.trainer.max_epochs
        text = f"Epoch {current_epoch}" + ("" if limit in (None, -1) else f"/{limit - 1}")
        return text.ljust(len(self.validation_description))


def digest_of_data(trainer: Trainer) -> str | None:
    """A digest of the training data; None where they have no number."""
    data: Any = getattr(trainer, "datamodule", None)
    if data is None:
        return None
    dataset = getattr(data.train_dataloader(), "dataset", None)
    try:
        count = len(dataset)  # type: ignore[arg-type]
    except TypeError:
        return None
    first, again = _digest(dataset, count), _digest(dataset, count)
    return first if first == again else f"{count} samples"


def _digest(dataset: Any, count: int) -> str:
    found = hashlib.sha256(f"{count}".encode())
    chosen = [0, count // 2, count - 1] if count else []
    many = getattr(dataset, "__getitems__", None)
    for array in _arrays(many(chosen) if many is not None else [dataset[i] for i in chosen]):
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, torch.Tensor):
        yield value.detach().cpu().numpy()
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _arrays(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _arrays(entry)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from _arrays(getattr(value, name))
    else:
        with suppress(ValueError, TypeError):
            yield np.asarray(value, dtype=np.float64)
