"""The gRPC API. No other package knows gRPC, except the composition root."""
