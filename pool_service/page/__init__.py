"""The page of a pool, on the HTTP listener; imported only if that is configured."""
