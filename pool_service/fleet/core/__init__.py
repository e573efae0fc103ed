"""The front's decisions: values in, values out; no clock, no I/O, no logging, no gRPC."""
