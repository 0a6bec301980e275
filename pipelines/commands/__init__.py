"""The commands of every domain."""
