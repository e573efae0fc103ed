"""Adapters for what callers show: the file of tokens."""
