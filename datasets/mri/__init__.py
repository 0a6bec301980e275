"""k-space, coils and brain images."""
