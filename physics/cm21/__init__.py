"""Instruments and the simulator of the 21 cm line."""
