"""Statistics of wall pressure."""
