"""Regional summaries of PET posteriors."""
