"""The only place that knows gRPC."""
