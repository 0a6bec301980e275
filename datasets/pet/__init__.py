"""Data of positron emission tomography."""
