"""Records: the state of the pool on disk, from which a later service recovers."""
