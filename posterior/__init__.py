"""Posterior inference: samplers, one file per method; exact references; calibration."""
