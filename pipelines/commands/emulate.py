"""New fields from a prior: draws of a learned or described one, lightcones at parameters, follow-ups of a scan.

    infield emulate --prior PRIOR.ckpt --samples 64 -o fields.zarr
    infield emulate --prior matern.yaml --like measurement.zarr --samples 64 -o fields.zarr
    infield emulate --prior PRIOR.ckpt --params params.yaml --samples 800 -o ensemble.zarr
    infield emulate --prior PRIOR.ckpt --params params.yaml --redshift-range 8 12 --points 64 -o wide.zarr
    infield emulate --prior pet_bridge --from pet.zarr --index 7 --samples 59 -o future.zarr --report future.html

The prior decides which options apply. A prior of fields draws on the grid of its training, or on that of --like: a
Gaussian prior and a mixture exactly, a learned one by its flow in --steps. Lightcones: params.yaml is one point (NAME:
VALUE, by 21cmFAST's names, one line per parameter), ranges (NAME: [LOW, HIGH]) for a Latin hypercube, or a list of
points that share --samples evenly, in their order; where the prior's file holds an emulator, it draws, in one network
call per lightcone, and --steps takes the flow. Follow-ups: --from is the baseline, SUVR in MNI152. What lies outside
the range of training is refused; --extrapolate allows it, and the file records it. Draw number i depends on the seed, i
and the conditions alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from infield.core import registry
from infield.core.errors import InfieldError
from infield.pipelines.package_data import checkpoint_named
from infield.pipelines.run.names import BUILT_IN_PRIORS
from infield.pipelines.run.options import Parser
from infield.pipelines.run.run_options import add_run_arguments

GROUP = "emulators"
FIELDS = "prior"
"""The kind of a prior of fields, which may also be a description."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--prior",
        required=True,
        metavar="PRIOR",
        help="checkpoint, description (.yaml), or a name that `infield list priors` shows",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="OUTPUT.zarr", help="what is drawn, a new file")
    parser.add_argument("--extrapolate", action="store_true", help="take conditions outside the range of training")
    parser.add_argument(
        "--device", default="auto", help="where networks run: auto, cpu, cuda, cuda:1 ... (default auto)"
    )
    parser.add_argument("--steps", type=int, metavar="N",
                        help="steps of a flow, one network call each (default: the prior's own)")  # fmt: skip
    for kind, entry in registry.table(GROUP).items():
        registry.load(GROUP, kind).add_arguments(parser.add_argument_group(entry.help))
    parser.rename("--redshift", "--redshift-range")
    add_run_arguments(parser, samples=64)


def run(arguments: argparse.Namespace) -> int:
    from infield.priors.storage.checkpoint import read_entry_of_any_kind

    kinds = registry.names(GROUP)
    if str(arguments.prior) in BUILT_IN_PRIORS:
        raise InfieldError(
            where=f"--prior {arguments.prior}",
            found="one that is fitted to a measurement",
            expected="a checkpoint or a description (.yaml)",
            remedy="give its name to `infield reconstruct`, with the measurement",
        )
    if str(arguments.prior).endswith((".yaml", ".yml")):
        kind = FIELDS
    else:
        arguments.prior = checkpoint_named(arguments.prior)
        kind, _ = read_entry_of_any_kind(arguments.prior, " or ".join(kinds))
    if kind not in kinds:
        raise InfieldError(
            where=arguments.prior,
            found=f"a checkpoint that is a {kind}",
            expected=f"{' or '.join(kinds)}, from which fields are drawn",
            remedy="what was trained for measurements draws given one, by `infield reconstruct`",
        )
    for other in kinds:
        _refuse(registry.load(GROUP, other), arguments, kind, other)
    return int(registry.load(GROUP, kind).run(arguments))


def _refuse(module: Any, arguments: argparse.Namespace, kind: str, other: str) -> None:
    """Refuse options of another kind of prior, and what this kind needs and lacks."""
    group = argparse.ArgumentParser(add_help=False)
    module.add_arguments(group)
    for action in group._actions:
        value = getattr(arguments, action.dest)
        if kind != other and value != action.default:
            raise InfieldError(
                where=action.option_strings[-1],
                found=f"a checkpoint of the kind '{kind}'",
                expected=f"one of the kind '{other}'",
                remedy="leave the option out",
            )
        if kind == other and action.dest in module.NEEDS and value is None:
            raise InfieldError(
                where="infield emulate", found=f"no {action.option_strings[-1]}", expected=f"it, for a {kind}"
            )
