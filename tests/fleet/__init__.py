"""The front of a fleet."""
