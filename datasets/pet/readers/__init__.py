"""Readers of PET files."""
