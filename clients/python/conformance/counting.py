"""A channel that counts the calls which are begun on it."""

from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

Method = Callable[..., Any]


class CountingChannel:
    """As much of a grpc.Channel, or of a grpc.aio.Channel, as the stubs use.

    Not gRPC's own interceptors: with one of these grpc.aio makes other calls than without,
    and they are to be tested as they are used. calls: begun so far, by the RPC's name.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self.calls: Counter[str] = Counter()
        self.close: Method = channel.close

    def unary_unary(self, path: str, *arguments: Any, **options: Any) -> Method:
        return self._counted(path, self._channel.unary_unary(path, *arguments, **options))

    def unary_stream(self, path: str, *arguments: Any, **options: Any) -> Method:
        return self._counted(path, self._channel.unary_stream(path, *arguments, **options))

    def _counted(self, path: str, method: Method) -> Method:
        name = path.rpartition("/")[2]
        counted: Any = self._begun(name, method)
        if hasattr(method, "future"):
            counted.future = self._begun(name, method.future)
        return counted  # type: ignore[no-any-return]

    def _begun(self, name: str, method: Method) -> Method:
        @wraps(method, assigned=(), updated=())
        def begun(*arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            return method(*arguments, **options)

        return begun
