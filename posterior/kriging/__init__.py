"""Point data and masks under a stationary Gaussian law, conditioned at the data's own positions (kriging)."""
