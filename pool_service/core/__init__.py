"""The pure core: all decisions of the pool, as functions of values. No clock, no I/O, no gRPC."""
