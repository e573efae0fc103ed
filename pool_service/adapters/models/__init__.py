"""Models on disk: their files, their memory estimates, and their downloads."""
