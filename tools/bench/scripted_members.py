"""Members of a fleet that have servers by name only, for a front that is to follow many.

    python -m tools.bench.scripted_members HOST PORT MEMBERS SERVERS [--tls DIRECTORY]

One process, with a gRPC server for each member, from the first port on: it answers Beat, List,
Watch, ListModels and Offer as a pool service does, with messages of the usual size. Prints a line
once all of them listen.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from pool_service.rpc.server import OPTIONS
from pool_service.rpc.tls import OPTIONS as TLS_OPTIONS
from pool_service.v1 import pool_service_pb2 as pb
from tools.bench.echo_server import credentials_in

GIB = 2**30
NOW = 1_780_000_000
REVISION = NOW * 1_000_000


def name_of(member: int) -> str:
    """Return the name of a member."""
    return f"host{member}"


def server_of(host: str, number: int) -> pb.Server:
    """Return a READY server with all that a real one tells."""
    model = f"mlx-community/Model-{host}-{number}-4bit"
    server = pb.Server(
        model=model,
        runtime_model=model,
        state=pb.SERVER_STATE_READY,
        generation=1 + number,
        endpoint=f"http://10.0.0.1:{20_000 + number}",
        served_model_name=model,
        pid=1000 + number,
        expected_bytes=4 * GIB,
        expected_by=pb.EXPECTATION_DECLARED,
        footprint_bytes=4 * GIB,
        peak_bytes=4 * GIB,
        log_path=f"/home/user/.local/state/pool-service/logs/{model.replace('/', '_')}/1.log",
        role=pb.SERVER_ROLE_CURRENT,
        host=host,
    )
    for time in ("create_time", "start_time", "ready_time", "last_use_time", "expire_time"):
        getattr(server, time).FromSeconds(NOW)
    return server


class Member:
    """A member of a fleet whose servers never change."""

    def __init__(self, host: str, servers: int) -> None:
        self._host = host
        self.servers = [server_of(host, number) for number in range(servers)]
        self._totals = pb.PoolTotals(servers=servers, ready=servers, memory_total_bytes=128 * GIB)
        self._report = pb.BeatResponse(
            host=host, reachable=True, totals=self._totals, catalogue="1", version="0"
        )
        self._report.hold_grace.FromSeconds(15)

    @property
    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """The same as services of gRPC."""
        watch = grpc.unary_stream_rpc_method_handler(
            self.watch, pb.WatchRequest.FromString, pb.WatchResponse.SerializeToString
        )
        pool = {
            "List": _unary(self.list_servers, pb.ListRequest),
            "ListModels": _unary(self.list_models, pb.ListModelsRequest),
            "Watch": watch,
        }
        member = {
            "Beat": _unary(self.beat, pb.BeatRequest),
            "Offer": _unary(self.offer, pb.OfferRequest),
        }
        return (
            grpc.method_handlers_generic_handler("pool_service.v1.PoolService", pool),
            grpc.method_handlers_generic_handler("pool_service.v1.FleetMemberService", member),
        )

    async def beat(self, request: pb.BeatRequest, _context: object) -> pb.BeatResponse:
        if request.epoch:
            self._report.epoch, self._report.front = request.epoch, request.front
            self._report.front_heard.FromSeconds(0)
        return self._report

    async def list_servers(self, request: pb.ListRequest, _context: object) -> pb.ListResponse:
        begin = int(request.page_token or 0)
        end = begin + request.page_size
        return pb.ListResponse(
            servers=self.servers[begin:end],
            next_page_token=str(end) if end < len(self.servers) else "",
            revision=REVISION,
            totals=self._totals,
        )

    async def watch(
        self, _request: pb.WatchRequest, _context: object
    ) -> AsyncIterator[pb.WatchResponse]:
        await asyncio.Event().wait()
        yield pb.WatchResponse()

    async def list_models(
        self, request: pb.ListModelsRequest, _context: object
    ) -> pb.ListModelsResponse:
        begin = int(request.page_token or 0)
        end = begin + request.page_size
        models = [self.model(one) for one in self.servers[begin:end]]
        token = str(end) if end < len(self.servers) else ""
        return pb.ListModelsResponse(models=models, next_page_token=token)

    async def offer(self, request: pb.OfferRequest, _context: object) -> pb.OfferResponse:
        return self.offer_to(request.model)

    def model(self, server: pb.Server) -> pb.Model:
        """Return what the catalogue says of the model of a server; a tenth have an alias."""
        return pb.Model(
            model=server.model,
            aliases=[f"{server.model}:latest"] if server.generation % 10 == 1 else [],
            runtime_model=server.runtime_model,
            runtime="vllm-mlx",
            expected_bytes=server.expected_bytes,
            on_disk=True,
            state=server.state,
            listed=True,
        )

    @property
    def beat_size(self) -> int:
        """Bytes of an answer to a beat."""
        return self._report.ByteSize()

    def offer_to(self, model: str) -> pb.OfferResponse:
        """Return an offer."""
        return pb.OfferResponse(
            verdict=pb.OFFER_VERDICT_FITS,
            model=model,
            on_disk=True,
            needed_bytes=4 * GIB,
            free_bytes=64 * GIB,
            revision=REVISION,
        )


def _unary(method: Callable[..., Any], request: type[Message]) -> Any:  # noqa: ANN401 - of gRPC
    return grpc.unary_unary_rpc_method_handler(
        method, request.FromString, lambda answer: answer.SerializeToString()
    )


async def serve(host: str, port: int, members: int, servers: int, tls: Path | None) -> None:
    """Serve all members until killed. tls: see `credentials_in`; None: without TLS."""
    started = []
    for number in range(members):
        server = grpc.aio.server(options=[*OPTIONS, *(TLS_OPTIONS if tls else [])])
        server.add_generic_rpc_handlers(Member(name_of(number), servers).handlers)
        address = f"{host}:{port + number}"
        if tls is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, credentials_in(tls))
        await server.start()
        started.append(server)
    print("listening", flush=True)
    await started[0].wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    for argument in ("port", "members", "servers"):
        parser.add_argument(argument, type=int)
    parser.add_argument("--tls", type=Path, help="a directory of certificates")
    arguments = parser.parse_args()
    asyncio.run(serve(**vars(arguments)))
