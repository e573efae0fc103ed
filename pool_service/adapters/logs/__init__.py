"""Logs: what servers write."""
