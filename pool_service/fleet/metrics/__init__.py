"""The metrics of a front: values without a clock, I/O or an event loop."""
