"""Errors of calls to an API server of Kubernetes."""


class KubernetesError(Exception):
    """Says what went wrong at the API server.

    kind: equal for failures of which a log needs only one.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class Unreachable(KubernetesError):
    """The API server did not answer, or cannot be asked."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"the API server at {server} does not answer ({reason})", "unreachable")


class Refused(KubernetesError):
    """The API server answered, and did not do what was asked."""

    def __init__(self, server: str, status: int, reason: str) -> None:
        super().__init__(
            f"the API server at {server} refuses: {status}, {reason}", f"refused {status}"
        )


class Absent(Refused):
    """There is no such object."""


class Outrun(Refused):
    """Another caller has changed or created the object first."""


class Expired(Refused):
    """The API server no longer has the changes since the version that was named."""
