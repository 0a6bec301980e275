"""Posterior samplers, one method per file."""
