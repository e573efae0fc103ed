"""Runs `pool-service` for processes of the service itself, which know their interpreter only."""

from pool_service.cli import main

main()
