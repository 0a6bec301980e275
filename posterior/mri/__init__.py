"""Image metrics of magnetic resonance imaging."""
