"""What etcd did not do, and why."""

from collections.abc import Mapping

import grpc


class EtcdError(Exception):
    """Says what went wrong at etcd.

    kind: equal for failures of which a log needs only one.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class EtcdUnreachable(EtcdError):
    """No endpoint answered."""

    def __init__(self, failures: Mapping[str, grpc.aio.AioRpcError], why: str = "") -> None:
        """why: more than gRPC knows of it, as a clause; empty: nothing."""
        reasons = "; ".join(f"{endpoint}: {_said(error)}" for endpoint, error in failures.items())
        more = f"; {why}" if why else ""
        super().__init__(f"no endpoint of etcd answers ({reasons}){more}", "unreachable")


class EtcdRefused(EtcdError):
    """An endpoint answered, and did not do what was asked."""

    def __init__(self, endpoint: str, error: grpc.aio.AioRpcError) -> None:
        super().__init__(f"etcd at {endpoint} refuses: {_said(error)}", error.code().name)


class WatchEnded(EtcdError):
    """A watch has ended, and what it watched has to be read again."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(f"etcd at {endpoint} ended a watch: {reason}", "watch ended")


def _said(error: grpc.aio.AioRpcError) -> str:
    return f"{error.code().name}, {error.details()}"
