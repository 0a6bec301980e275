"""Random fields and processes to draw training data from."""

from infield.core.renamed import old_names

__getattr__ = old_names(__name__)
