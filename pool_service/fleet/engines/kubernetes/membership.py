"""Members from a Service of Kubernetes."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import aclosing

import structlog

from pool_service.fleet.engines.kubernetes.client import WATCH_S, KubernetesClient, Object
from pool_service.fleet.engines.kubernetes.errors import Expired, KubernetesError
from pool_service.fleet.engines.kubernetes.slices import Members, Port, members_of
from pool_service.fleet.engines.trouble import Trouble

RETRY_PAUSE_S = 1.0
"""The pause after a failure of the API server, and before slices are listed again."""

log = structlog.get_logger("pool_service.fleet")


class ServiceMembership:
    """Knows the members that are the endpoints of a Service.

    A Service that has no slice at all is a failure, since one without pods has an empty slice:
    nobody ends a fleet in this way, and a misspelt name should not look like an empty fleet.
    """

    def __init__(
        self,
        client: KubernetesClient,
        *,
        namespace: str,
        service: str,
        port: Port = None,
        watch_s: float = WATCH_S,
    ) -> None:
        """Prepare to follow the slices of a Service. watch_s: the length of one watch."""
        self._client = client
        self._path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self._selector = f"kubernetes.io/service-name={service}"
        self._service = f"{namespace}/{service}"
        self._port = port
        self._watch_s = watch_s
        self._trouble = Trouble(f"following the members in the Service {self._service}")
        self._rivals: Mapping[str, tuple[str, ...]] = {}

    async def changes(self) -> AsyncIterator[Mapping[str, str]]:
        known: Mapping[str, str] | None = None
        try:
            while True:
                try:
                    following = self._client.follow(
                        self._path, self._watch_s, labelSelector=self._selector
                    )
                    async with aclosing(following) as listings:
                        async for slices in listings:
                            members = self._members(slices.values())
                            if members is not None and members != known:
                                known = members
                                yield members
                except Expired:
                    # Nothing is wrong: the API server does not keep changes for ever.
                    await asyncio.sleep(RETRY_PAUSE_S)
                except KubernetesError as error:
                    self._trouble.met(error.kind, str(error))
                    await asyncio.sleep(RETRY_PAUSE_S)
        finally:
            await self._client.close()

    def _members(self, slices: Collection[Object]) -> Mapping[str, str] | None:
        """Return the members that the slices know; None: they do not say."""
        if not slices:
            self._trouble.met("absent", f"there is no Service {self._service}, or nothing fills it")
            return None
        try:
            members = members_of(slices, self._port)
        except KubernetesError as error:
            self._trouble.met(error.kind, str(error))
            return None
        self._trouble.over()
        self._note_rivals(members)
        return members.addresses

    def _note_rivals(self, members: Members) -> None:
        rivals, self._rivals = self._rivals, members.rivals
        for name, pods in members.rivals.items():
            if rivals.get(name) != pods:
                log.warning(
                    "fleet_name_taken",
                    name=name,
                    pods=pods,
                    hint="Each member needs a name of its own, and one of these pods is none. Run"
                    " one pod a node, as a DaemonSet does, or a StatefulSet, whose pods have names"
                    " of their own.",
                )
