"""Traces of calls and starts, for OpenTelemetry; imported only when traces are configured."""
