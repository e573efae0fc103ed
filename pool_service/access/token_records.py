"""Token records: clients as `pool-service token` makes them, and their form in a file."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pool_service.access.clients import Client
from pool_service.access.principal import CallerLimits, ModelPatterns, Principal, Scope

VERSION: Final = 1
"""The version of the form; a service refuses a file of a later one."""

NAME: Final = re.compile(r"(?!local\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A client's name: for people, logs and the command line. "local" is the service's own user."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NO_LIMITS: Final = CallerLimits()
_LIMITS: Final = {
    "max_holds": "holds",
    "max_waiting": "waiting",
    "max_streams": "streams",
    "starts_per_minute": "starts_per_minute",
}
"""The fields of CallerLimits that are numbers, by the members of a record."""


class TokenFileInvalid(ValueError):
    """The content of the file of tokens is not of the form that this version knows."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A client with a token. created_at: Unix time in seconds."""

    client: Client
    created_at: float


def content_of(records: Iterable[TokenRecord]) -> dict[str, object]:
    """Return the records as they are written, as JSON's values."""
    return {"version": VERSION, "clients": [_member(record) for record in records]}


def limits_of(principal: Principal) -> dict[str, float]:
    """Return the limits of a client by the names that they have in a file."""
    counts = {name: getattr(principal.limits, limit) for name, limit in _LIMITS.items()}
    return counts | {"memory_share": principal.limits.memory_share}


def records_of(content: object) -> tuple[TokenRecord, ...]:
    """Return the records of JSON's values. Raises TokenFileInvalid.

    One that cannot be read makes the whole file invalid: a revoked token could otherwise come back
    by a fault.
    """
    if not isinstance(content, Mapping) or content.get("version") != VERSION:
        raise TokenFileInvalid(f"it is not of version {VERSION}, which this service knows")
    members = content.get("clients")
    if not isinstance(members, list):
        raise TokenFileInvalid("it has no list of clients")
    records = tuple(map(_record, members))
    names = [record.client.principal.name for record in records]
    if len(set(names)) < len(names):
        raise TokenFileInvalid("two of its clients have the same name")
    return records


def _member(record: TokenRecord) -> dict[str, object]:
    client, principal = record.client, record.client.principal
    assert client.token_sha256 is not None
    return {
        "name": principal.name,
        "token_sha256": client.token_sha256.hex(),
        "scope": principal.scope.name.lower(),
        "logs": principal.logs,
        "models": list(principal.models.patterns),
        **limits_of(principal),
        "created": record.created_at,
        "expires": None if client.expires_at == math.inf else client.expires_at,
    }


def _record(member: object) -> TokenRecord:
    try:
        return _checked(member)
    except KeyError as error:
        raise TokenFileInvalid(f"its client {_name_of(member)!r} has no {error}") from error
    except (TypeError, ValueError) as error:
        why = f"its client {_name_of(member)!r} cannot be read: {error}"
        raise TokenFileInvalid(why) from error


def _name_of(member: object) -> object:
    return member.get("name") if isinstance(member, Mapping) else None


def _checked(member: Any) -> TokenRecord:  # noqa: ANN401  # whatever a file has
    """Return the record of a member. Raises KeyError, TypeError or ValueError."""
    name, digest, patterns = member["name"], member["token_sha256"], member["models"]
    if not (NAME.fullmatch(name) and _DIGEST.fullmatch(digest)):
        raise ValueError("name or token_sha256")
    if not (isinstance(patterns, list) and all(isinstance(one, str) for one in patterns)):
        raise ValueError("models")
    scope = str(member["scope"]).upper()
    if scope not in Scope.__members__:
        raise ValueError("scope")
    if not isinstance(member["logs"], bool):
        raise TypeError("logs")
    principal = Principal(
        name,
        Scope[scope],
        logs=member["logs"],
        models=ModelPatterns(tuple(patterns)),
        limits=CallerLimits(
            **{
                limit: _count(member.get(name, getattr(_NO_LIMITS, limit)))
                for name, limit in _LIMITS.items()
            },
            memory_share=_share(member.get("memory_share", _NO_LIMITS.memory_share)),
        ),
    )
    if principal.scope is Scope.ADMIN and not principal.models.is_everything:
        raise ValueError("models of an admin")
    expires = member["expires"]
    expires_at = math.inf if expires is None else float(expires)
    return TokenRecord(
        Client(principal, bytes.fromhex(digest), expires_at=expires_at), float(member["created"])
    )


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError("memory_share")
    return value


def _count(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value
