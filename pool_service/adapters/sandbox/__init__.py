"""The sandbox of servers: what each may use, whether this machine can confine it, and its start."""
