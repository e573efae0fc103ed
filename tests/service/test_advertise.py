"""A member of a fleet: its servers listen at the address that it advertises, and nowhere else."""

import itertools
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import grpc
import psutil
import pytest

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from pool_service_client import PoolClient, RetryPolicy, RuntimeUnavailable, Server, ServerInUse
from tests.second_address import NOWHERE, needs_ipv4_addresses
from tests.service.conftest import FAKE, Start
from tests.service.test_ensure import servers_of
from tools.demo.service import RunningService, running

pytestmark = needs_ipv4_addresses

LIMIT_S = 60.0
ONCE = RetryPolicy(patience=0)

LIKE_VLLM_MLX = f"""
[runtime]
kind = "vllm-mlx"
command = ['{sys.executable}', '-S', '-E', '{FAKE}',
           'serve', '{{runtime_model}}', '--port', '{{port}}']
environment = {{ FAKE_API_KEY = "{{api_key}}" }}
[runtimes.plain]
command = ['{sys.executable}', '-S', '-E', '{FAKE}',
           'serve', '{{runtime_model}}', '--port', '{{port}}', '--host', '{{host}}']
environment = {{ FAKE_API_KEY = "{{api_key}}" }}
[models.plain]
runtime = "plain"
runtime_model = "x"
"""


def member(advertise: str, more: str = LIKE_VLLM_MLX) -> str:
    return f"[fleet]\nname = 'one'\nadvertise = '{advertise}'\n{more}"


def status_of(server: Server, key: str = "") -> int:
    shown = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with urlopen(
            Request(f"{server.endpoint}/v1/models", headers=shown), timeout=LIMIT_S
        ) as one:
            return int(one.status)
    except HTTPError as error:
        with error:
            return int(error.code)


def address_of(server: Server) -> tuple[str, int]:
    url = urlsplit(server.endpoint)
    assert url.hostname
    assert url.port
    return url.hostname, url.port


def listening_hosts(pid: int) -> set[str]:
    process = psutil.Process(pid)
    found = [one for each in (process, *process.children()) for one in each.net_connections("tcp")]
    return {one.laddr[0] for one in found if one.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize("model", ["m", "plain"])
@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
def test_a_server_listens_at_the_advertised_address_alone(
    start: Start, host: str, model: str
) -> None:
    with PoolClient.connect(start(member(host)).address) as pool:
        server = pool.ensure(model).server
        assert address_of(server)[0] == host
        assert listening_hosts(server.pid) == {host}
        assert status_of(server, server.api_key) == HTTPStatus.OK
        assert status_of(server) == HTTPStatus.UNAUTHORIZED
        with socket.socket() as tried:
            assert tried.connect_ex(("127.0.0.1", address_of(server)[1])) != 0


def test_every_message_of_a_server_has_the_name_of_its_host(start: Start) -> None:
    service = start(f"[fleet]\nname = 'studio-1'\n{LIKE_VLLM_MLX}")
    with grpc.insecure_channel(service.address) as channel:
        stub = pb_grpc.PoolServiceStub(channel)
        ensured = stub.Ensure(pb.EnsureRequest(model="m"), timeout=LIMIT_S).server
        (listed,) = stub.List(pb.ListRequest()).servers
        assert {ensured.host, listed.host} == {"studio-1"}
        # It advertises no address, so its servers stay where they were.
        assert ensured.endpoint.startswith("http://127.0.0.1:")


def test_a_server_with_a_client_at_the_advertised_address_is_never_ended_for_another(
    start: Start,
) -> None:
    """The program says nothing of its requests, so that connections alone count."""
    with PoolClient.connect(start(member("127.0.0.2")).address, retry=ONCE) as pool:
        server = pool.ensure("plain").server
        # A stranger with the same port at another address, and its client, are no use of it.
        stranger = socket.create_server(("127.0.0.1", address_of(server)[1]))
        with stranger, socket.create_connection(stranger.getsockname()):
            with socket.create_connection(address_of(server)):
                with pytest.raises(ServerInUse):
                    pool.evict("plain")
                assert [one.pid for one in pool.list()] == [server.pid]
            evicted_once_unused(pool, "plain")


def evicted_once_unused(pool: PoolClient, model: str) -> None:
    """Evict a model as soon as its server has let go of the connection that was closed."""
    while True:
        try:
            pool.evict(model)
        except ServerInUse:
            continue
        return


def test_the_next_service_leaves_a_server_in_use_where_it_is(start: Start) -> None:
    first = start(member("127.0.0.2"))
    with PoolClient.connect(first.address) as pool, ExitStack() as stack:
        before = pool.ensure("plain").server
        client = stack.enter_context(socket.create_connection(address_of(before)))
        first.process.kill()
        first.process.wait()
        with PoolClient.connect(start(member("127.0.0.3")).address) as following:
            after = following.ensure("plain").server
            assert (after.pid, after.endpoint) == (before.pid, before.endpoint)
            assert after.outdated
            assert address_of(following.ensure("m").server)[0] == "127.0.0.3"
            client.close()
            evicted_once_unused(following, "plain")
            assert address_of(following.ensure("plain").server)[0] == "127.0.0.3"


def plain_at(host: str) -> str:
    return f"""
[service]
standby = 0
[runtimes.ours]
command = ['{sys.executable}', '-S', '-E', '{FAKE}',
           'serve', '{{runtime_model}}', '--port', '{{port}}', '--host', '{host}']
[models.m]
runtime = "ours"
runtime_model = "x"
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_program_that_listens_elsewhere_is_no_server_and_the_error_says_what_to_do(
    start: Start, host: str
) -> None:
    service = start(member("127.0.0.2", plain_at(host)))
    with PoolClient.connect(service.address, retry=ONCE) as pool:
        with pytest.raises(RuntimeUnavailable) as refused:
            pool.ensure("m")
        assert f"listens at http://{host}:" in str(refused.value)
        assert "not at 127.0.0.2" in str(refused.value)
        assert "Correct [runtimes.ours] command" in str(refused.value)
        # The process is gone with the server, which is shown as failed.
        while servers_of(service):
            pass
        assert not any(one.endpoint for one in pool.list())


def test_a_command_that_names_the_address_itself_needs_no_placeholder(start: Start) -> None:
    with PoolClient.connect(start(member("127.0.0.2", plain_at("127.0.0.2"))).address) as pool:
        assert address_of(pool.ensure("m").server)[0] == "127.0.0.2"


def test_where_the_address_is_not_there_no_server_starts_and_a_notice_says_so(
    start: Start, tmp_path: Path
) -> None:
    service = start(member(NOWHERE))
    with PoolClient.connect(service.address, retry=ONCE) as pool:
        with pytest.raises(RuntimeUnavailable, match="no address of this machine now"):
            pool.ensure("m")
        (page,) = pool.pages()
        (notice,) = page.notices
        assert notice.startswith(f"No server can start: fleet.advertise is {NOWHERE}")
    assert servers_of(service) == []
    assert "no address of this machine" in service.log.read_text()
    assert not list((tmp_path / "state" / "logs").glob("*/*.log"))


AWAY = "10.9.8.7"
"""An address of a network that the test makes, and takes away."""

IN_ITS_OWN_NETWORK = (
    *("unshare", "--net", "sh", "-c"),
    f"""ip link set lo up
    ip link add fleet0 type veth peer name fleet1
    ip addr add {AWAY}/24 dev fleet0
    ip link set fleet0 up
    ip link set fleet1 up
    exec "$@" """,
    "sh",
)


def change_address(service: RunningService, what: str) -> None:
    """Let the network of a service have its address ("add"), or not ("del")."""
    namespace = f"--net=/proc/{service.process.pid}/ns/net"
    command = ("ip", "addr", what, f"{AWAY}/24", "dev", "fleet0")
    subprocess.run(["nsenter", namespace, *command], check=True)


def test_while_the_address_is_away_servers_are_left_alone_and_none_is_started(
    tmp_path: Path,
) -> None:
    """Each probe would end a server that something else than its network had made deaf."""
    tools = all(map(shutil.which, ("ip", "unshare", "nsenter")))
    if not tools or subprocess.run([*IN_ITS_OWN_NETWORK, "true"], check=False).returncode:
        pytest.skip("needs root, util-linux and iproute2, to make a network")
    config = tmp_path / "pool.toml"
    quick = "[service]\nprobe_interval = '0.1s'\nprobe_limit = 1\nstandby = 0\n"
    config.write_text(member(AWAY, f"{quick}{LIKE_VLLM_MLX}"))
    # A socket, which the test reaches from its own network.
    with (
        running(
            tmp_path / "state",
            listen=(f"unix:{tmp_path}/s",),
            arguments=["--config", str(config)],
            wrapper=IN_ITS_OWN_NETWORK,
        ) as service,
        PoolClient.connect(service.address, retry=ONCE) as pool,
    ):
        before = pool.ensure("m").server
        assert address_of(before)[0] == AWAY
        assert not next(pool.pages()).notices
        change_address(service, "del")
        (notice,) = next(pool.pages()).notices
        assert "is no address of this machine now" in notice
        # One probe without an answer is enough to end a server, and twenty are due meanwhile.
        until, numbers = time.monotonic() + 2.0, itertools.count()
        while time.monotonic() < until:
            with pytest.raises(RuntimeUnavailable, match="no address of this machine now"):
                pool.ensure(f"other-{next(numbers)}")
        change_address(service, "add")
        assert not next(pool.pages()).notices
        assert pool.ensure("m").server.pid == before.pid
        assert address_of(pool.ensure("other").server)[0] == AWAY
