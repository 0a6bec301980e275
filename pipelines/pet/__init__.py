"""Commands of positron emission tomography."""
