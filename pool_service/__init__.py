"""A gRPC control plane that owns a pool of model servers, one per model."""
