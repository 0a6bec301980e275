"""Models that are trained for a family of measurements."""
