"""BibTeX of what to cite: of Infield, and of the sampler and the prior of a posterior.

infield cite
infield cite posterior.zarr
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.pipelines.run.options import add_json
from infield.pipelines.run.references import ATTRIBUTE, OWN, bibtex


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("posterior", type=Path, nargs="?", metavar="POSTERIOR.zarr", help="what was used for this file")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    keys = [OWN] if arguments.posterior is None else citations_of(arguments.posterior)
    entries = bibtex(keys)
    print(to_json({"keys": keys, "bibtex": entries}) if arguments.json else entries)
    return 0


def citations_of(posterior: Path) -> list[str]:
    """Keys that a posterior names.

    Raises:
        InfieldError: It is no posterior, or of a version that named none.
    """
    from infield.datasets.formats.posterior import open_posterior

    with open_posterior(posterior) as group:
        if ATTRIBUTE not in group.attrs:
            raise InfieldError(
                where=f"{posterior}: '{ATTRIBUTE}'",
                found="no such attribute",
                expected="the papers of the run",
                remedy="this file is of an older version of Infield: draw it again, or cite Infield alone",
            )
        found: list[str] = json.loads(group.attrs[ATTRIBUTE])
    return found
