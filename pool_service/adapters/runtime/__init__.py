"""Runtimes: found or installed, and how each of them is started and read."""
