"""Runtimes: finding or installing them, launch plans, and diagnoses of exits."""
