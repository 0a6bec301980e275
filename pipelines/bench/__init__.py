"""Benches: each prints one table and writes flat records with seed and versions, named peers in the same run."""
