"""Benches: each prints one table and writes flat records with seed and versions, named peers in the same run."""

from infield.core.renamed import old_names

__getattr__ = old_names(__name__)
