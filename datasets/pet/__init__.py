"""Images, counts and synthetic cohorts of positron emission tomography."""
