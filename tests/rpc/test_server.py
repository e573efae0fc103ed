"""The gRPC server itself: health, reflection, addresses."""

import asyncio
import errno
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from pool_service import listening
from pool_service.address import Address, AddressError
from pool_service.listening import resolve
from pool_service.rpc import reflection
from pool_service.rpc import server as server_module
from pool_service.rpc.server import SERVICE, GrpcServer
from pool_service.rpc.servicer import PoolServicer
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tests.access.letting_in import admission
from tests.rpc.bare import server_of
from tests.rpc.serving import Service, failure, serving
from tools import generate_stubs

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def bare() -> GrpcServer:
    """A server whose own calls do not matter."""
    servicer = PoolServicer(None, None, None, None, None)  # type: ignore[arg-type]
    return server_of(servicer, admission())


# --- health -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", SERVICE])
async def test_health_follows_the_service_from_its_start_to_its_end(name: str) -> None:
    server = bare()
    (address,) = await server.start([Address.parse("127.0.0.1:0")])
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=name)
        watch = stub.Watch(request)
        assert (await stub.Check(request)).status == NOT_SERVING
        assert (await watch.read()).status == NOT_SERVING
        await server.set_serving()
        assert (await stub.Check(request)).status == SERVING
        assert (await watch.read()).status == SERVING
        await server.set_not_serving()
        assert (await watch.read()).status == NOT_SERVING
        await server.set_serving()
        assert (await stub.Check(request)).status == NOT_SERVING
        watch.cancel()
    await server.stop(0)


async def test_an_open_health_watch_does_not_hold_up_the_end() -> None:
    server = bare()
    (address,) = await server.start([Address.parse("127.0.0.1:0")])
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        await server.set_not_serving()
        await server.stop(3600)
        assert await watch.read() is grpc.aio.EOF
        assert await watch.code() is grpc.StatusCode.OK


async def test_health_watches_have_a_limit_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_HEALTH_WATCHES", 1)
    server = bare()
    (address,) = await server.start([Address.parse("127.0.0.1:0")])
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        first = stub.Watch(health_pb2.HealthCheckRequest())
        await first.read()
        told = await failure(stub.Watch(health_pb2.HealthCheckRequest()).read())
        assert told.code == "RESOURCE_EXHAUSTED"
        await stub.Check(health_pb2.HealthCheckRequest())
        first.cancel()
    await server.stop(0)


async def test_a_health_watch_that_is_opened_again_does_not_hold_up_the_end() -> None:
    server = bare()
    (address,) = await server.start([Address.parse("127.0.0.1:0")])
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        opened = asyncio.Event()

        async def watch_again_and_again() -> grpc.StatusCode:
            try:
                while True:
                    async for _ in stub.Watch(health_pb2.HealthCheckRequest()):
                        opened.set()
            except grpc.aio.AioRpcError as failure:
                return failure.code()

        watching = asyncio.create_task(watch_again_and_again())
        await opened.wait()
        await server.set_not_serving()
        await server.stop(3600)
        assert await watching is grpc.StatusCode.UNAVAILABLE


async def test_callers_who_try_again_and_again_do_not_hold_up_the_end() -> None:
    server = bare()
    (address,) = await server.start([Address.parse("127.0.0.1:0")])
    refused = asyncio.Event()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = pb_grpc.PoolServiceStub(channel)

        async def call_while_refused() -> None:
            code = grpc.StatusCode.INVALID_ARGUMENT
            while code is grpc.StatusCode.INVALID_ARGUMENT:
                try:
                    await stub.Ensure(pb.EnsureRequest(model="", runtime_model="x"))
                except grpc.aio.AioRpcError as failure:
                    code = failure.code()
                refused.set()

        calling = asyncio.create_task(call_while_refused())
        await refused.wait()
        await server.stop(3600)
        await calling


async def test_the_health_of_another_service_is_not_found() -> None:
    async with serving() as service:
        stub: Any = health_pb2_grpc.HealthStub(service.channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="other"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert SERVICE in (caught.value.details() or "")


# --- reflection ---------------------------------------------------------------------------


async def reflected(
    service: Service, request: reflection_pb2.ServerReflectionRequest
) -> reflection_pb2.ServerReflectionResponse:
    sync_or_not: Any = service.channel
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(sync_or_not)
    call = stub.ServerReflectionInfo(iter([request]))
    response: reflection_pb2.ServerReflectionResponse = await call.read()
    call.cancel()
    return response


async def test_reflection_lists_the_services() -> None:
    async with serving() as service:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        response = await reflected(service, request)
        names = {each.name for each in response.list_services_response.service}
        assert names == {
            "pool_service.v1.PoolService",
            "pool_service.v1.FleetMemberService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }


async def test_reflection_resolves_the_file_and_all_that_it_imports() -> None:
    async with serving() as service:
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
        response = await reflected(service, request)
        files = [
            FileDescriptorProto.FromString(raw)
            for raw in response.file_descriptor_response.file_descriptor_proto
        ]
        assert [method.name for method in files[0].service[0].method] == [
            "Ensure",
            "Evict",
            "List",
            "Get",
            "Watch",
            "Hold",
            "TailLogs",
            "ListModels",
            "Pull",
            "Forget",
            "Pin",
            "Reload",
            "Describe",
        ]
        for name in files[0].dependency:
            request = reflection_pb2.ServerReflectionRequest(file_by_filename=name)
            response = await reflected(service, request)
            assert response.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        (f"{SERVICE}.Ensure", "pool_service/v1/pool_service.proto"),
        ("pool_service.v1.Server.state", "pool_service/v1/pool_service.proto"),
        ("google.rpc.ErrorInfo", "google/rpc/error_details.proto"),
        (f"{SERVICE}.Nothing", None),
        ("Nothing", None),
    ],
)
async def test_reflection_finds_whatever_has_a_name(symbol: str, file: str | None) -> None:
    async with serving() as service:
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
        response = await reflected(service, request)
        files = response.file_descriptor_response.file_descriptor_proto
        assert [FileDescriptorProto.FromString(raw).name for raw in files[:1]] == (
            [file] if file else []
        )
        assert bool(response.error_response.error_code) is (file is None)


async def test_reflection_shows_the_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_stubs.describe(tmp_path / "reflection.binpb")
    monkeypatch.setattr(reflection, "DESCRIBED", tmp_path / "reflection.binpb")
    async with serving() as service:
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
        raw = (await reflected(service, request)).file_descriptor_response.file_descriptor_proto[0]
        locations = FileDescriptorProto.FromString(raw).source_code_info.location
        comments = [location.leading_comments for location in locations]
        assert any(text.startswith(" Ensure returns a READY server") for text in comments)


async def test_reflection_works_without_the_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflection, "DESCRIBED", tmp_path / "none.binpb")
    async with serving() as service:
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"{SERVICE}.Ensure")
        raw = (await reflected(service, request)).file_descriptor_response.file_descriptor_proto[0]
        assert FileDescriptorProto.FromString(raw).name == "pool_service/v1/pool_service.proto"


# --- addresses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "localhost", "localhost:", ":50051", "localhost:x", "localhost:65536", "h:-1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="host:port or unix:PATH"):
        Address.parse(text)


def test_a_socket_path_that_is_too_long_is_refused() -> None:
    assert Address.parse("unix:/" + "x" * 102).path is not None
    with pytest.raises(AddressError, match="longer than 103 bytes"):
        Address.parse("unix:/" + "x" * 103)


def test_a_socket_path_may_be_relative_or_have_slashes() -> None:
    assert Address.parse("unix:x.sock").path == Path.cwd() / "x.sock"
    assert Address.parse("unix:///run/x.sock").path == Path("/run/x.sock")


async def test_a_taken_port_is_refused_and_its_owner_undisturbed() -> None:
    async with serving() as service:
        with pytest.raises(AddressError, match="taken"):
            await bare().start([Address.parse(service.address)])
        assert (await service.ensure()).started


async def test_a_port_that_another_program_has_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(AddressError, match="taken"):
            await bare().start([Address.parse(f"127.0.0.1:{other.getsockname()[1]}")])


async def test_the_service_answers_on_a_unix_socket_that_others_cannot_use(
    socket_dir: Path,
) -> None:
    path = socket_dir / "made" / "pool.sock"
    async with serving(address=f"unix:{path}") as service:
        assert (await service.ensure()).started
        assert service.address == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


async def test_a_live_unix_socket_is_refused_and_its_owner_undisturbed(socket_dir: Path) -> None:
    path = socket_dir / "pool.sock"
    async with serving(address=f"unix:{path}") as service:
        with pytest.raises(AddressError, match="another program listens"):
            await bare().start([Address.parse(f"unix:{path}")])
        async with grpc.aio.insecure_channel(service.address) as channel:
            await asyncio.wait_for(channel.channel_ready(), 10)
        assert (await service.ensure()).started


async def test_a_socket_that_nobody_listens_on_is_replaced(socket_dir: Path) -> None:
    path = socket_dir / "pool.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(address=f"unix:{path}") as service:
        assert (await service.ensure()).started


async def test_any_other_file_at_the_socket_path_is_left_alone(socket_dir: Path) -> None:
    path = socket_dir / "pool.sock"
    path.write_text("precious")
    with pytest.raises(AddressError, match="is no socket"):
        await bare().start([Address.parse(f"unix:{path}")])
    assert path.read_text() == "precious"


async def test_a_link_at_the_socket_path_is_left_alone(socket_dir: Path) -> None:
    path = socket_dir / "pool.sock"
    path.symlink_to(socket_dir / "elsewhere")
    with pytest.raises(AddressError, match="is no socket"):
        await bare().start([Address.parse(f"unix:{path}")])
    assert path.is_symlink()


async def test_a_directory_that_cannot_be_made_is_an_address_error(socket_dir: Path) -> None:
    (socket_dir / "file").write_text("")
    with pytest.raises(AddressError, match=r"file/pool\.sock"):
        await bare().start([Address.parse(f"unix:{socket_dir}/file/pool.sock")])
    with pytest.raises(AddressError, match=r"file/deeper/pool\.sock"):
        await bare().start([Address.parse(f"unix:{socket_dir}/file/deeper/pool.sock")])


async def test_where_one_address_is_taken_none_is_served(socket_dir: Path) -> None:
    path = socket_dir / "pool.sock"
    async with serving() as service:
        with pytest.raises(AddressError):
            await bare().start([Address.parse(f"unix:{path}"), Address.parse(service.address)])
    assert not path.exists()


async def test_the_service_listens_on_several_addresses_and_prints_the_real_ones(
    socket_dir: Path,
) -> None:
    server = bare()
    addresses = ["127.0.0.1:0", f"unix:{socket_dir}/pool.sock", "localhost:0"]
    bound = await server.start([Address.parse(text) for text in addresses])
    assert bound[1] == addresses[1]
    assert not any(address.endswith(":0") for address in bound)
    for address in bound:
        async with grpc.aio.insecure_channel(address) as channel:
            await asyncio.wait_for(channel.channel_ready(), 10)
    await server.stop(0)


async def test_a_name_is_refused_if_one_of_its_addresses_is_taken() -> None:
    with socket.socket(socket.AF_INET6) as other:
        try:
            other.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        other.listen()
        with pytest.raises(AddressError, match="taken"):
            await bare().start([Address.parse(f"localhost:{other.getsockname()[1]}")])


async def test_a_name_is_served_at_all_of_its_addresses_on_one_port() -> None:
    server = bare()
    (bound,) = await server.start([Address.parse("localhost:0")])
    host, _, port = bound.rpartition(":")
    assert host == "localhost"
    for one in await resolve("localhost:0"):
        async with grpc.aio.insecure_channel(one.text(int(port))) as channel:
            await asyncio.wait_for(channel.channel_ready(), 10)
    await server.stop(0)


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
async def test_a_name_is_served_without_ipv6_where_there_is_none(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(family: int, _: object) -> int:
        return number if family == socket.AF_INET6 else 0

    monkeypatch.setattr(listening, "_refusal", lacking)
    assert {one.family for one in await resolve("localhost:0")} == {socket.AF_INET}
    with pytest.raises(AddressError, match=r"\[::1]:0"):
        await resolve("[::1]:0")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("no-such-host.invalid:0", "is not known"),
        ("192.0.2.1:0", "no address of this machine"),
        ("unix:/proc/none/x.sock", "there can be no socket in /proc/none"),
        ("unix:/proc/x.sock", "there can be no socket in /proc"),
    ],
)
async def test_an_address_that_cannot_be_had_is_reported_as_what_it_is(text: str, why: str) -> None:
    if text.startswith("unix:/proc") and sys.platform != "linux":
        pytest.skip("there is no /proc")
    with pytest.raises(AddressError, match=why):
        await bare().start([Address.parse(text)])


async def test_the_socket_of_a_successor_is_left_alone(socket_dir: Path) -> None:
    address = Address.parse(f"unix:{socket_dir}/pool.sock")
    old, new = bare(), bare()
    await old.start([address])
    async with grpc.aio.insecure_channel(address.text) as channel:
        sync_or_not: Any = channel
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(sync_or_not)
        call = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        await call.read()
        stopping = asyncio.create_task(old.stop(3600))
        while (socket_dir / "pool.sock").exists():  # noqa: ASYNC110  # gRPC tells nobody
            await asyncio.sleep(0)
        await new.start([address])
        await call.done_writing()
        await stopping
    assert (socket_dir / "pool.sock").exists()
    await new.stop(0)
