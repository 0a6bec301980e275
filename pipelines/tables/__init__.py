"""From tables and gridded files to measurements, and from posteriors to maps."""
