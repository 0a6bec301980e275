"""Neural networks on fields."""
