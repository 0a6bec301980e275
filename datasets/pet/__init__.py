"""Images and counts of positron emission tomography."""
