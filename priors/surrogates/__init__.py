"""Learned maps that replace solvers."""
