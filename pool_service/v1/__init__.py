"""Generated from proto/pool_service/v1 by `make proto`."""
