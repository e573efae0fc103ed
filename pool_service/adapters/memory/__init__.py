"""Memory samples of the machine and of the servers."""
