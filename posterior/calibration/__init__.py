"""Simulation-based calibration of posteriors of fields: is a posterior right, how would it be mended, what was seen."""

from infield.core.renamed import old_names

__getattr__ = old_names(__name__)
