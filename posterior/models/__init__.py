"""Inference of parameters, and errors of models."""
