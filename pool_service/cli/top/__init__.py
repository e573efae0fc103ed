"""`pool-service top`: a live view of the pool in the terminal.

`picture` merges what the service has told; `controls` turns keys into actions; `frame` and the
modules that it uses make the lines of the screen. These are pure. `session` does the calls,
`screen` has the terminal, and `run` puts all together.
"""
