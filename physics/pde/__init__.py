"""Forward operators that solve partial differential equations."""
