"""Serves a bare unary echo on the same grpc.aio set-up: the floor for a warm Ensure.

Answers Echo with the message whose bytes stand in a file; with --forward it passes each call to
another echo and returns that answer, as a front does. Listens on addresses, and prints them like
the service does. With --tls it also listens on a port of its own with TLS, and forwards by TLS.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc

from pool_service.fleet.members.channel import OPTIONS as CHANNEL_OPTIONS
from pool_service.rpc.server import OPTIONS
from pool_service.rpc.tls import OPTIONS as TLS_OPTIONS
from pool_service.v1 import pool_service_pb2 as pb

METHOD = "/bench.Echo/Echo"


Context = grpc.aio.ServicerContext[pb.EnsureRequest, pb.EnsureResponse]
Echo = Callable[[pb.EnsureRequest, Context], Awaitable[pb.EnsureResponse]]


async def serve(echo: Echo, addresses: list[str], tls: Path | None, tls_address: str) -> None:
    """Serve the answer until killed. tls: see `credentials_in`; None: without TLS."""
    server = _new_server(echo, OPTIONS)
    for address in addresses:
        port = server.add_insecure_port(address)
        _tell(address if address.startswith("unix:") else f"127.0.0.1:{port}")
    servers = [server]
    if tls is not None:
        encrypted = _new_server(echo, [*OPTIONS, *TLS_OPTIONS])
        port = encrypted.add_secure_port(tls_address, credentials_in(tls))
        _tell(f"{tls_address.rpartition(':')[0]}:{port}")
        servers.append(encrypted)
    for one in servers:
        await one.start()
    await server.wait_for_termination()


def from_file(path: Path) -> Echo:
    """Answer with the message whose bytes stand in a file."""
    message = pb.EnsureResponse.FromString(path.read_bytes())

    async def echo(_request: pb.EnsureRequest, _context: Context) -> pb.EnsureResponse:
        return message

    return echo


def from_other(address: str, tls: Path | None) -> Echo:
    """Answer with what another echo answers, called on a channel as that of a front."""
    if tls is None:
        channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    else:
        names = ("ca.pem", "service.key", "service.pem")
        credentials = grpc.ssl_channel_credentials(*((tls / name).read_bytes() for name in names))
        channel = grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
    call = channel.unary_unary(
        METHOD,
        request_serializer=pb.EnsureRequest.SerializeToString,
        response_deserializer=pb.EnsureResponse.FromString,
    )

    async def echo(request: pb.EnsureRequest, _context: Context) -> pb.EnsureResponse:
        answer: pb.EnsureResponse = await call(request)
        return answer

    return echo


def _new_server(echo: Echo, options: list[tuple[str, int]]) -> grpc.aio.Server:
    handler = grpc.unary_unary_rpc_method_handler(
        echo,
        request_deserializer=pb.EnsureRequest.FromString,
        response_serializer=pb.EnsureResponse.SerializeToString,
    )
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),)
    )
    return server


def credentials_in(tls: Path) -> grpc.ServerCredentials:
    """Return those of a directory with service.pem, service.key and ca.pem."""
    pair = (tls / "service.key").read_bytes(), (tls / "service.pem").read_bytes()
    roots = (tls / "ca.pem").read_bytes()
    return grpc.ssl_server_credentials([pair], roots, require_client_auth=True)


def _tell(address: str) -> None:
    print(f"listening on {address}", flush=True)


async def main(given: argparse.Namespace) -> None:
    """Serve what the arguments say until killed."""
    echo = from_file(given.answer) if given.answer else from_other(given.forward, given.tls)
    await serve(echo, given.address, given.tls, given.tls_address)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", nargs="*")
    answers = parser.add_mutually_exclusive_group(required=True)
    answers.add_argument("--answer", type=Path, help="a file with the bytes of the answer")
    answers.add_argument("--forward", metavar="ADDRESS", help="of the echo that has the answer")
    parser.add_argument("--tls", type=Path, help="a directory of certificates")
    parser.add_argument("--tls-address", default="127.0.0.1:0", help="where to listen with TLS")
    given = parser.parse_args()
    asyncio.run(main(given))
