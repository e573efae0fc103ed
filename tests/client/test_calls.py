import asyncio
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from pool_service_client import (
    AsyncPoolClient,
    Cancelled,
    DeadlineExceeded,
    ExitCause,
    PoolClient,
    PoolError,
    PoolUnavailable,
    RetryPolicy,
    RevisionCompacted,
    ServerChanged,
    ServerRemoved,
    ServerState,
    ShuttingDown,
    Synced,
)
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.conftest import Client, Connect
from tests.client.scripted import (
    Refusal,
    Script,
    Stay,
    Step,
    changed,
    ready,
    removed,
    retry_after,
    synced,
)

DONE = pb.EnsureResponse(server=ready(), started=True)
ENDING = Refusal(StatusCode.UNAVAILABLE, "it ends", "SHUTTING_DOWN", (retry_after(0.01),))


async def test_ensure_gives_the_server_and_whether_this_call_started_it(
    client: Client, service: Script
) -> None:
    service.answer("Ensure", DONE)
    result = await client.call("ensure", "m", runtime_model="r")
    assert result.started
    assert result.server.endpoint == "http://127.0.0.1:49321"
    assert result.server.state is ServerState.READY
    assert service.asked["Ensure"] == [pb.EnsureRequest(model="m", runtime_model="r")]


@pytest.mark.parametrize(
    ("keep_alive", "sent"),
    [
        (90.5, Duration(seconds=90, nanos=500_000_000)),
        (timedelta(minutes=2), Duration(seconds=120)),
        (0, Duration()),
        (-1, Duration(seconds=-1)),
        (float("inf"), Duration(seconds=-1)),
    ],
)
async def test_keep_alive_is_sent_as_a_duration(
    client: Client, service: Script, keep_alive: timedelta | float, sent: Duration
) -> None:
    service.answer("Ensure", DONE)
    await client.call("ensure", "m", keep_alive=keep_alive)
    (request,) = service.ensured
    assert request.HasField("keep_alive")
    assert request.keep_alive == sent


async def test_keep_alive_is_left_as_it_is_unless_given(client: Client, service: Script) -> None:
    service.answer("Ensure", DONE)
    await client.call("ensure", "m")
    assert not service.ensured[0].HasField("keep_alive")


async def test_each_way_to_evict_asks_for_its_target(client: Client, service: Script) -> None:
    service.answer("Evict", pb.EvictResponse())
    await client.call("evict", "m", force=True)
    await client.call("evict_idle")
    await client.call("evict_all", force=True)
    assert service.asked["Evict"] == [
        pb.EvictRequest(model="m", force=True),
        pb.EvictRequest(idle=True),
        pb.EvictRequest(all=True, force=True),
    ]


async def test_evict_says_what_was_stopped_and_how_it_ended(
    client: Client, service: Script
) -> None:
    at = Timestamp(seconds=1_700_000_000)
    end = pb.Exit(generation=2, signal=9, cause=pb.EXIT_CAUSE_EVICTED, last_lines=["x"], time=at)
    stopped = pb.EvictedServer(server=ready("m", last_exit=end), killed=True)
    service.answer("Evict", pb.EvictResponse(evicted=[stopped]))
    (one,) = await client.call("evict", "m")
    assert one.killed
    assert (one.server.last_exit.code, one.server.last_exit.signal) == (None, 9)
    assert one.server.last_exit.cause is ExitCause.EVICTED
    assert one.server.last_exit.time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


async def test_list_goes_through_all_pages(client: Client, service: Script) -> None:
    service.answer("List", pb.ListResponse(servers=[ready("a"), ready("b")], next_page_token="t"))
    service.answer("List", pb.ListResponse(servers=[ready("c")], revision=4))
    assert [server.model for server in await client.servers()] == ["a", "b", "c"]
    assert service.asked["List"] == [pb.ListRequest(), pb.ListRequest(page_token="t")]


async def test_what_a_newer_service_says_survives(client: Client, service: Script) -> None:
    newer = ready("m", state=17)
    newer.MergeFromString(b"\xfa\x7f\x03new")
    service.answer("Ensure", pb.EnsureResponse(server=newer))
    server = (await client.call("ensure", "m")).server
    assert (server.state, server.state.name) == (17, "UNKNOWN_17")
    assert server.message.SerializeToString() == newer.SerializeToString()


async def test_absent_times_are_none(client: Client, service: Script) -> None:
    service.answer("Ensure", DONE)
    server = (await client.call("ensure", "m")).server
    assert (server.create_time, server.expire_time, server.last_exit) == (None, None, None)


async def test_what_will_pass_is_retried_until_it_has(client: Client, service: Script) -> None:
    service.answer("Ensure", ENDING)
    service.answer("Ensure", Refusal(StatusCode.UNAVAILABLE, "connection lost"))
    service.answer("Ensure", DONE)
    assert (await client.call("ensure", "m", timeout=30.0)).server.model == "m"
    assert len(service.asked["Ensure"]) == 3


async def test_what_is_final_is_asked_once(client: Client, service: Script) -> None:
    service.answer("Ensure", Refusal(StatusCode.ABORTED, "evicted", "EVICTED"))
    with pytest.raises(PoolError, match="evicted"):
        await client.call("ensure", "m")
    assert len(service.asked["Ensure"]) == 1


async def test_a_delay_longer_than_the_timeout_is_reported_at_once(
    client: Client, service: Script
) -> None:
    late = Refusal(StatusCode.UNAVAILABLE, "it ends", "SHUTTING_DOWN", (retry_after(3600),))
    service.answer("Ensure", late)
    with pytest.raises(ShuttingDown) as raised:
        await client.call("ensure", "m", timeout=60.0)
    assert raised.value.retry_after == 3600.0


async def test_the_callers_timeout_is_reported_as_such(client: Client, service: Script) -> None:
    service.answer("Ensure", Stay())
    with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.2 s"):
        await client.call("ensure", "m", timeout=0.2)


async def test_a_service_that_is_not_there_is_reported_with_its_address(
    connect: Connect, socket_dir: Path
) -> None:
    client = connect(f"unix:{socket_dir}/none", RetryPolicy(attempts=1))
    with pytest.raises(PoolUnavailable, match=f"cannot reach .* at unix:{socket_dir}/none"):
        await client.call("ensure", "m")


async def test_another_program_at_the_address_is_reported_in_words(
    connect: Connect, service: Script
) -> None:
    service.answer("Ensure", Refusal(StatusCode.UNIMPLEMENTED, "Method not found!"))
    with pytest.raises(PoolError, match="another program, or an older pool service"):
        await connect(service.address).call("ensure", "m")


async def test_a_call_that_the_service_drops_is_an_error_and_no_cancellation(
    connect: Connect, service: Script
) -> None:
    service.answer("Ensure", Refusal(StatusCode.CANCELLED, "CANCELLED"))
    with pytest.raises(PoolUnavailable, match="dropped the call") as raised:
        await connect(service.address, RetryPolicy(attempts=1)).call("ensure", "m")
    assert raised.value.code is StatusCode.UNAVAILABLE


async def test_closing_the_client_gives_up_what_is_under_way(
    client: Client, service: Script
) -> None:
    stay = Stay()
    service.answer("Ensure", stay)
    call = asyncio.create_task(client.call("ensure", "m"))
    await asyncio.to_thread(stay.reached.wait)
    await client.close()
    with pytest.raises(Cancelled, match="its client was closed"):
        await call


async def test_closing_the_client_ends_its_streams(client: Client, service: Script) -> None:
    stay = Stay()
    service.answer("Watch", stay)
    events = asyncio.create_task(client.events(1))
    await asyncio.to_thread(stay.reached.wait)
    await client.close()
    with pytest.raises(Cancelled, match="its client was closed"):
        await events


async def test_a_watch_sends_the_present_state_then_changes(
    client: Client, service: Script
) -> None:
    service.answer("Watch", changed(3, "a"), synced(3), changed(4, "b"), removed(5, "a"), Stay())
    events = await client.events(4)
    assert [type(event) for event in events] == [
        ServerChanged,
        Synced,
        ServerChanged,
        ServerRemoved,
    ]


@pytest.mark.parametrize("broken", [(ENDING,), ()], ids=["by an error", "without a word"])
async def test_a_watch_goes_on_where_it_broke(
    client: Client, service: Script, broken: tuple[Step, ...]
) -> None:
    service.answer("Watch", changed(3, "a"), synced(3), changed(4, "a"), *broken)
    service.answer("Watch", changed(5, "a"), Stay())
    assert [event.revision for event in await client.events(4)] == [3, 3, 4, 5]
    assert service.asked["Watch"] == [pb.WatchRequest(), pb.WatchRequest(after_revision=4)]


async def test_a_watch_begins_again_where_history_is_gone(client: Client, service: Script) -> None:
    service.answer("Watch", changed(3, "a"), synced(3), ENDING)
    service.answer("Watch", Refusal(StatusCode.OUT_OF_RANGE, "gone", "REVISION_COMPACTED"))
    service.answer("Watch", synced(9), Stay())
    assert [type(event) for event in await client.events(4)] == [
        ServerChanged,
        Synced,
        ServerRemoved,
        Synced,
    ]


async def test_a_watch_after_a_revision_that_is_gone_says_so(
    client: Client, service: Script
) -> None:
    service.answer("Watch", Refusal(StatusCode.OUT_OF_RANGE, "gone", "REVISION_COMPACTED"))
    with pytest.raises(RevisionCompacted):
        await client.events(1, after=1)


async def test_a_watch_gives_up_on_a_service_that_stays_away(
    connect: Connect, socket_dir: Path
) -> None:
    client = connect(f"unix:{socket_dir}/none", RetryPolicy(patience=0.2))
    with pytest.raises(PoolUnavailable):
        await client.events(1)


async def test_a_watch_that_is_closed_ends_its_readers_wait(service: Script) -> None:
    service.answer("Watch", synced(1), Stay())
    with PoolClient.connect(service.address) as pool:
        watch = pool.watch()
        assert next(watch) == Synced(1)
        reader = asyncio.create_task(asyncio.to_thread(next, watch, "ended"))
        watch.close()
        assert await reader == "ended"


async def test_a_cancelled_wait_for_an_event_loses_none(service: Script) -> None:
    service.answer("Watch", synced(1), Stay())
    service.answer("Watch", changed(2), Stay())
    async with AsyncPoolClient.connect(service.address) as pool:
        watch = pool.watch()
        assert await anext(watch) == Synced(1)
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await anext(watch)).revision == 2


async def test_cancelling_the_caller_cancels_its_call(service: Script) -> None:
    service.answer("Ensure", Stay())
    async with AsyncPoolClient.connect(service.address) as pool:
        waiting = asyncio.create_task(pool.ensure("m"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_unix_socket_is_an_address(connect: Connect, socket_dir: Path) -> None:
    server = grpc.aio.server()
    path = f"unix:{socket_dir}/s"
    server.add_insecure_port(path)
    await server.start()
    client = connect(path)
    with pytest.raises(PoolError, match="does not know this call"):
        await client.call("ensure", "m")
    await server.stop(None)


async def test_a_port_that_speaks_no_grpc_is_reported_as_out_of_reach(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        accept = asyncio.create_task(asyncio.to_thread(_answer_http, other))
        client = connect(f"127.0.0.1:{other.getsockname()[1]}", RetryPolicy(attempts=1))
        with pytest.raises(PoolUnavailable):
            await client.call("ensure", "m", timeout=20.0)
        await accept


def _answer_http(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
