"""The floor that a warm Ensure stands beside: a bare unary echo on the same grpc.aio set-up.

Answers Echo with the message whose bytes stand in the file that is named as its first
argument; listens on the addresses that follow and prints them like the service does.
"""

import asyncio
import sys
from pathlib import Path

import grpc

from pool_service.rpc.server import OPTIONS
from pool_service.v1 import pool_service_pb2 as pb

METHOD = "/bench.Echo/Echo"


async def serve(answer: pb.EnsureResponse, addresses: list[str]) -> None:
    """Answer until killed."""

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
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),)
    )
    for address in addresses:
        port = server.add_insecure_port(address)
        shown = address if address.startswith("unix:") else f"127.0.0.1:{port}"
        print(f"listening on {shown}", flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    message = pb.EnsureResponse.FromString(Path(sys.argv[1]).read_bytes())
    asyncio.run(serve(message, sys.argv[2:]))
