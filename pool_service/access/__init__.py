"""Access: who calls, and what that caller may do. Values and rules without gRPC and sockets."""
