"""Checks across keys of a front: finds values that are valid alone but not together."""

from collections.abc import Iterator

from pool_service.address import Address
from pool_service.config.access_contradictions import Access, access_contradictions
from pool_service.config.errors import KeyPath, key_name
from pool_service.config.etcd_contradictions import etcd_contradictions
from pool_service.fleet.config.engines import LeaseName, RayCluster
from pool_service.fleet.config.front_config import FrontConfig
from pool_service.fleet.config.sections import KubernetesSection

FEWEST_BEATS = 2
"""Beats that a member may miss before it is lost: one answer may always be late."""

CERTIFICATE_KEYS = ("ca", "cert", "key")
"""The keys that are set together."""

MOST_PATTERN_BYTES = 6 * 1024
"""The patterns of one client: they go with each of its calls to members, in metadata, of which gRPC
refuses more than 8 KiB in all: some calls at first, and beyond 16 KiB each."""

PATTERN_BYTES = 2
"""The bytes of a pattern besides its characters."""

Contradictions = Iterator[tuple[KeyPath, str]]
"""Keys, each with what is wrong and what to do."""


def contradictions(config: FrontConfig) -> Contradictions:
    """Yield each key that contradicts another, with what is wrong and what to do."""
    yield from access_contradictions(
        Access(
            key=("front", "listen"),
            listen=config.front.listen,
            http_listen=config.http.listen,
            tls=config.tls,
            clients=config.clients,
            no_fronts="" if config.leader else "without other fronts; set front.leader",
        )
    )
    yield from _client_contradictions(config)
    yield from _leader_contradictions(config)
    yield from _membership_contradictions(config)
    yield from _address_contradictions(config)
    yield from _silence_contradictions(config)
    yield from _member_tls_contradictions(config)
    yield from etcd_contradictions(
        config.etcd, config.etcd_endpoints, "neither front.leader nor front.discovery is etcd"
    )
    yield from _kubernetes_contradictions(config)
    if config.ray.python is not None and not isinstance(config.discovery, RayCluster):
        yield ("ray", "python"), "has no effect, since front.discovery is not ray; remove it"


def _client_contradictions(config: FrontConfig) -> Contradictions:
    for name, section in config.clients.items():
        if "memory_share" in section.model_fields_set:
            what = "has no effect: a front has no memory budget of its own; remove it"
            yield ("clients", name, "memory_share"), what
        if "starts_per_minute" in section.model_fields_set:
            what = "has no effect: the members start the servers, and count no callers of a front"
            yield ("clients", name, "starts_per_minute"), f"{what}; remove it"
        size = sum(len(pattern.encode()) + PATTERN_BYTES for pattern in section.models)
        if size > MOST_PATTERN_BYTES:
            what = (
                f"takes {size} bytes, and a front can send {MOST_PATTERN_BYTES} with each call to "
                "its members; use fewer patterns, with wildcards, or more than one client"
            )
            yield ("clients", name, "models"), what


def _leader_contradictions(config: FrontConfig) -> Contradictions:
    front = config.front
    if config.leader is None:
        return
    if not front.address:
        what = (
            f"must be set, since front.leader is {front.leader}: the host:port at which the other "
            "fronts reach this one"
        )
        yield ("front", "address"), what
    elif not _is_local(front.address) and all(map(_is_local, front.listen)):
        what = (
            f"{front.address} is for other machines, and front.listen has only addresses of this "
            "one; add one that they reach"
        )
        yield ("front", "address"), what


def _membership_contradictions(config: FrontConfig) -> Contradictions:
    discovery = config.front.discovery
    if config.discovery is None and not config.members:
        what = (
            'must have at least one member, NAME = "host:port"; or set front.discovery, if '
            "something else knows them"
        )
        yield ("members",), what
    elif config.discovery is not None and config.members:
        what = f"is {discovery}, and [members] names members; remove one of the two"
        yield ("front", "discovery"), what


def _address_contradictions(config: FrontConfig) -> Contradictions:
    """Yield members with the address of another one, or of the front."""
    seen: dict[str, Address] = {}
    for name, text in config.static_members.items():
        address = Address.parse(text)
        place = ("members", name, "address")
        for other, taken in seen.items():
            if address.overlaps(taken):
                yield place, f"{text} is that of {key_name(('members', other))}; remove one of them"
        for own in config.front.listen:
            if _is_local(own) and address.overlaps(Address.parse(own)):
                yield place, f"{text} is the front's own (front.listen); write that of a service"
        seen[name] = address


def _silence_contradictions(config: FrontConfig) -> Contradictions:
    least = FEWEST_BEATS * config.front.beat
    listed: list[tuple[KeyPath, float]] = [(("front", "lost_after"), config.front.lost_after)]
    for name, section in config.members.items():
        if section.lost_after is not None:
            listed.append((("members", name, "lost_after"), section.lost_after))
    for place, length in listed:
        if length < least:
            beat = f"front.beat ({config.front.beat:g} s)"
            yield place, f"lost_after ({length:g} s) must be at least twice {beat}"


def _member_tls_contradictions(config: FrontConfig) -> Contradictions:
    section = config.member_tls
    yield from _shared_name_contradictions(config)
    missing = [key for key in CERTIFICATE_KEYS if getattr(section, key) is None]
    if not missing:
        return
    needed = _listed(missing)
    if reached := _reached(config):
        why = f"{reached}, and the front and they know each other by certificates"
        yield ("member_tls",), f"must have {needed}: {why}"
        return
    for key in CERTIFICATE_KEYS:
        if key not in missing:
            yield ("member_tls", key), f"has no effect without {needed}; set all three, or none"


def _shared_name_contradictions(config: FrontConfig) -> Contradictions:
    if config.member_tls.san and config.discovery is None:
        what = "has no effect, since front.discovery is static; set members.NAME.san instead"
        yield ("member_tls", "san"), what
    if config.member_tls.front_san and config.leader is None:
        what = "has no effect, since front.leader is none: there are no other fronts; remove it"
        yield ("member_tls", "front_san"), what


def _reached(config: FrontConfig) -> str:
    """Return what the front calls on other machines, as a clause; empty: nothing."""
    far = [text for text in config.static_members.values() if not _is_local(text)]
    if far:
        return f"the front calls other machines ({_listed(far)})"
    if config.discovery is not None:
        return f"the members that {config.front.discovery} knows are on other machines"
    if config.leader is not None and config.front.address and not _is_local(config.front.address):
        return "the other fronts are on other machines"
    return ""


def _kubernetes_contradictions(config: FrontConfig) -> Contradictions:
    section = config.kubernetes
    if not config.asks_kubernetes:
        for key in sorted(section.model_fields_set):
            what = "has no effect, since neither front.leader nor front.discovery is kubernetes"
            yield ("kubernetes", key), f"{what}; remove it"
        return
    if not section.server:
        for key in sorted(section.model_fields_set - {"server"}):
            what = "has no effect without server: a pod uses its service account; remove it"
            yield ("kubernetes", key), what
        return
    yield from _api_server_contradictions(section)
    if isinstance(config.leader, LeaseName) and not config.leader.namespace:
        what = (
            "must be kubernetes:NAMESPACE/NAME: with kubernetes.server the front is in no pod, "
            "whose namespace could be meant"
        )
        yield ("front", "leader"), what


def _api_server_contradictions(section: KubernetesSection) -> Contradictions:
    for one, other in (("cert", "key"), ("key", "cert")):
        if getattr(section, one) and not getattr(section, other):
            yield ("kubernetes", one), f"has no effect without {other}; set both or neither"
    if section.server.startswith("https:") and not (section.token_file or section.cert):
        what = "must be set, or cert and key: the API server tells nothing to somebody unknown"
        yield ("kubernetes", "token_file"), what


def _is_local(text: str) -> bool:
    return Address.parse(text).is_local


def _listed(texts: list[str]) -> str:
    return ", ".join(dict.fromkeys(texts))
