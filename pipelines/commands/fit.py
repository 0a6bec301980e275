"""`infield fit`: train a prior or a surrogate from a YAML file. Lightning's command line, averaged, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from infield.core._lightning import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    LightningDataModule,
    LightningModule,
    ModelCheckpoint,
)
from infield.core.errors import InfieldError
from infield.pipelines.package_data import config_path
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
        # Lightning's own method warns where arguments are passed although the process has some; ours are the same.
        self.config = parser.parse_args(args)  # type: ignore[arg-type]
        options = self.config.fit
        asked = str(options.ckpt_path or "")
        last = Path(options.trainer.default_root_dir) / LAST
        if asked == "last" and last.exists():
            read_entry_of_any_kind(last)
        elif asked.endswith(".ckpt"):
            read_entry_of_any_kind(asked)

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; an error of ours comes out as it is, not wrapped in the parser's."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, InfieldError):
                cause = cause.__cause__ or cause.__context__
            raise cause or error from None

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
        SystemExit: With status 2, for options and configuration files that are not.
    """
    command = FitCommand(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"prog": "infield", "allow_abbrev": False, "fit": {"allow_abbrev": False}},
        args=["fit", *_with_config_files(argv)],
    )
    return command.exported


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
