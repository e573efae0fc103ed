"""The client for threads."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc

from pool_service_client import bearer, connect, convert, headers
from pool_service_client.connect import ConnectOptions
from pool_service_client.convert import KeepAlive
from pool_service_client.convert_description import description
from pool_service_client.description import Description
from pool_service_client.following import Following, Reading
from pool_service_client.holding import Holding, Pulling
from pool_service_client.paging import Paging
from pool_service_client.progress import (
    INTERVAL_S,
    OnProgress,
    StartProgress,
    callback_errors,
)
from pool_service_client.retry import Attempts, RetryPolicy
from pool_service_client.starting import START_TIMEOUT_S, Starter
from pool_service_client.status import Peer
from pool_service_client.streams import Hold, Stream, Watch, call_error
from pool_service_client.suspicion import GRACE_S
from pool_service_client.tls import TlsOptions, tls_for
from pool_service_client.types import (
    EnsureResult,
    EvictedServer,
    Found,
    LogEnd,
    LogLines,
    Model,
    Page,
    Pinned,
    Progress,
    Reloaded,
    Server,
)
from pool_service_client.v1 import pool_service_pb2 as pb
from pool_service_client.v1.pool_service_pb2_grpc import PoolServiceStub

R = TypeVar("R")


class PoolClient:
    """A connection to a pool service, for any number of threads.

        with PoolClient.connect() as pool:
            server = pool.ensure("vllm-mlx/qwen3-4b").server

    The methods take `timeout` in seconds for the whole call including its retries, and raise
    subclasses of PoolError. Failures that may pass are retried: within the timeout, or, without
    one, for `RetryPolicy.patience`.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        address: str = "the channel's address",
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
    ) -> None:
        """Use a channel of the caller's. address: the service's name in error messages."""
        self._channel = channel
        self._stub = PoolServiceStub(headers.with_headers(channel, headers.trace_headers))
        self._peer = Peer(address)
        self._retry = retry

    @classmethod
    def connect(
        cls,
        address: str | None = None,
        *,
        token: str | None = None,
        token_file: str | PathLike[str] | None = None,
        ca: str | PathLike[str] | None = None,
        cert: str | PathLike[str] | None = None,
        key: str | PathLike[str] | None = None,
        server_name: str | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
    ) -> Self:
        """Return a client of the service at an address. It connects when it is first used.

        Args:
            address: host:port or unix:PATH; or several host:port, separated by commas, of which the
                next one is called when one fails. Default: POOL_SERVICE_ADDRESS, else the socket
                of your own service if one listens there now, else 127.0.0.1:50051.
            token: a bearer token that every call shows, for a service that asks for one.
            token_file: a file with the token, which is read again when it changes. Default for
                both: POOL_SERVICE_TOKEN, else the file that POOL_SERVICE_TOKEN_FILE names, else
                none.
            ca: a file with the authorities in PEM that you trust to know the service. Default:
                POOL_SERVICE_CA, else those of the system.
            cert: a file with the certificate in PEM that you show to the service. Default:
                POOL_SERVICE_CERT, else none.
            key: a file with its private key. Default: POOL_SERVICE_KEY.
            server_name: the name that the service's certificate must have, if that is not the
                host of the address. Default: POOL_SERVICE_SERVER_NAME.
            retry: how long and how often failures are retried.

        Raises:
            ValueError: the address is not valid; or the token is not, both were given, or others
                may use its file; or the certificate and its key are not, do not belong together,
                or others may use the key.

        To another machine it speaks TLS. To a loopback address it does if you give one of ca,
        cert, key and server_name. The files are read now: make a new client when you have
        replaced them.
        """
        target = connect.target(address)
        header = bearer.header(token, token_file)
        tls = tls_for(target, TlsOptions(ca, cert, key, server_name))
        channel = connect.open_channel(grpc, target, tls)
        retry = connect.retry_over(target, retry)
        return cls(bearer.showing(channel, header), address=target, retry=retry)

    @classmethod
    def connect_or_start(
        cls,
        *,
        program: str | PathLike[str] | None = None,
        arguments: Sequence[str] = (),
        start_timeout: float = START_TIMEOUT_S,
        **options: Unpack[ConnectOptions],
    ) -> Self:
        """Return a client of your own service, which is started in the background if none runs.

        However many programs do that at the same moment, there is one service. It goes on when
        your program ends; `pool-service stop` ends it. If POOL_SERVICE_ADDRESS is set, that service
        is meant, and none is started.

        Args:
            program: the program to start it with. Default: POOL_SERVICE_PROGRAM, else
                `pool-service` beside the running interpreter or on PATH.
            arguments: of `pool-service start`, for a service that is started, such as
                ("--config", "pool.toml").
            start_timeout: for the start, in seconds.
            options: those of `connect` but the address.

        Raises:
            ServiceNotStarted: there is no such program, or the service could not be started.
            ValueError: as for `connect`.
        """
        address = Starter(program, arguments, start_timeout).address()
        return cls.connect(address, **options)

    def close(self) -> None:
        """Close the channel: end all calls, and release all holds."""
        self._peer.closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def ensure(
        self,
        model: str,
        *,
        runtime_model: str | None = None,
        keep_alive: KeepAlive = None,
        download: bool | None = None,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
    ) -> EnsureResult:
        """Wait until the model's server is READY; start one if there is none.

        Giving up the wait does not stop the start.

        Args:
            model: the model's name, or an alias.
            runtime_model: the model that the runtime loads; None: as the service decides.
            keep_alive: how long the server stays when it is unused, in seconds or as a timedelta;
                None: as it is; 0: it stops as soon as it is unused; negative or infinite: it stays.
            download: whether missing files may be downloaded, which can take long; None: as the
                service is configured.
            on_progress: called in your thread with the server's state, its place in the queue and
                its progress, at most every half second, while the call waits. An error that it
                raises ends the call.
            timeout: in seconds; None: no limit.
        """
        request = convert.ensure_request(model, runtime_model, keep_alive, download=download)
        method: Callable[..., pb.EnsureResponse] = self._stub.Ensure
        if on_progress is not None:
            method = partial(self._ensure_with_progress, StartProgress(model, on_progress))
        with callback_errors():
            response = self._call(method, request, timeout)
        return convert.ensure_result(response, self._peer)

    def _ensure_with_progress(
        self, progress: StartProgress, request: pb.EnsureRequest, timeout: float | None
    ) -> pb.EnsureResponse:
        """Make one attempt of Ensure, and report the server's progress meanwhile."""
        call = self._stub.Ensure.future(request, timeout=timeout)
        try:
            while True:
                try:
                    return call.result(INTERVAL_S)
                except grpc.FutureTimeoutError:
                    found = self._looked_up(progress.request)
                    if found is not None and not call.done():
                        progress.tell(found)
        finally:
            call.cancel()

    def _looked_up(self, request: pb.GetRequest) -> pb.GetResponse | None:
        with suppress(grpc.RpcError):
            return self._stub.Get(request, timeout=INTERVAL_S)
        return None

    def hold(
        self,
        model: str,
        *,
        runtime_model: str | None = None,
        keep_alive: KeepAlive = None,
        download: bool | None = None,
        holder: str = "",
    ) -> Hold:
        """Make the model READY, and keep it READY until the hold is closed: see Hold.

        The arguments are those of `ensure`; keep_alive counts from the end of the last hold.

        Args:
            model: as for `ensure`.
            runtime_model: as for `ensure`.
            keep_alive: as for `ensure`.
            download: as for `ensure`.
            holder: a label for those who want to evict the model.
        """
        request = convert.hold_request(
            model, runtime_model, keep_alive, download=download, holder=holder
        )
        holding = Holding(request, self._retry)
        check = partial(self._stub.Get.future, timeout=GRACE_S)
        return Hold(Stream(self._stub.Hold, holding, self._peer), model, check)

    def evict(
        self, model: str, *, force: bool = False, timeout: float | None = None
    ) -> tuple[EvictedServer, ...]:
        """Stop the model's server, and return it when its process is gone; empty if there is none.

        Giving up the wait does not stop the eviction.

        Args:
            model: the model's name, or an alias.
            force: stop the server even if it is held or has requests in flight, which may finish
                within the drain timeout. Without it, such a server raises ServerInUse.
            timeout: in seconds; None: no limit.
        """
        return self._evict(pb.EvictRequest(model=model, force=force), timeout)

    def evict_idle(self, *, timeout: float | None = None) -> tuple[EvictedServer, ...]:
        """Stop every READY server that is neither in use nor pinned; return the stopped ones."""
        return self._evict(pb.EvictRequest(idle=True), timeout)

    def evict_all(
        self, *, force: bool = False, timeout: float | None = None
    ) -> tuple[EvictedServer, ...]:
        """Stop every server, with `force` even those in use; return the stopped ones."""
        return self._evict(pb.EvictRequest(all=True, force=force), timeout)

    def _evict(self, request: pb.EvictRequest, timeout: float | None) -> tuple[EvictedServer, ...]:
        return convert.evicted_servers(self._call(self._stub.Evict, request, timeout))

    def list(self, *, timeout: float | None = None) -> tuple[Server, ...]:
        """Return all servers, ordered by model. The timeout is for each page."""
        return tuple(one for page in self.pages(timeout=timeout) for one in page.servers)

    def get(self, model: str, *, check: bool = False, timeout: float | None = None) -> Found:
        """Return the model's present server, if it has one. The call does not count as a use.

        Args:
            model: the model's name, or an alias.
            check: let the service ask a READY server first: `answers` says whether it did.
            timeout: in seconds; None: no limit.
        """
        request = pb.GetRequest(model=model, check=check)
        return convert.found(self._call(self._stub.Get, request, timeout))

    def pages(self, *, page_size: int = 0, timeout: float | None = None) -> Iterator[Page]:
        """Yield all pages of servers, at least one; each has the pool's totals and revision.

        Args:
            page_size: the most servers on a page; 0: the service's default.
            timeout: in seconds, for each page; None: no limit.
        """
        paging, more = Paging(self._peer), True
        while more:
            request = pb.ListRequest(page_size=page_size, page_token=paging.token)
            response = self._call(self._stub.List, request, timeout)
            yield convert.page(response)
            more = paging.turn(response.next_page_token)

    def watch(self, after_revision: int | None = None) -> "Watch":
        """Return an iterator over the pool's events, which survives restarts of the service.

        It yields the present servers, Synced, then every change: see Watch.

        Args:
            after_revision: yield only the changes after this revision.
        """
        return Watch(self._stub.Watch, Following(self._retry, after_revision), self._peer)

    def logs(
        self,
        model: str,
        *,
        generation: int | None = None,
        previous: bool = False,
        oldest: bool = False,
        cursor: str = "",
        lines: int | None = None,
        follow: bool = False,
    ) -> "Stream[pb.TailLogsRequest, pb.TailLogsResponse, LogLines | LogEnd]":
        """Return an iterator over what the model's servers have written, and the ends of processes.

        It begins with the newest process, unless you say otherwise, and survives restarts of the
        service. Reading a log is no use of a server. `close`, from any thread, ends the iteration.

        Args:
            model: a model or an alias.
            generation: begin with the process of this generation.
            previous: begin with the process before the newest one.
            oldest: begin with the oldest process whose log is kept, and go on to the newest.
            cursor: go on after the value that had this cursor.
            lines: how many of the last lines of the first process; None: 100. With `oldest` and
                `cursor` every line comes, and this is not valid.
            follow: go on with new lines and new processes, without end.

        Raises:
            LogNotFound: no such log is kept (when you iterate).
            ValueError: the iteration would begin in two places.
        """
        request = convert.log_request(
            model,
            generation,
            previous=previous,
            oldest=oldest,
            cursor=cursor,
            lines=lines,
            follow=follow,
        )
        return Stream(self._stub.TailLogs, Reading(request, self._retry), self._peer)

    def models(self, *, found: bool = False, timeout: float | None = None) -> tuple[Model, ...]:
        """Return the models of the service's configuration, ordered by name.

        Args:
            found: include models that are not listed: cached, with a server, or remembered.
            timeout: in seconds, for each page; None: no limit.
        """
        models: tuple[Model, ...] = ()
        paging, more = Paging(self._peer), True
        while more:
            request = pb.ListModelsRequest(page_token=paging.token, found=found)
            response = self._call(self._stub.ListModels, request, timeout)
            models += convert.models(response)
            more = paging.turn(response.next_page_token)
        return models

    def pull(self, model: str, *, runtime_model: str | None = None) -> Iterator[Progress]:
        """Download the model's missing files, and yield the progress until all are on disk.

        The download begins when you iterate, and starts no server. Closing the iterator ends it;
        the next download continues from there. A download that breaks off is resumed.
        """
        pulling = Pulling(convert.pull_request(model, runtime_model), self._retry)
        with Stream(self._stub.Pull, pulling, self._peer) as progress:
            yield from progress

    def forget(self, model: str, *, timeout: float | None = None) -> str:
        """Forget which runtime_model was named for the model; return it, empty if none was.

        A running server is not affected.
        """
        request = pb.ForgetRequest(model=model)
        return self._call(self._stub.Forget, request, timeout).runtime_model

    def pin(
        self, model: str, *, pinned: bool | None = True, timeout: float | None = None
    ) -> Pinned:
        """Pin the model, or take its pin back, whatever the configuration says; starts nothing.

        That is kept over evictions and restarts of the service, until the next call.

        Args:
            model: its name, or an alias of it.
            pinned: False: it is not pinned; None: the configuration decides again.
            timeout: in seconds; None: no limit.
        """
        request = pb.PinRequest(model=model, pinned=pinned)
        return convert.pinned(self._call(self._stub.Pin, request, timeout))

    def describe(self, model: str, *, timeout: float | None = None) -> Description:
        """Return all that the service knows about a model; a look, which is no use of it.

        Raises:
            ModelUnknown: nothing is known of it, and only models of the catalogue are served.
        """
        request = pb.DescribeRequest(model=model)
        return description(self._call(self._stub.Describe, request, timeout))

    def reload(self, *, timeout: float | None = None) -> Reloaded:
        """Make the service reload its configuration; return the changes and the problems.

        Raises:
            ConfigInvalid: the configuration is not valid, and nothing was changed.
        """
        return convert.reloaded(self._call(self._stub.Reload, pb.ReloadRequest(), timeout))

    def _call(self, method: Callable[..., R], request: object, timeout: float | None) -> R:
        attempts = Attempts(self._retry, timeout)
        while True:
            try:
                return method(request, timeout=attempts.remaining())
            except grpc.RpcError as failure:
                error = call_error(failure, self._peer, timeout)
            time.sleep(attempts.failed(error))
