"""The sections that only a front has; their descriptions become the documentation."""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from pool_service.access.sans import SanKind, kind_of_san
from pool_service.address import Address
from pool_service.config.durations import PositiveOrUnset, PositiveSeconds
from pool_service.config.etcd_section import DEFAULT_PREFIX, host_and_port
from pool_service.config.tls_section import File
from pool_service.config.types import (
    Addresses,
    DefaultText,
    Flaw,
    Form,
    Format,
    HistoryLength,
    Level,
    LocalAddress,
    Section,
    Switch,
)
from pool_service.fleet.config.engines import DEFAULT_LEASE, discovery_of, leader_of

_HOST_AND_PORT = 'the address of a member, such as "studio.example:50051"'
_LEADER = '"none", "etcd:HOST:PORT,HOST:PORT[/PREFIX]" or "kubernetes[:NAMESPACE/NAME]"'
_DISCOVERY = (
    '"static", "dns:NAME[:PORT]", "etcd:HOST:PORT,HOST:PORT[/PREFIX]", '
    '"kubernetes:NAMESPACE/SERVICE[:PORT]" or "ray:HOST:PORT"'
)


def _own_address(text: str) -> str:
    return host_and_port(text) if text else text


def _leader(text: str) -> str:
    leader_of(text)
    return text


def _discovery(text: str) -> str:
    discovery_of(text)
    return text


def _api_server(text: str) -> str:
    if not text:
        return text
    scheme, separator, place = text.removesuffix("/").partition("://")
    if not separator or scheme not in {"http", "https"}:
        raise ValueError
    host_and_port(place)
    if scheme == "http" and not Address.parse(place).is_local:
        raise Flaw(f"{text!a} is on another machine and has no TLS; write https://")
    return f"{scheme}://{place}"


def _name_of_certificate(text: str) -> str:
    if text and kind_of_san(text) not in {SanKind.DNS, SanKind.IP}:
        raise Flaw(
            f"{text!a} is neither a DNS name nor an IP address; write it as the member's "
            "certificate has it, without a wildcard"
        )
    return text


_SharedName = Annotated[
    str,
    Field(strict=True),
    AfterValidator(_name_of_certificate),
    Form("text", "a name of a certificate, in quotes"),
    DefaultText("the host of the address"),
]


class FrontSection(Section):
    """The front itself."""

    listen: Addresses = Field(
        default=("127.0.0.1:50050",),
        description="Where to listen: host:port (port 0: any free one) or unix:PATH. By a socket "
        "or on loopback your own programs may call without a token (`auth.local`); any other "
        "address can be reached from other machines, so there it speaks TLS (`[tls]`), and "
        "everybody needs a token or a certificate. The default is one below that of a service, so "
        "that both can run on one machine.",
    )
    address: Annotated[
        str,
        Field(strict=True),
        AfterValidator(_own_address),
        Form("host:port", 'an address of this front, such as "front1.example:50050"'),
        DefaultText("none"),
    ] = Field(
        default="",
        description="How the other fronts reach this one: while it leads, they pass to it what "
        "they may not decide. Needed with a `leader` other than none.",
    )
    leader: Annotated[
        str,
        Field(strict=True),
        AfterValidator(_leader),
        Form("leader", _LEADER),
    ] = Field(
        default="none",
        description="What decides which of several fronts places models. `none`: there is one "
        "front, this one. `etcd:HOST:PORT,HOST:PORT[/PREFIX]`: a lease in etcd, below PREFIX "
        f"(without it: `{DEFAULT_PREFIX}`). `kubernetes:NAMESPACE/NAME`: that Lease (without it: "
        f"`{DEFAULT_LEASE}` in the namespace of the front's pod). All fronts of a fleet have the "
        "same one.",
    )
    discovery: Annotated[
        str,
        Field(strict=True),
        AfterValidator(_discovery),
        Form("discovery", _DISCOVERY),
    ] = Field(
        default="static",
        description="What knows the members. `static`: `[members]`. `dns:NAME`: the SRV records of "
        "NAME; a member is named by its target (TARGET-PORT if that has several). `dns:NAME:PORT`: "
        "the IPv4 addresses of NAME, or if it has none the IPv6 ones, each with this port; a "
        "member is named by its address, with `-` for `:`. "
        "`etcd:HOST:PORT,HOST:PORT[/PREFIX]`: the keys PREFIX/members/NAME in etcd (without "
        f"PREFIX: `{DEFAULT_PREFIX}`), each with the address of a member. "
        "`kubernetes:NAMESPACE/SERVICE:PORT`: the endpoints of that Service, each at this port, "
        "which is a number or a name in the Service (without PORT: the only one, or the one named "
        "`grpc`). A member is named by its pod's hostname in the Service, if that is a "
        "StatefulSet's, else by its node. `ray:HOST:PORT`: the living nodes of the Ray cluster "
        "with the head HOST:PORT that have the label `pool`, which is the port of the member; its "
        "name is the label `pool-name`, or else that of the host.",
    )
    lost_after: PositiveSeconds = Field(
        default=3.0,
        description="How long a member may be silent before it is lost: then its models start "
        "elsewhere when they are asked for. At least twice `beat`.",
    )
    beat: PositiveSeconds = Field(
        default=0.5,
        description="How often each member is asked whether it is there.",
    )
    history: HistoryLength = Field(
        default=4096,
        description="How many changes are kept, for a Watch that resumes after a revision.",
    )
    log_format: Format = Field(
        default="text",
        description="The format of the front's own log lines on stderr: text for people, or json.",
    )
    log_level: Level = Field(
        default="info", description="The lowest level of the log lines that are written."
    )


class MemberSection(Section):
    """One member: a service whose models the fleet has."""

    address: Annotated[
        str,
        Field(strict=True),
        AfterValidator(host_and_port),
        Form("host:port", _HOST_AND_PORT),
        DefaultText("must be set"),
    ] = Field(description="Where the front reaches the member.")
    lost_after: Annotated[PositiveOrUnset, DefaultText("that of `front.lost_after`")] = Field(
        default=None,
        description="How long this member may be silent before it is lost; for a Mac that sleeps, "
        "the longest sleep to wait for.",
    )
    san: Annotated[
        str,
        Field(strict=True),
        AfterValidator(_name_of_certificate),
        Form("text", "a name of a certificate, in quotes"),
        DefaultText("the host of `address`"),
    ] = Field(
        default="",
        description="The name that the member's certificate must have (subjectAltName): a DNS name "
        "or an IP address.",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: object) -> object:
        """Take a text for the address."""
        if isinstance(value, str):
            return {"address": value}
        if not isinstance(value, dict):
            raise Flaw(f"must be {_HOST_AND_PORT}, or a table with it")
        return value


class MemberTlsSection(Section):
    """Encryption between the front and what it calls: members and other fronts."""

    ca: File = Field(
        default=None,
        description="The certificates in PEM of the authorities that issue certificates to the "
        "members and to other fronts. The front trusts no others.",
    )
    cert: File = Field(
        default=None,
        description="The certificate in PEM that the front shows them, and after it those between "
        "it and its authority. The members know the front by a name in it (`san` of their "
        "`[clients.NAME]` with `fleet = true`).",
    )
    key: File = Field(
        default=None,
        description="Its private key in PEM, without a password. Nobody but you, and your group if "
        "you like, may read the file.",
    )
    san: _SharedName = Field(
        default="",
        description="The name (a DNS name or an IP address) that the certificates of all members "
        "found by `front.discovery` must have. For members whose addresses change, such as pods: "
        "whoever has a certificate with this name may be any of them.",
    )
    front_san: _SharedName = Field(
        default="",
        description="The name that the certificates of all other fronts must have.",
    )


class FrontHttpSection(Section):
    """The HTTP listener, for the page and for metrics."""

    listen: Annotated[LocalAddress, DefaultText("none")] = Field(
        default="",
        description="Where to serve the page of all hosts, /metrics for Prometheus, and /healthz: "
        "host:port of loopback (port 0: any free one, which the log names) or unix:PATH. Those may "
        "use it who may call the front.",
    )
    page: Switch = Field(
        default=True,
        description="Serve the page, which shows all hosts, their logs and descriptions, and "
        "starts, evicts and pins models. With false only /metrics and /healthz are served, which "
        "change nothing.",
    )


class KubernetesSection(Section):
    """How the API server of Kubernetes is called by a front that is in no pod of the cluster."""

    server: Annotated[
        str,
        Field(strict=True),
        AfterValidator(_api_server),
        Form("URL", 'the URL of an API server, such as "https://10.0.0.1:6443"'),
        DefaultText("none: that of the cluster whose pod the front is in"),
    ] = Field(
        default="",
        description="The URL of the API server. A pod needs none of these keys: it uses its "
        "service account.",
    )
    ca: Annotated[File, DefaultText("the authorities of the system")] = Field(
        default=None,
        description="The certificates in PEM of the authorities that the certificate of the API "
        "server is from.",
    )
    token_file: File = Field(
        default=None,
        description="The file with the token of a service account. It may be replaced at any time.",
    )
    cert: File = Field(
        default=None, description="The certificate in PEM that the API server is shown."
    )
    key: File = Field(default=None, description="Its private key in PEM, without a password.")


class RaySection(Section):
    """How Ray is asked for the members."""

    python: Annotated[File, DefaultText("that of the front")] = Field(
        default=None,
        description="The Python interpreter that asks Ray, which must have the versions of Ray and "
        "of Python that the cluster has. The front runs it as a process of its own, on a machine "
        "that is a node of the cluster.",
    )
