"""Serves a bare unary echo on the same grpc.aio set-up: the floor for a warm Ensure.

Answers Echo with the message whose bytes stand in a file. Listens on addresses, and prints them
like the service does. With --tls it also listens on a port of its own with TLS.
"""

import argparse
import asyncio
from pathlib import Path

import grpc

from pool_service.rpc.server import OPTIONS
from pool_service.rpc.tls import OPTIONS as TLS_OPTIONS
from pool_service.v1 import pool_service_pb2 as pb

METHOD = "/bench.Echo/Echo"


async def serve(answer: pb.EnsureResponse, addresses: list[str], tls: Path | None) -> None:
    """Serve the answer until killed.

    tls: the directory of service.pem, service.key and ca.pem; None: without TLS.
    """
    server = _new_server(answer, OPTIONS)
    for address in addresses:
        port = server.add_insecure_port(address)
        _tell(address if address.startswith("unix:") else f"127.0.0.1:{port}")
    servers = [server]
    if tls is not None:
        encrypted = _new_server(answer, [*OPTIONS, *TLS_OPTIONS])
        port = encrypted.add_secure_port("127.0.0.1:0", _credentials(tls))
        _tell(f"127.0.0.1:{port}")
        servers.append(encrypted)
    for one in servers:
        await one.start()
    await server.wait_for_termination()


def _new_server(answer: pb.EnsureResponse, options: list[tuple[str, int]]) -> grpc.aio.Server:
    async def echo(
        _request: pb.EnsureRequest,
        _context: grpc.aio.ServicerContext[pb.EnsureRequest, pb.EnsureResponse],
    ) -> pb.EnsureResponse:
        return answer

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


def _credentials(tls: Path) -> grpc.ServerCredentials:
    pair = (tls / "service.key").read_bytes(), (tls / "service.pem").read_bytes()
    roots = (tls / "ca.pem").read_bytes()
    return grpc.ssl_server_credentials([pair], roots, require_client_auth=True)


def _tell(address: str) -> None:
    print(f"listening on {address}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answer", type=Path)
    parser.add_argument("address", nargs="*")
    parser.add_argument("--tls", type=Path, help="a directory of certificates")
    arguments = parser.parse_args()
    message = pb.EnsureResponse.FromString(arguments.answer.read_bytes())
    asyncio.run(serve(message, arguments.address, arguments.tls))
