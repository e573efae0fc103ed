"""Client of the pool service."""
