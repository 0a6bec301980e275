"""What another package adds to Infield, one of each."""
