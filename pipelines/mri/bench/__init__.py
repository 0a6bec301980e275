"""Benches of magnetic resonance imaging."""
