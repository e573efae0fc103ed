"""The members by gRPC."""
