"""Simulation-based calibration of posteriors of fields: is a posterior right, how would it be mended, what was seen."""
