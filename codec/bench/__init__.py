"""Benchmarks: what training and decoding take on this machine, by part, and what they reach."""
