"""Members from the EndpointSlices of a Service."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pool_service.fleet.engines.kubernetes.client import Object
from pool_service.fleet.engines.kubernetes.errors import KubernetesError

PORT = "grpc"
"""The name of the members' port, if a Service has several and none was named."""

KINDS = ("IPv4", "IPv6", "FQDN")
"""The kinds of addresses, the preferred one first."""

Port = int | str | None
"""A port: its number; its name in the Service; None: its only one, or the one named PORT."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint of a slice. merit: the higher of two of one name is the member."""

    name: str
    pod: str
    address: str
    merit: tuple[bool, bool, bool, int]

    @property
    def is_used(self) -> bool:
        """Whether the pod is neither on its way out nor still coming up."""
        stays, ready, _, _ = self.merit
        return stays and ready


@dataclass(frozen=True, slots=True)
class Members:
    """The members. addresses: by name. rivals: the ready pods of each name that several have."""

    addresses: Mapping[str, str]
    rivals: Mapping[str, tuple[str, ...]]


def members_of(slices: Iterable[Object], port: Port) -> Members:
    """Return the members that the slices of a Service know. Raises KubernetesError.

    1. A member is named by the hostname that its pod has in the Service, as pods of a StatefulSet
       have, else by its node, as there is one pod of a DaemonSet on each. Both names stay when the
       pod is replaced. Without either the pod is the name.
    2. Whether a pod is ready says nothing here, for the front sees by itself which members answer.
       All pods of a node that loses the control plane become unready while they go on. Only a pod
       that is on its way out and serves no more is no member.
    3. Of several endpoints with one name, such as a pod and the one that replaces it, one counts:
       one that stays before one that goes, then a ready one, one that serves, and IPv4.
    """
    best: dict[str, Endpoint] = {}
    used: dict[str, set[str]] = {}
    for one in sorted(_endpoints(slices, port), key=lambda one: (one.pod, one.address)):
        if one.is_used:
            used.setdefault(one.name, set()).add(one.pod)
        if one.name not in best or one.merit > best[one.name].merit:
            best[one.name] = one
    return Members(
        {name: one.address for name, one in best.items()},
        {name: tuple(sorted(pods)) for name, pods in used.items() if len(pods) > 1},
    )


def _endpoints(slices: Iterable[Object], port: Port) -> Iterator[Endpoint]:
    try:
        for one in slices:
            # Of a Service without ready pods there is a slice without endpoints and ports.
            entries = one.get("endpoints") or []
            number = _number(one.get("ports") or [], port) if entries else 0
            kind = one["addressType"]
            for entry in entries:
                conditions = entry.get("conditions") or {}
                ready = conditions.get("ready") is not False
                serving = conditions.get("serving")
                serves = ready if serving is None else bool(serving)
                stays = not conditions.get("terminating")
                if stays or serves:
                    yield _endpoint(entry, number, (stays, ready, serves, -KINDS.index(kind)))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise KubernetesError(f"an EndpointSlice cannot be read ({error!r})", "slice") from error


def _endpoint(entry: Mapping[str, Any], port: int, merit: tuple[bool, bool, bool, int]) -> Endpoint:
    # All addresses of an endpoint are of one pod, and the first is as good as any.
    host: str = entry["addresses"][0]
    pod = (entry.get("targetRef") or {}).get("name") or host
    name = entry.get("hostname") or entry.get("nodeName") or pod
    return Endpoint(name, pod, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", merit)


def _number(ports: Iterable[Mapping[str, Any]], wanted: Port) -> int:
    """Return the number of the members' port. Raises KubernetesError."""
    if isinstance(wanted, int):
        return wanted
    numbers = {
        one.get("name") or "": int(one["port"])
        for one in ports
        if one.get("protocol", "TCP") == "TCP" and one.get("port")
    }
    if wanted is None and len(numbers) == 1:
        return next(iter(numbers.values()))
    name = PORT if wanted is None else wanted
    if name not in numbers:
        listed = ", ".join(sorted(map(repr, numbers))) or "none"
        message = f"the Service has no port {name!r} for TCP (its ports: {listed})"
        raise KubernetesError(message, "port")
    return numbers[name]
