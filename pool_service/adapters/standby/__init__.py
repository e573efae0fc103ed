"""Standbys: processes that have imported a server's modules before a server is needed."""
