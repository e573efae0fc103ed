"""Metrics: counts of what the pool does, and their text in Prometheus's format. Pure."""
