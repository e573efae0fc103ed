"""A pool service on loopback that answers what its script says, and keeps what it was asked."""

import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from pool_service_client.v1 import pool_service_pb2 as pb
from pool_service_client.v1.pool_service_pb2_grpc import (
    PoolServiceServicer,
    add_PoolServiceServicer_to_server,
)


@dataclass(frozen=True)
class Refusal:
    """A status other than OK: with a reason as the service sends it, or a bare one.

    details: what follows the ErrorInfo; before: what comes before it. An Any is sent as it is.
    """

    code: grpc.StatusCode
    message: str
    reason: str = ""
    details: tuple[Message, ...] = ()
    domain: str = "pool_service"
    before: tuple[Message, ...] = ()

    def end(self, context: grpc.ServicerContext) -> None:
        if not self.reason:
            context.abort(self.code, self.message)
        info = ErrorInfo(reason=self.reason, domain=self.domain, metadata={"model": "m"})
        status = Status(code=self.code.value[0], message=self.message)
        for detail in (*self.before, info, *self.details):
            packed = Packed()
            if isinstance(detail, Packed):
                packed.CopyFrom(detail)
            else:
                packed.Pack(detail)
            status.details.append(packed)
        context.abort_with_status(rpc_status.to_status(status))


class Stay:
    """Answers nothing, until the caller goes. reached: a call has come to it; left: it has gone."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.left = threading.Event()

    def end(self, context: grpc.ServicerContext) -> None:
        self.reached.set()
        gone = threading.Event()
        if context.add_callback(gone.set):
            gone.wait()
        self.left.set()


class Gate:
    """Goes on when the test opens it."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self.open = self._opened.set

    def end(self, _context: grpc.ServicerContext | None) -> None:
        self._opened.wait(20)


class Opens:
    """Opens a gate, now or in some seconds, and goes on."""

    def __init__(self, gate: Gate, seconds: float = 0.0) -> None:
        self._gate = gate
        self._seconds = seconds

    def end(self, _context: grpc.ServicerContext) -> None:
        if self._seconds:
            threading.Timer(self._seconds, self._gate.open).start()
        else:
            self._gate.open()


M = TypeVar("M", bound=Message)
Step = Message | Refusal | Stay | Gate | Opens


def retry_after(seconds: float) -> RetryInfo:
    delay = Duration()
    delay.FromNanoseconds(round(seconds * 1e9))
    return RetryInfo(retry_delay=delay)


class Script(PoolServiceServicer):
    """Each call takes the next answer of its RPC; the last one is repeated."""

    def __init__(self) -> None:
        self.address = ""
        self.asked: dict[str, list[Message]] = defaultdict(list)
        self.shown: dict[str, list[str | bytes | None]] = defaultdict(list)
        """The header `authorization` of each call, by RPC."""
        self.open: dict[str, int] = defaultdict(int)
        """Streams by RPC."""
        self._closing = threading.Condition()
        self._steps: dict[str, deque[tuple[Step, ...]]] = defaultdict(deque)

    def answer(self, rpc: str, *steps: Step) -> None:
        """One answer to one call: a message or a failure; to a call with a stream, several."""
        self._steps[rpc].append(steps)

    @property
    def ensured(self) -> list[pb.EnsureRequest]:
        return [one for one in self.asked["Ensure"] if isinstance(one, pb.EnsureRequest)]

    def _next(self, rpc: str, request: Message, context: grpc.ServicerContext) -> tuple[Step, ...]:
        self.asked[rpc].append(request)
        headers = dict(context.invocation_metadata())
        self.shown[rpc].append(headers.get("authorization"))
        steps = self._steps[rpc]
        return steps.popleft() if len(steps) > 1 else steps[0]

    def _unary(self, rpc: str, kind: type[M], request: Message, context: grpc.ServicerContext) -> M:
        answer = next(self._play(self._next(rpc, request, context), context))
        assert isinstance(answer, kind)
        return answer

    def _stream(
        self, rpc: str, kind: type[M], request: Message, context: grpc.ServicerContext
    ) -> Iterator[M]:
        with self._opened(rpc):
            for message in self._play(self._next(rpc, request, context), context):
                assert isinstance(message, kind)
                yield message

    @contextmanager
    def _opened(self, rpc: str) -> Iterator[None]:
        self.open[rpc] += 1
        try:
            yield
        finally:
            with self._closing:
                self.open[rpc] -= 1
                self._closing.notify_all()

    def closed(self, rpc: str) -> bool:
        """Whether all streams of the RPC are closed, now or within some seconds."""
        with self._closing:
            return self._closing.wait_for(lambda: not self.open[rpc], 20)

    def _play(self, steps: Iterable[Step], context: grpc.ServicerContext) -> Iterator[Message]:
        for step in steps:
            if isinstance(step, Message):
                yield step
            else:
                step.end(context)

    # Named as the RPCs.
    def Ensure(  # noqa: N802
        self, request: pb.EnsureRequest, context: grpc.ServicerContext
    ) -> pb.EnsureResponse:
        return self._unary("Ensure", pb.EnsureResponse, request, context)

    def Evict(  # noqa: N802
        self, request: pb.EvictRequest, context: grpc.ServicerContext
    ) -> pb.EvictResponse:
        return self._unary("Evict", pb.EvictResponse, request, context)

    def List(  # noqa: N802
        self, request: pb.ListRequest, context: grpc.ServicerContext
    ) -> pb.ListResponse:
        return self._unary("List", pb.ListResponse, request, context)

    def Get(  # noqa: N802
        self, request: pb.GetRequest, context: grpc.ServicerContext
    ) -> pb.GetResponse:
        return self._unary("Get", pb.GetResponse, request, context)

    def Watch(  # noqa: N802
        self, request: pb.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchResponse]:
        yield from self._stream("Watch", pb.WatchResponse, request, context)

    def Hold(  # noqa: N802
        self, request: pb.HoldRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.HoldResponse]:
        yield from self._stream("Hold", pb.HoldResponse, request, context)

    def TailLogs(  # noqa: N802
        self, request: pb.TailLogsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.TailLogsResponse]:
        yield from self._stream("TailLogs", pb.TailLogsResponse, request, context)

    def ListModels(  # noqa: N802
        self, request: pb.ListModelsRequest, context: grpc.ServicerContext
    ) -> pb.ListModelsResponse:
        return self._unary("ListModels", pb.ListModelsResponse, request, context)

    def Pull(  # noqa: N802
        self, request: pb.PullRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.PullResponse]:
        yield from self._stream("Pull", pb.PullResponse, request, context)

    def Forget(  # noqa: N802
        self, request: pb.ForgetRequest, context: grpc.ServicerContext
    ) -> pb.ForgetResponse:
        return self._unary("Forget", pb.ForgetResponse, request, context)

    def Pin(  # noqa: N802
        self, request: pb.PinRequest, context: grpc.ServicerContext
    ) -> pb.PinResponse:
        return self._unary("Pin", pb.PinResponse, request, context)

    def Describe(  # noqa: N802
        self, request: pb.DescribeRequest, context: grpc.ServicerContext
    ) -> pb.DescribeResponse:
        return self._unary("Describe", pb.DescribeResponse, request, context)

    def Reload(  # noqa: N802
        self, request: pb.ReloadRequest, context: grpc.ServicerContext
    ) -> pb.ReloadResponse:
        return self._unary("Reload", pb.ReloadResponse, request, context)


def running() -> Iterator[Script]:
    """A fixture: the script, and its service at `address`."""
    script = Script()
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    add_PoolServiceServicer_to_server(script, server)
    script.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield script
    server.stop(None).wait()


def ready(model: str = "m", **fields: Any) -> pb.Server:  # noqa: ANN401
    """A server that is READY, but for the fields given."""
    known: dict[str, Any] = {
        "runtime_model": model,
        "state": pb.SERVER_STATE_READY,
        "generation": 1,
        "endpoint": "http://127.0.0.1:49321",
        "served_model_name": f"served-{model}",
        "pid": 4711,
        "role": pb.SERVER_ROLE_CURRENT,
    }
    return pb.Server(model=model, **{**known, **fields})


def changed(
    revision: int,
    model: str = "m",
    **fields: Any,  # noqa: ANN401
) -> pb.WatchResponse:
    return pb.WatchResponse(revision=revision, server=ready(model, **fields))


def removed(revision: int, model: str = "m") -> pb.WatchResponse:
    return pb.WatchResponse(revision=revision, removed=ready(model))


def held(model: str = "m", **fields: Any) -> pb.HoldResponse:  # noqa: ANN401
    return pb.HoldResponse(server=ready(model, **fields))


def starting(model: str = "m", **fields: Any) -> pb.HoldResponse:  # noqa: ANN401
    known: dict[str, Any] = {"generation": 1, "role": pb.SERVER_ROLE_CURRENT}
    server = pb.Server(model=model, state=pb.SERVER_STATE_STARTING, **{**known, **fields})
    return pb.HoldResponse(server=server)


def synced(revision: int) -> pb.WatchResponse:
    return pb.WatchResponse(revision=revision, synced=pb.Synced())
