"""Foundation of all packages: grids, randomness, errors, spectra."""
