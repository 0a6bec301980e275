"""Infield in the algorithms of other packages."""
