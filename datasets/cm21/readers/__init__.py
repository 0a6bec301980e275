"""Lightcone files of other packages."""
