"""Ready notifications, over real sockets."""

import asyncio
import socket

import pytest

from pool_service.adapters.probe.ready_notify import ReadyNotifications
from pool_service.core.types import Identity

ME = Identity(7, 7, "boot")


@pytest.mark.parametrize(
    ("sent", "is_ready"),
    [(b'{"ready": true}\n', True), (b'{"ready": 1}\n', False), (b"", False)],
    ids=["ready", "no notification", "closed"],
)
async def test_a_server_notifies_once_and_is_then_awaited_no_more(
    sent: bytes, is_ready: bool
) -> None:
    notifications = ReadyNotifications()
    assert notifications.of(ME) is None
    ours, its = socket.socketpair()
    with its:
        ready = asyncio.get_running_loop().create_future()
        notifications.listen(ME, ours, ready.set_result)
        event = notifications.of(ME)
        assert event is not None
        assert not event.is_set()
        its.sendall(sent)
        its.shutdown(socket.SHUT_WR)
        assert await ready is is_ready
        assert event.is_set()
        assert notifications.of(ME) is None
        assert ours.fileno() == -1


async def test_a_channel_is_never_waited_for() -> None:
    ours, its = socket.socketpair()
    ready = asyncio.get_running_loop().create_future()
    with its:
        its.settimeout(1.0)
        notifications = ReadyNotifications()
        notifications.listen(ME, ours, ready.set_result)
        assert ours.gettimeout() == 0
        notifications.receive_all()
        assert not ready.done()
    assert await ready is False


async def test_a_channel_that_is_closed_leaves_no_reader() -> None:
    ours, its = socket.socketpair()
    descriptor = ours.fileno()
    its.close()
    ready = asyncio.get_running_loop().create_future()
    ReadyNotifications().listen(ME, ours, ready.set_result)
    assert not await ready
    assert not asyncio.get_running_loop().remove_reader(descriptor)


async def test_what_has_come_is_taken_before_the_event_loop_has_looked() -> None:
    ours, its = socket.socketpair()
    outcomes: list[bool] = []
    notifications = ReadyNotifications()
    notifications.listen(ME, ours, outcomes.append)
    its.close()
    notifications.receive_all()
    assert outcomes == [False]
    assert notifications.of(ME) is None
