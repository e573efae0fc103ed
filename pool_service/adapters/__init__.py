"""One module for each outside thing, each behind a Protocol of `pool_service.ports`."""
