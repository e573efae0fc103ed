"""Define what the inspection of a configuration finds."""

from dataclasses import dataclass

from pool_service.config.errors import KeyPath


@dataclass(frozen=True, slots=True)
class Problem:
    """Hold one thing that is wrong with a configuration that is valid.

    Attributes:
        path: the way to the key that has to be changed.
        what: what is wrong, and what to do about it.
        is_error: a listed model cannot start until somebody changes the configuration or the
            model. Else it may pass by itself, as when a drive is mounted or a file downloaded.
    """

    path: KeyPath
    what: str
    is_error: bool = True
