"""Anatomy that several domains draw from."""
