"""What the tests need of an API server, be it the fake or the real one."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pool_service.fleet.engines.kubernetes.access import Access
from pool_service.fleet.engines.kubernetes.client import KubernetesClient, Object

NAMESPACE = "default"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"


class ApiServer(Protocol):
    """access: of an administrator."""

    @property
    def access(self) -> Access: ...

    async def kill(self) -> None:
        """End it, with all connections; what is stored stays."""

    async def start(self) -> None:
        """Start it again."""

    def pause(self) -> None:
        """Let it answer nothing, while connections stay."""

    def resume(self) -> None: ...


class Kubectl:
    """Changes objects as an administrator does."""

    def __init__(self, access: Access) -> None:
        self._client = KubernetesClient(access)

    async def close(self) -> None:
        await self._client.close()

    async def get(self, path: str) -> dict[str, Any]:
        return dict(await self._client.get(path))

    async def create(self, collection: str, body: Object) -> None:
        await self._client.create(collection, body)

    async def replace(self, path: str, **parts: object) -> None:
        """Replace parts of the newest version of an object."""
        await self._client.replace(path, {**await self._client.get(path), **parts})

    async def delete(self, path: str) -> None:
        await self._client._call("DELETE", path, None, {})

    async def delete_if_there(self, collection: str, name: str) -> None:
        listing = await self._client.get(collection)
        if name in {one["metadata"]["name"] for one in listing["items"]}:
            await self.delete(f"{collection}/{name}")


def endpoint(
    address: str, *, node: str | None = None, pod: str | None = None, **more: object
) -> dict[str, object]:
    entry: dict[str, object] = {"addresses": [address], "conditions": {"ready": True}}
    if node is not None:
        entry["nodeName"] = node
    if pod is not None:
        entry["targetRef"] = {"kind": "Pod", "namespace": NAMESPACE, "name": pod}
    return entry | more


def slice_of(
    service: str,
    name: str,
    endpoints: Sequence[Mapping[str, object]],
    *,
    kind: str = "IPv4",
    ports: Sequence[tuple[str, int]] = (("grpc", 50051),),
) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": kind,
        "endpoints": list(endpoints),
        "ports": [{"name": one, "port": number, "protocol": "TCP"} for one, number in ports],
    }
