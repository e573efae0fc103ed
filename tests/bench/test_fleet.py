"""The parts that the benchmarks of a fleet are made of."""

import asyncio
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from pool_service.v1 import pool_service_pb2 as pb
from pool_service_client import PoolClient
from tools.bench import fleet_sizes
from tools.bench.echo_server import METHOD
from tools.bench.fleet import echo
from tools.bench.fleet_rig import ended, front
from tools.bench.fleet_warm import echo_command
from tools.bench.scripted_members import name_of
from tools.bench.turns import free_ports

LIMIT_S = 60.0


@pytest.mark.process
def test_a_front_lists_all_servers_of_scripted_members(tmp_path: Path) -> None:
    port, members, servers = free_ports(2), 2, 3
    words = ["127.0.0.1", str(port), str(members), str(servers)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.bench.scripted_members", *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    with ended(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        addresses = {name_of(one): f"127.0.0.1:{port + one}" for one in range(members)}
        with front(tmp_path, addresses) as running:
            with PoolClient.connect(running.addresses[0]) as client:
                assert len(client.list()) == members * servers
            assert 0 < running.footprint_mib <= running.resident_mib
            assert running.cpu_ms > 0


@pytest.mark.process
def test_two_echoes_in_a_row_give_the_answer_of_the_second(tmp_path: Path) -> None:
    answer = pb.EnsureResponse(started=True)
    file = tmp_path / "answer"
    file.write_bytes(answer.SerializeToString())

    async def asked(address: str) -> pb.EnsureResponse:
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(
                METHOD,
                request_serializer=pb.EnsureRequest.SerializeToString,
                response_deserializer=pb.EnsureResponse.FromString,
            )
            told: pb.EnsureResponse = await call(pb.EnsureRequest(), timeout=LIMIT_S)
            return told

    with (
        echo(echo_command(answer=file, address="127.0.0.1:0")) as second,
        echo(echo_command(forward=second, address="127.0.0.1:0")) as first,
    ):
        assert asyncio.run(asked(first)) == answer


def test_each_cost_of_a_fleet_is_measured() -> None:
    found = fleet_sizes.measure(3, 30)
    assert found.keys() == fleet_sizes.COLUMNS.keys()
    assert all(cost > 0 for cost in found.values())


def test_messages_grow_with_hosts_and_models() -> None:
    small, large = fleet_sizes.messages(3, 30), fleet_sizes.messages(300, 3000)
    assert small.keys() == fleet_sizes.MESSAGES.keys()
    for name in small:
        # The names of hosts and servers get longer, too.
        per_host = large[name] / small[name] / (100 if name != "same_mb" else 10_000)
        assert per_host == pytest.approx(1, rel=0.1), name
