"""Entries of 21 cm in the registry; see `core.registry`."""

from __future__ import annotations

from infield.core.registry import Entry

ENTRIES = {
    "checkpoints": {
        "lightcones": Entry("infield.priors.cm21.prior_entry:STORED", "conditional prior of lightcones"),
    },
}
