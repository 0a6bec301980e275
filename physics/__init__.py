"""What did the instrument do to the field? Grids, forward operators, noise laws and the measurement that joins them."""
