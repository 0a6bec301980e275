"""Coils and k-space of magnetic resonance imaging."""
