"""Direct numerical simulation of turbulent channel flow."""
