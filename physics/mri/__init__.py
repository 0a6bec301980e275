"""Coils and k-space of magnetic resonance imaging."""

from infield.core.renamed import old_names

__getattr__ = old_names(__name__)
