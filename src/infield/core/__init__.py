"""What all rooms stand on: grids, randomness, errors, spectra."""
