"""Notes what became of one request, for the log and the metrics."""

import time
from dataclasses import dataclass, field

from pool_service.gateway.relay import CallerResponse

GONE = 499
"""The status of a request whose caller went away before the end: nginx's, and of no standard."""


@dataclass(slots=True, eq=False)
class Outcome:
    """Holds the outcome of a request.

    Attributes:
        requested_model: the model's name as the caller has it; "": not known.
        model: the model's own name, once it was READY; else "".
        status: what the caller got, or would have got if the answer had not begun.
        first_byte_s: the time to the first byte of the model's answer; None: there was none.
        sent_bytes: the bytes of that answer.
        tokens: its output tokens by the server's count, else the number of its events.
    """

    requested_model: str = ""
    model: str = ""
    status: int = GONE
    first_byte_s: float | None = None
    sent_bytes: int = 0
    tokens: int = 0
    _began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Return the time since the request came."""
        return time.monotonic() - self._began

    def note(self, response: CallerResponse) -> None:
        """Take over what the answer came to."""
        forwarder = response.forwarder
        if forwarder is not None:
            self.sent_bytes = forwarder.sent_bytes
            self.tokens = forwarder.tokens
            if forwarder.first_byte_at is not None:
                self.first_byte_s = forwarder.first_byte_at - self._began
        if self.status == GONE and response.is_whole:
            # Libraries close the connection at the last event.
            self.status = 200
