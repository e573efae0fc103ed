"""What a front shows to members and to other fronts, and whom it believes."""

from collections.abc import Callable
from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class Security:
    """The security of one connection. name: what the other's certificate must be of."""

    credentials: grpc.ChannelCredentials
    name: str

    @property
    def options(self) -> list[tuple[str, str | int]]:
        """The options of a channel with it."""
        return [("grpc.ssl_target_name_override", self.name)]


Secure = Callable[[str, str], Security | None]
"""Returns the security of a new connection to a member, by its name and its address; None: none, as
it does not leave this machine. The leader has no name."""
