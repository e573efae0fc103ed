"""Probes of servers: readiness, liveness and activity."""
