"""Sockets: the listeners of a process, the connections to it, and free ports."""
