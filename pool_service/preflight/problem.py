"""The result type of all preflight checks."""

from dataclasses import dataclass

from pool_service.config.errors import KeyPath


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a valid configuration.

    Attributes:
        path: the key that has to be changed.
        what: what is wrong, and what to do about it.
        is_error: whether a listed model cannot start until somebody changes the configuration or
            the model. Otherwise the problem may pass by itself, for example when a drive is
            mounted or a file downloaded.
    """

    path: KeyPath
    what: str
    is_error: bool = True
