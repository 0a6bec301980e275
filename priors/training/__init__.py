"""Lightning modules that train priors."""

from infield.core.renamed import old_names

__getattr__ = old_names(__name__)
