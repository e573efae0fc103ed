"""Adapters: one package for each outside system, each behind a Protocol of `pool_service.ports`."""
