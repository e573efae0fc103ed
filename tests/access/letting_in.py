"""What lets callers in, as in a real service: this process's own user, or whom the rules name."""

import time

from pool_service.access.authentication import Authentication, Rules
from pool_service.adapters.sockets.peer_users import own_users, peer_users
from pool_service.admission import Admission
from pool_service.audit import Audit
from tests.fake_events import FakeEvents


async def nothing_new() -> None:
    """No file of tokens, which could have changed."""


def admission(audit: Audit | None = None, rules: Rules | None = None) -> Admission:
    authentication = Authentication(rules or Rules(), peer_users(), own_users(), time.time)
    return Admission(authentication, audit or Audit(FakeEvents()), nothing_new)
