"""Physics of the instrument: grids, forward operators, noise models and the measurement that joins them."""
