"""A Lease of coordination.k8s.io, and the few ways in which a front changes it."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pool_service.fleet.engines.kubernetes.client import KubernetesClient, Object
from pool_service.fleet.engines.kubernetes.errors import Absent, KubernetesError

EPOCH = "pool-service/epoch"
"""The annotation with the epoch of the holder."""


@dataclass(frozen=True, slots=True)
class Record:
    """The holder of a Lease, as the Lease names it.

    holder: empty: nobody. lives_s: the seconds for which it lives without a renewal.
    renewed: by the holder's clock; it only tells two renewals apart. epoch: 0: never held.
    """

    holder: str
    lives_s: float
    renewed: str
    epoch: int
    raw: Object = field(compare=False, repr=False)

    @property
    def version(self) -> int:
        """The version of the object: higher than all before, of whichever object of this name."""
        return int(self.raw["metadata"]["resourceVersion"])


class Lease:
    """Reads and writes the Lease of a fleet; each method raises KubernetesError."""

    def __init__(self, client: KubernetesClient, namespace: str, name: str) -> None:
        self._client = client
        self._name = name
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"

    async def read(self) -> Record | None:
        """Return what it says, as a majority of the stores has it now; None: there is none."""
        try:
            return _record(await self._client.get(f"{self._collection}/{self._name}"))
        except Absent:
            return None

    async def create(self) -> Record:
        """Create it without a holder. Raises Outrun if it is there."""
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": {},
        }
        return _record(await self._client.create(self._collection, body))

    async def take(self, record: Record, holder: str, lives_s: int) -> Record:
        """Hold it in place of the holder of `record`. Raises Outrun if that has changed.

        The epoch is the version that this holder replaces. No two replace the same version, and
        versions rise also after the Lease was deleted and created again.
        """
        now = _now()
        raw = _copied(record)
        raw["metadata"]["annotations"][EPOCH] = str(max(record.version, record.epoch + 1))
        raw["spec"] |= {
            "holderIdentity": holder,
            "leaseDurationSeconds": lives_s,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": int(raw["spec"].get("leaseTransitions") or 0) + 1,
        }
        return await self._put(raw)

    async def renew(self, record: Record) -> Record:
        """Say that the holder is there. Raises Outrun if the Lease has changed, and Absent."""
        raw = _copied(record)
        raw["spec"]["renewTime"] = _now()
        return await self._put(raw)

    async def release(self, record: Record) -> Record:
        """Hold it no more. Raises Outrun if the Lease has changed, and Absent."""
        raw = _copied(record)
        raw["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        return await self._put(raw)

    async def _put(self, raw: Object) -> Record:
        return _record(await self._client.replace(f"{self._collection}/{self._name}", raw))


def _copied(record: Record) -> dict[str, Any]:
    """Return the object of a record, to be changed: others may have added what is to stay."""
    raw = copy.deepcopy(dict(record.raw))
    raw["metadata"]["annotations"] = dict(raw["metadata"].get("annotations") or {})
    raw["spec"] = dict(raw.get("spec") or {})
    return raw


def _record(raw: Object) -> Record:
    """Return what an object says. Raises KubernetesError if it is none of ours."""
    try:
        spec: Mapping[str, Any] = raw.get("spec") or {}
        annotations: Mapping[str, str] = raw["metadata"].get("annotations") or {}
        record = Record(
            holder=spec.get("holderIdentity") or "",
            lives_s=float(spec.get("leaseDurationSeconds") or 0),
            renewed=spec.get("renewTime") or "",
            epoch=int(annotations.get(EPOCH) or 0),
            raw=raw,
        )
        _ = record.version
    except (ValueError, KeyError, TypeError) as error:
        message = f"the Lease cannot be read ({error!r}): delete it if no other program needs it"
        raise KubernetesError(message, "lease") from error
    return record


def _now() -> str:
    """Return the time of day as Kubernetes writes it, for people: nothing here compares it."""
    return datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
