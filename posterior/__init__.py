"""What do we believe after measuring? Samplers, one file a method; exact references; calibration."""
