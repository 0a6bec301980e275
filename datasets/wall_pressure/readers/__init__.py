"""Wall-plane files of simulations and archives."""
