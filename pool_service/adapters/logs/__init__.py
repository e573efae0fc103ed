"""Logs of servers: bounded files, and their last lines."""
