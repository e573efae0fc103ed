"""Kept prompts: on disk, from one server of a model to the next."""
