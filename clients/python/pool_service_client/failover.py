"""Several addresses: a client calls one of them, and goes on with the next when a call fails."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Self, TypeVar, cast

import grpc

R = TypeVar("R")

_FAILURES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)

_GIVEN_UP = ("Locally cancelled by application!", "Cancelled upon garbage collection!")
"""The details of CANCELLED calls that were given up here, by grpc.aio: it has no other sign."""


class Channels:
    """The methods of a channel that a client uses, over a channel to each of several addresses.

    A call that ends as UNAVAILABLE, or that the service drops (CANCELLED), moves the next calls on
    to the next address, the first again after the last. The client's retries then make the call
    there.
    """

    def __init__(self, channels: Sequence[Any]) -> None:
        """channels: of grpc, or of grpc.aio."""
        self._channels = channels
        self._at = 0

    def unary_unary(self, *arguments: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401
        methods = [one.unary_unary(*arguments, **options) for one in self._channels]
        call: Any = self._begin(methods)
        # Only those for threads have it.
        if hasattr(methods[0], "future"):
            call.future = self._begin([one.future for one in methods])
        return cast("Callable[..., Any]", call)

    def unary_stream(self, *arguments: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401
        return self._begin([one.unary_stream(*arguments, **options) for one in self._channels])

    def close(self) -> Any:  # noqa: ANN401 - grpc.aio's is to be awaited
        ends = [one.close() for one in self._channels]
        if any(map(asyncio.iscoroutine, ends)):
            return asyncio.gather(*ends)
        return None

    def _begin(self, methods: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            at = self._at
            note = partial(self._note, at)
            try:
                begun = methods[at](*arguments, **options)
            except grpc.RpcError as error:
                note(_code_of(error))
                raise
            if isinstance(begun, grpc.aio.Call):
                # Called before whoever awaits the call goes on.
                begun.add_done_callback(lambda ended: note(_failure_at_once(ended)))
                return begun
            # What has no such method is an answer.
            return _NotedCall(begun, note) if hasattr(begun, "add_done_callback") else begun

        return call

    def _note(self, at: int, code: grpc.StatusCode | None) -> None:
        # Other calls may have failed at the same address, and have moved on already.
        if code in _FAILURES and at == self._at:
            self._at = (at + 1) % len(self._channels)


class _NotedCall:
    """A call of grpc whose failure is noted before whoever waits for it hears of it."""

    def __init__(self, call: Any, note: Callable[[grpc.StatusCode | None], None]) -> None:  # noqa: ANN401
        self._call = call
        self._note = note

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:  # noqa: ANN401
        try:
            return next(self._call)
        except grpc.RpcError as error:
            self._failed(error)
            raise

    def result(self, timeout: float | None = None) -> Any:  # noqa: ANN401
        try:
            return self._call.result(timeout)
        except grpc.RpcError as error:
            self._failed(error)
            raise

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._call.add_done_callback(lambda _: callback(self))

    def _failed(self, error: grpc.RpcError) -> None:
        # What was given up here is no failure of the address.
        if not self._call.cancelled():
            self._note(_code_of(error))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._call, name)


def _code_of(error: grpc.RpcError) -> grpc.StatusCode:
    return cast("grpc.Call", error).code()


def _failure_at_once(call: grpc.aio.Call) -> grpc.StatusCode | None:
    """Return the code of a call of grpc.aio that has ended; None if it was given up here."""
    return None if _at_once(call.details()) in _GIVEN_UP else _at_once(call.code())


def _at_once(asked: Coroutine[Any, Any, R]) -> R | None:
    """Return what a call of grpc.aio that has ended is asked for, without waiting."""
    try:
        asked.send(None)
    except StopIteration as told:
        return cast("R", told.value)
    asked.close()
    return None
