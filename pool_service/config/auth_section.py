"""The keys of [auth], with their documentation."""

from typing import Annotated

from pydantic import Field

from pool_service.access.authentication import Local
from pool_service.config.types import Form, Section

_WORDS = '"same-user", "token" or "anyone"'


class AuthSection(Section):
    """The rule for callers of this machine."""

    local: Annotated[Local, Form(_WORDS, _WORDS, str.lower)] = Field(
        default=Local.SAME_USER,
        description="Who may call from this machine without a token. `same-user`: the programs of "
        "the service's own user, and of root. `token`: nobody. `anyone`: every user of this "
        "machine who reaches an address of the service; each may do there what you may.",
    )
