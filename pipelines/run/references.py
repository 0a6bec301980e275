"""What to cite: the papers of a run's sampler and prior, as BibTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from infield.core import registry
from infield.core.version import __version__
from infield.pipelines.package_data import ROOT

OWN = "infield"
ATTRIBUTE = "citations"
"""Attribute of a posterior: the keys of what it used, or whole BibTeX entries of other packages."""

FITTED = ("rasmussen2006gpml",)
"""Papers of a prior fitted by its evidence."""


def citations(sampler: Any, prior: Any, *, fitted: bool) -> list[str]:
    """Keys of the papers that a run uses, Infield first; other packages' entries are whole BibTeX (`bibtex`).

    Arguments:
        sampler: The sampler of the run; its papers are in its entry of the registry, or in its `papers`.
        prior: The prior; its papers are in `papers` of its class.
        fitted: Whether it was fitted to the measurement.
    """
    name = registry.name_of("samplers", type(sampler))
    found = [OWN, *(registry.table("samplers")[name].papers if name else ())]
    for thing in (sampler, prior):
        found += [*getattr(thing, "papers", ()), *filter(None, [getattr(thing, "bibtex", "")])]
    return list(dict.fromkeys([*found, *(FITTED if fitted else ())]))


def bibtex(keys: Iterable[str]) -> str:
    """BibTeX of keys; a whole entry in place of a key stands for itself."""
    text = (ROOT / "references.bib").read_text(encoding="utf-8")
    known = {
        key: entry.strip() for entry, key in re.findall(r"(^@\w+\{([^,]+),.*?^\}$)", text, re.MULTILINE | re.DOTALL)
    }
    entries = (
        key if key.lstrip().startswith("@") else known[key] for key in keys if key.startswith("@") or key in known
    )
    return "\n\n".join(entries).replace("VERSION", __version__)


def known_keys() -> tuple[str, ...]:
    """All keys of `references.bib`."""
    text = (ROOT / "references.bib").read_text(encoding="utf-8")
    return tuple(re.findall(r"^@\w+\{([^,]+),", text, re.MULTILINE))
