"""Processes: starting, watching and ending them, each with its process tree."""
