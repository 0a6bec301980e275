"""Commands of the 21 cm domain."""
