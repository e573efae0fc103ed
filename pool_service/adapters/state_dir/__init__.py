"""The state directory: its one holder, and the guard that outlives it."""
