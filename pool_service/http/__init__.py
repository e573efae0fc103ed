"""The HTTP listener, for loopback or a unix socket; imported only if it is configured."""
