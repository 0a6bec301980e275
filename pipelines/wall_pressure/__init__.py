"""Commands of the wall-pressure domain."""
