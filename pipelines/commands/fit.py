"""`infield fit`: train a prior or a surrogate from a YAML file. Lightning's command line, averaged, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentError

from infield.core._lightning import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    LightningDataModule,
    LightningModule,
    MisconfigurationException,
    ModelCheckpoint,
    RichProgressBar,
    rank_zero_only,
)
from infield.core.errors import InfieldError
from infield.core.local_path import local_path
from infield.datasets.formats import output_lock
from infield.pipelines.package_data import config_path
from infield.pipelines.run.fit_callbacks import Epochs, SameData
from infield.pipelines.run.fit_errors import explained
from infield.pipelines.run.fit_notices import without_notices
from infield.priors.denoiser_check import KEY, check_denoiser
from infield.priors.storage.checkpoint import export_prior, load_flow_prior, read_entry_of_any_kind
from infield.priors.training.flow_matching import AveragedWeights

CONFIG = ("-c", "--config")
LAST = "last.ckpt"
"""Name of the checkpoint in a run's directory from which it resumes."""


class FitCommand(LightningCLI):
    """Adds two callbacks to Lightning's command line, and what is done before and after the training.

    `checkpoint` writes `last.ckpt` to the run's directory (`trainer.default_root_dir`), from which `--ckpt_path last`
    resumes; `average` keeps the exponential moving average of the weights, which is what a prior's file holds.
    """

    exported: Path | None = None
    """The slim checkpoint, once it is written."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(AveragedWeights, "average")
        parser.set_defaults(
            {
                "trainer.default_root_dir": "runs/prior",
                "trainer.gradient_clip_val": 1.0,
                # One file, written at the end of every epoch. Not the callback's own `save_last`: it also writes after
                # training has put the averaged weights in place of the current ones, from which it could not resume.
                "checkpoint.filename": LAST.removesuffix(".ckpt"),
                "checkpoint.enable_version_counter": False,
            }
        )
        parser.link_arguments("trainer.default_root_dir", "checkpoint.dirpath")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse options; refuse a checkpoint to resume from that is corrupt or another's, in one line."""
        try:
            # Lightning's own method warns where arguments are passed although the process has some; ours are the same.
            self.config = parser.parse_args(args)  # type: ignore[arg-type]
        except ArgumentError as error:
            raise explained(str(error)) from error
        options = self.config.fit
        for name in ("max_steps", "max_epochs"):
            if options.trainer[name] == 0:
                raise InfieldError(where=f"--trainer.{name}", found=0, expected="at least 1, or -1 for no limit")
        checkpoint = str(options.ckpt_path or "")
        directory = local_path(options.trainer.default_root_dir)
        if checkpoint not in ("", "last"):
            read_entry_of_any_kind(checkpoint)
        elif checkpoint and (directory / LAST).exists():
            read_entry_of_any_kind(directory / LAST)
        rank_zero_only(output_lock.acquire)(directory / LAST)  # of several processes of one run the first

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; an error of ours comes out as it is, not wrapped in the parser's."""
        try:
            super().instantiate_classes()
        except (MisconfigurationException, ModuleNotFoundError) as error:
            raise _misconfigured(error) from error
        except ValueError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, InfieldError):
                cause = cause.__cause__ or cause.__context__
            raise cause or error from None
        for i, callback in enumerate(self.trainer.callbacks):  # type: ignore[attr-defined]
            if type(callback) is RichProgressBar:
                self.trainer.callbacks[i] = Epochs()  # type: ignore[attr-defined]
        self.trainer.callbacks.append(SameData())  # type: ignore[attr-defined]

    def after_fit(self) -> None:
        """Leave the prior or the surrogate alone in a file of its own, `prior.ckpt` or `surrogate.ckpt`."""
        directory = Path(self.trainer.default_root_dir)
        if self.trainer.is_global_zero and (directory / LAST).exists():
            kind, _ = read_entry_of_any_kind(directory / LAST)
            about = {}
            if kind == "prior":
                check = check_denoiser(load_flow_prior(directory / LAST))
                about = {KEY: check.to_json()}
                print(f"denoiser: {check}")
            self.exported = export_prior(directory / LAST, directory / f"{kind}.ckpt", overwrite=True, about=about)
            print(f"{kind}: {self.exported}")


def run(argv: list[str]) -> int:
    """Train as `train` does; return the exit status."""
    train(argv)
    return 0


def train(argv: Sequence[str]) -> Path | None:
    """Train by the options, e.g. `["--config", "fit.yaml", "--trainer.max_steps", "1000"]`.

    Returns:
        The slim checkpoint, where this process wrote it.

    Raises:
        InfieldError: The data or the checkpoint to resume from are not as expected.
        KeyboardInterrupt: The training was interrupted; its last checkpoint is whole.
    """
    one_line = {"allow_abbrev": False, "exit_on_error": False}
    try:
        with without_notices():
            command = FitCommand(
                LightningModule,
                LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                seed_everything_default=0,
                save_config_kwargs={"overwrite": True},
                parser_kwargs={"prog": "infield", **one_line, "fit": one_line},
                args=["fit", *_with_config_files(argv)],
            )
    except MisconfigurationException as error:
        raise _misconfigured(error) from error
    except SystemExit as leaving:
        if isinstance(leaving.__context__, KeyboardInterrupt):  # Lightning leaves with status 1
            raise KeyboardInterrupt from None
        raise
    finally:
        output_lock.release_all()
    return command.exported


def _misconfigured(error: Exception) -> InfieldError:
    """Lightning's error about impossible settings, e.g. an accelerator that is absent, in one line."""
    return InfieldError(" ".join(str(error).split()).rstrip("!"), where="the trainer")


def _with_config_files(argv: Sequence[str]) -> list[str]:
    """The options with the path of a configuration in place of its name, `--config unet_2d`."""
    found = list(argv)
    for i, word in enumerate(found):
        option, equals, value = word.partition("=")
        if option in CONFIG and equals:
            found[i] = f"{option}={config_path(value)}"
        elif option in CONFIG and i + 1 < len(found):
            found[i + 1] = str(config_path(found[i + 1]))
    return found
