"""The limits of the HTTP listener, which its clients cannot exceed."""

MAX_CONNECTIONS = 64
"""Connections at a time. Another one takes the place of an idle or silent one, or gets 503."""

MAX_REFUSED = 64
"""Connections at a time that get 503; a further one is closed without an answer."""

MAX_SILENT_S = 1.0
"""Time after which a connection that has sent nothing yet loses its place to another one."""

MAX_HEAD_BYTES = 16 * 1024
"""The largest request line with headers, give or take one read; a larger one gets 431."""

MAX_BODY_BYTES = 64 * 1024
"""The largest body of a request; a larger one gets 413."""

REQUEST_TIMEOUT_S = 10.0
"""Time to send a request, from its first byte; and time for the first byte of the first one."""

IDLE_TIMEOUT_S = 120.0
"""Time between two requests on a connection: Prometheus scrapes each minute by default."""

WRITE_TIMEOUT_S = 10.0
"""Time to take one piece of a response; a slower client is disconnected."""

LINGER_S = 1.0
"""Time in which the rest of a refused request is taken, so that its client reads the answer."""

STOP_GRACE_S = 1.0
"""Time to finish the responses under way when the listener stops."""
