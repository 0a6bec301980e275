"""Lightning modules that train priors."""
