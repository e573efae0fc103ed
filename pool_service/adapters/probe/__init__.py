"""Probes of servers: whether one is ready, healthy, and at work."""
