"""Trains a prior, a surrogate or an amortised posterior from a YAML configuration, by Lightning's command line.

    infield fit --config unet_2d --data.init_args.path DATA.zarr --trainer.default_root_dir runs/first
    infield fit --config unet_2d --data.init_args.path DATA.zarr --trainer.default_root_dir runs/first --ckpt_path last
    infield fit --config unet_2d --print_config

`infield list configs` names the shipped configurations. Every key of a configuration is an option:
--model.init_args.KEY, --data.init_args.KEY, --trainer.KEY (of lightning.Trainer), --checkpoint.KEY, --average.KEY;
--help-all lists them. The folder of the run gets `last.ckpt`, from which --ckpt_path last resumes, and in the end
`prior.ckpt` or `surrogate.ckpt`.
"""

from __future__ import annotations

from collections.abc import Sequence

from infield.pipelines.run.options import Parser, add_common

HELP, HELP_ALL = ("-h", "--help"), "--help-all"


def add_arguments(parser: Parser) -> None:
    """Add the most common options; the parser of a run is Lightning's, which reads more of them."""
    add = parser.add_argument
    add("-c", "--config", metavar="CONFIG", help="a YAML file, or a name that `infield list configs` shows")
    add("--data.init_args.path", metavar="DATA.zarr", help="fields to train on, e.g. of `infield simulate`")
    add("--trainer.default_root_dir", metavar="FOLDER", help="folder of the run (default runs/prior)")
    add("--trainer.max_steps", type=int, metavar="N", help="optimiser steps")
    add("--trainer.accelerator", metavar="NAME", help="cpu, gpu, ... (default auto)")
    add("--ckpt_path", metavar="last|FILE.ckpt", help="checkpoint to resume from; last: that of the run's folder")
    add("--seed_everything", type=int, metavar="N", help="seed of all random numbers (default 0)")
    add("--print_config", action="store_true", help="print the configuration with all values, and leave")
    add(HELP_ALL, action="store_true", help="print every option of Lightning's command line, and leave")


def run(argv: Sequence[str]) -> int:
    """Print the help, or train as `fit.train` does; return the exit status."""
    if any(word in HELP for word in argv):
        parser = Parser(prog="infield fit", description=__doc__)
        add_arguments(parser)
        add_common(parser)
        print(parser.format_help(), end="")
        return 0
    from infield.pipelines.commands.fit import run as train  # not for --help

    return train(["--help" if word == HELP_ALL else word for word in argv])
