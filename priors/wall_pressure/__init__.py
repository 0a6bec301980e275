"""Synthetic wall pressure."""

from infield.core.renamed import old_names

__getattr__ = old_names(__name__)
