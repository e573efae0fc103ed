"""Sockets: which process listens, who is connected, and which ports are free."""
