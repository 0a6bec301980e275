"""Priors as files: checkpoints and YAML descriptions."""
