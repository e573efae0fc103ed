"""A Watch of a member, of which one can ask whether it is silent or has ended."""

import queue
import threading
from typing import Self

import grpc

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc

LIMIT_S = 60.0


class Watching:
    """A Watch, from its answer that all has been told; use it in a `with`."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stream = pb_grpc.PoolServiceStub(channel).Watch(pb.WatchRequest())
        self._told: queue.Queue[pb.WatchResponse | grpc.StatusCode] = queue.Queue()
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._reader.start()
        while not self.next().HasField("synced"):
            pass
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.cancel()
        self._reader.join()

    def next(self) -> pb.WatchResponse:
        """Wait for the next change."""
        told = self._told.get(timeout=LIMIT_S)
        assert isinstance(told, pb.WatchResponse), told
        return told

    def wait_until_ready(self, model: str) -> None:
        """Wait until a model is told to be READY."""
        ready = (model, pb.SERVER_STATE_READY)
        while ((server := self.next().server).model, server.state) != ready:
            pass

    def is_silent(self, seconds: float) -> bool:
        """Return whether nothing comes for so long; what comes is lost."""
        try:
            self._told.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def end(self, limit_s: float) -> grpc.StatusCode:
        """Wait for the end; return its code."""
        while not isinstance(told := self._told.get(timeout=limit_s), grpc.StatusCode):
            pass
        return told

    def _read(self) -> None:
        try:
            for response in self._stream:
                self._told.put(response)
        except grpc.RpcError as error:
            self._told.put(error.code())
        else:
            self._told.put(grpc.StatusCode.OK)
