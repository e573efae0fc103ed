"""The state directory: its lock, the takeover by another service, and the guard."""
