"""Memory: of the machine, and of the servers."""
