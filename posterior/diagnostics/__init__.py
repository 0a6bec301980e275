"""Calibration, convergence and two-sample tests."""
