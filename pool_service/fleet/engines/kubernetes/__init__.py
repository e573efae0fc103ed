"""Kubernetes as the engine of a fleet: members by EndpointSlices, the leader by a Lease."""
