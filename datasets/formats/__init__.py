"""The files of Infield: measurements, posteriors, simulations."""
