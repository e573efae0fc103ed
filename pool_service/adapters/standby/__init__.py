"""Standby processes, which have imported all that a server needs."""
