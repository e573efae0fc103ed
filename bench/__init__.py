"""Benchmarks: every figure as a ratio to a baseline that was measured beside it."""
