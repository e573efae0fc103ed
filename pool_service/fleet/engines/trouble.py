"""Failures of an engine, in the log."""

import structlog

log = structlog.get_logger("pool_service.fleet")


class Trouble:
    """Logs a failure when it begins, when it becomes another one, and when it is over.

    what: what cannot be done meanwhile, as the log says it.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._kind = ""

    def met(self, kind: str, reason: str) -> None:
        """Note a failure. kind: equal for two failures that need not both be logged."""
        if kind != self._kind:
            self._kind = kind
            log.warning("fleet_engine_failed", what=self._what, reason=reason)

    def over(self) -> None:
        """Note a success."""
        if self._kind:
            self._kind = ""
            log.info("fleet_engine_answers_again", what=self._what)
