"""Data modules for training."""
