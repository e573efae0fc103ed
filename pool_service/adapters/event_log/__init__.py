"""The event log: the pool's story on disk, its writer and its reader."""
