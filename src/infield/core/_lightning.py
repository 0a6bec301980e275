"""lightning, imported after torchvision was mended, which torchmetrics imports (`core.torchvision_remedy`)."""
# ruff: noqa: E402

from infield.core.torchvision_remedy import import_torchvision_first

import_torchvision_first()

from lightning.pytorch import LightningDataModule as LightningDataModule
from lightning.pytorch import LightningModule as LightningModule
from lightning.pytorch import Trainer as Trainer
from lightning.pytorch import seed_everything as seed_everything
from lightning.pytorch.callbacks import Callback as Callback
from lightning.pytorch.callbacks import ModelCheckpoint as ModelCheckpoint
from lightning.pytorch.callbacks import RichProgressBar as RichProgressBar
from lightning.pytorch.callbacks import WeightAveraging as WeightAveraging
from lightning.pytorch.cli import ArgsType as ArgsType
from lightning.pytorch.cli import LightningArgumentParser as LightningArgumentParser
from lightning.pytorch.cli import LightningCLI as LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException as MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only as rank_zero_only
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig as OptimizerLRSchedulerConfig
