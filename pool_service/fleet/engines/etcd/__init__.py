"""A leader and members by etcd, from 3.4 on, over its gRPC API."""
