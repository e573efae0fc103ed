"""Adapters for the certificates with which the service speaks TLS."""
