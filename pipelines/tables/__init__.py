"""From tables and grids that people have to measurements, and from posteriors to maps."""
