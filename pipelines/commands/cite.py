"""BibTeX of what to cite: of Infield, and of the sampler and the prior of a posterior.

infield cite
infield cite posterior.zarr
infield cite posterior.zarr --methods
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
    parser.add_argument(
        "--methods",
        action="store_true",
        help="a paragraph for a paper: how it was drawn, what was tested, what was not",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    keys = [OWN] if arguments.posterior is None else citations_of(arguments.posterior)
    entries = bibtex(keys)
    text = {"methods": methods_of(arguments.posterior)} if arguments.methods else {}
    if arguments.json:
        print(to_json({"keys": keys, "bibtex": entries, **text}))
    else:
        print(text.get("methods", entries))
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


def methods_of(posterior: Path | None) -> str:
    """The paragraph of a posterior.

    Raises:
        InfieldError: None is given.
    """
    if posterior is None:
        raise InfieldError(where="--methods", found="no posterior", expected="infield cite POSTERIOR.zarr --methods")
    from infield.datasets.formats.posterior import open_posterior
    from infield.pipelines.run.methods import methods_paragraph

    with open_posterior(posterior) as group:
        return methods_paragraph(group.attrs, group.sizes["sample"])
