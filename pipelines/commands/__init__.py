"""The commands that serve every domain."""
