"""Flow priors and the domains that they are evaluated on."""
