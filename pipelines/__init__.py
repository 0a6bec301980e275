"""The commands; no mathematics."""
