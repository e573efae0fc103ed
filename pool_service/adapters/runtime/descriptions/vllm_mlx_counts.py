"""The requests that each version of vllm-mlx counts while it works on them.

Measured with the options that the pool adds; pinned by tests/whole/test_vllm_mlx_versions.py, which
installs each version. Embeddings are in no count: they hold up the event loop, so that a check gets
no answer meanwhile, and counts connections. Each request changes the total of the metrics.
"""

from dataclasses import dataclass
from typing import Final

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
RESPONSES: Final = "/v1/responses"
MESSAGES: Final = "/v1/messages"
PATHS: Final = (CHAT, COMPLETIONS, RESPONSES, MESSAGES)

Request = tuple[str, bool]
"""A path, and whether the answer is a stream."""

REQUESTS: Final = frozenset((path, streams) for path in PATHS for streams in (False, True))

_OF_HEALTH: Final = frozenset(one for one in REQUESTS if one[0] != RESPONSES)


@dataclass(frozen=True, slots=True)
class Counts:
    """The requests that versions of vllm-mlx count.

    since: the first version, as numbers.
    health: those in `active_requests` of the health path, where it is there.
    metrics: those in `vllm_mlx_http_requests_in_flight` of the metrics.
    """

    since: tuple[int, ...]
    health: frozenset[Request]
    metrics: frozenset[Request]

    @property
    def metrics_are_complete(self) -> bool:
        """Whether the metrics alone count every request."""
        return self.metrics == REQUESTS

    @property
    def missing(self) -> frozenset[Request]:
        """The requests that are in no count."""
        return REQUESTS - self.health - self.metrics

    @property
    def missing_from_metrics(self) -> frozenset[Request]:
        """The requests that are in no count where the health path has none."""
        return REQUESTS - self.metrics


VERSIONS: Final = (
    Counts((0, 6, 0), health=_OF_HEALTH, metrics=REQUESTS),
    # Their metrics end the count of a stream when it begins.
    Counts((0, 3, 0), health=_OF_HEALTH, metrics=frozenset(one for one in REQUESTS if not one[1])),
)
"""The newest first."""


def counts_of(release: tuple[int, ...] | None) -> Counts:
    """Return what a version counts; None: not known, so as the oldest."""
    return next((one for one in VERSIONS if release and release >= one.since), VERSIONS[-1])


def in_words(requests: frozenset[Request]) -> str:
    """Return requests as a list in words: "streams of /v1/responses"; empty without any."""
    kinds = (("answers of", False), ("streams of", True))
    parts = (
        f"{kind} {', '.join(path for path in PATHS if (path, streams) in requests)}"
        for kind, streams in kinds
        if any((path, streams) in requests for path in PATHS)
    )
    return " and ".join(parts)
