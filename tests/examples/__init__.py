"""Example files, priors and exact models that several tests share."""
