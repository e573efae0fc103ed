"""The keys of [clients], with their documentation."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainValidator

from pool_service.access.clients import Client
from pool_service.access.principal import UNLIMITED, CallerLimits, ModelPatterns, Principal, Scope
from pool_service.access.sans import SanKind, kind_of_san
from pool_service.config.types import (
    DefaultText,
    Flaw,
    Form,
    Section,
    Switch,
    number_of,
    split_commas,
)
from pool_service.core.units import share_of

MOST = 100_000
"""More than the calls that a service takes at a time."""

LIMIT_KEYS = ("max_holds", "max_waiting", "max_streams", "starts_per_minute", "memory_share")
"""The keys with the limits of a client."""

_LIMITS = CallerLimits()
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SCOPES = '"read", "use" or "admin"'


def _digest(text: str) -> str:
    if not text:
        return text
    if text.startswith("pst_"):
        raise Flaw(
            "is a token itself, which must not stand in a file that others may read. Write its "
            "SHA-256 in hexadecimal, and make another token, as this one may be known now"
        )
    if not _DIGEST.fullmatch(text):
        raise Flaw("must be the SHA-256 of a token, in 64 lower-case hexadecimal digits")
    return text


def _san(text: str) -> str:
    if text and kind_of_san(text) is None:
        kinds = ", ".join(kind.value for kind in SanKind)
        raise Flaw(f"must be one of: {kinds}; as the certificate has it, without a wildcard")
    return text


Count = Annotated[
    int,
    Field(strict=True, ge=0, le=MOST),
    Form("whole number", f"a whole number from 0 to {MOST}", number_of),
]


def _share(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - as for each value of another form
    return share_of(value)


MemoryShare = Annotated[
    float,
    PlainValidator(_share),
    Form("percent", 'a share in percent, such as "50%", above 0% and up to 100%'),
]


class ClientSection(Section):
    """A caller with a token or a certificate, and what it may do."""

    token_sha256: Annotated[
        str,
        Field(strict=True),
        AfterValidator(_digest),
        Form("text", "the SHA-256 of a token in hexadecimal, in quotes"),
        DefaultText("none: `san` must be set"),
    ] = Field(
        default="",
        description="The SHA-256 of the client's token, in hexadecimal: the service never knows "
        "the token itself. `pool-service token create` makes a client without this section.",
    )
    san: Annotated[
        str,
        Field(strict=True),
        AfterValidator(_san),
        Form("text", "a name of a certificate, in quotes"),
        DefaultText("none: `token_sha256` must be set"),
    ] = Field(
        default="",
        description="The name by which a certificate is the client's (subjectAltName, compared "
        "exactly): a URI such as `spiffe://home/engine`, a DNS name, an email address or an IP "
        "address. The authority that has issued the certificate is `tls.client_ca`.",
    )
    scope: Annotated[Literal["read", "use", "admin"], Form(_SCOPES, _SCOPES, str.lower)] = Field(
        default="read",
        description="What the client may do. `read`: see servers and models. `use`: also start "
        "and hold listed models, and evict unused servers. `admin`: everything.",
    )
    logs: Switch = Field(
        default=False,
        description="Whether the client may read the logs of servers, and the last lines of failed "
        "ones: they can hold parts of prompts.",
    )
    models: Annotated[
        tuple[Annotated[str, Field(strict=True, min_length=1)], ...],
        Form("list of names", 'a list of names, such as ["chat", "team-*"]', split_commas),
    ] = Field(
        default=("*",),
        description="The models that the client may know of, by name or alias; `*` and `?` are "
        "wildcards. Other models do not exist for it.",
    )
    fleet: Switch = Field(
        default=False,
        description="The client is a front of the fleet: it calls for its own callers, who may do "
        "what both they and this section allow. It has none of the limits below.",
    )
    max_holds: Count = Field(
        default=int(_LIMITS.holds), description="How many holds the client may have open."
    )
    max_waiting: Count = Field(
        default=int(_LIMITS.waiting),
        description="How many of the client's calls may wait until a server is ready.",
    )
    max_streams: Count = Field(
        default=int(_LIMITS.streams),
        description="How many streams of Watch, TailLogs and Pull the client may have open.",
    )
    starts_per_minute: Count = Field(
        default=int(_LIMITS.starts_per_minute),
        description="How many servers may be started for the client within a minute.",
    )
    memory_share: Annotated[MemoryShare, DefaultText('"100%"')] = Field(
        default=_LIMITS.memory_share,
        description="The part of `memory.budget` for all servers that are started for the client. "
        "Its own unused servers go first when it needs room. Without a budget there is no limit.",
    )

    def client(self, name: str) -> Client:
        """Return the client of this section. name: the section's."""
        limits = CallerLimits(
            self.max_holds,
            self.max_waiting,
            self.max_streams,
            self.starts_per_minute,
            self.memory_share,
        )
        principal = Principal(
            name,
            Scope[self.scope.upper()],
            logs=self.logs,
            models=ModelPatterns(self.models),
            limits=UNLIMITED if self.fleet else limits,
            fleet=self.fleet,
        )
        return Client(
            principal,
            bytes.fromhex(self.token_sha256) or None,
            frozenset({self.san} if self.san else ()),
        )
