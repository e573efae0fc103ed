"""Standbys: processes that have imported everything that a server needs, before it is needed."""
