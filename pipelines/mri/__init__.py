"""Commands of magnetic resonance imaging."""
