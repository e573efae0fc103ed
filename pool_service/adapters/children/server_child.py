"""Runs a `vllm-mlx` and refuses what it would let in: foreign code, and foreign web pages.

    PYTHON server_child.py PROGRAM ARGUMENT...

It is run by the runtime's interpreter, which need not be the service's, and so needs nothing
but that; `standby_child.py` uses its functions. What it runs is the plain command, but that

- no code runs that is not the runtime's own, unless `--trust-remote-code` is among the
  arguments. A model can bring code in many ways, and a file can be changed after it was
  checked; whatever asks for it, it is the interpreter that would run it, and that asks here.
- nobody is answered who calls the server by a name that is not this machine's (a web page whose
  name was led to 127.0.0.1), or on behalf of a page from elsewhere. POOL_SERVICE_ALLOWED_HOSTS
  has further names, separated by commas.
"""

import functools
import ipaddress
import json
import os
import re
import runpy
import sys
import sysconfig
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

TRUST = "--trust-remote-code"
ALLOWED_HOSTS = "POOL_SERVICE_ALLOWED_HOSTS"
ANY = "*"
CODE_SUFFIXES = (".py", ".pyc", ".pyd", ".so", ".dylib")
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104  # what it listens on is told, not chosen, here
SEEN_MOST = 256
PORT = re.compile(":[0-9]+")

PICKLED = frozenset(
    {
        ("_codecs", "encode"),
        ("collections", "OrderedDict"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
    }
)
"""What a pickle may name: values and arrays. Any other name can call a function."""


class CodeNotTrustedError(RuntimeError):
    """Something would run that is no code of the runtime."""

    def __init__(self, what: object) -> None:
        words = f"{what} is no code of the runtime, and is not trusted (trust_remote_code)"
        super().__init__(words)


def guard(argv: "list[str]", environment: "Mapping[str, str]") -> None:
    """Refuse, from now on and for as long as this process lives, what is said above."""
    if TRUST not in argv:
        refuse_foreign_code(argv)
    refuse_foreign_pages(argv, environment)


# --- code ---------------------------------------------------------------------------------


def refuse_foreign_code(argv: "list[str]") -> None:
    """Let the interpreter run nothing but files of the runtime (PEP 578; it is for good)."""
    refusals = Refusals(OwnFiles(code_roots(argv[0]), filter(is_absolute, argv[1:])))
    checks: dict[str, Callable[..., None]] = {
        "exec": refusals.of_running,
        "open": refusals.of_reading,
        "import": refusals.of_loading,
        "pickle.find_class": refusals.of_unpickling,
    }

    def hook(event: str, arguments: "tuple[Any, ...]") -> None:
        check = checks.get(event)
        if check is not None:
            check(*arguments)

    sys.addaudithook(hook)


class Refusals:
    """What the interpreter asks before it does something, and what raises CodeNotTrustedError."""

    def __init__(self, own: "OwnFiles") -> None:
        self._own = own

    def of_running(self, code: Any, *_: object) -> None:  # noqa: ANN401
        """Check code of a file. What was made in memory is named like no file that there is."""
        name = code.co_filename
        if name.startswith("<") or self._own.has(name):
            return
        if is_absolute(name) or os.path.exists(name):  # noqa: PTH110
            raise CodeNotTrustedError(repr(name))

    def of_reading(self, path: object, *_: object) -> None:
        """Check files of code: what is compiled can say that it is of another file."""
        name = os.fsdecode(path) if isinstance(path, bytes) else path
        if not isinstance(name, str) or not name.lower().endswith(CODE_SUFFIXES):
            return
        if not self._own.has(name):
            raise CodeNotTrustedError(repr(name))

    def of_loading(self, _module: object, path: object, *_: object) -> None:
        """Check modules that are libraries of the system."""
        if isinstance(path, str) and not self._own.has(path):
            raise CodeNotTrustedError(repr(path))

    def of_unpickling(self, module: str, name: str) -> None:
        """Check what a pickle wants to call."""
        if (module, name) not in PICKLED:
            raise CodeNotTrustedError(f"a pickle with {module}.{name}")


class OwnFiles:
    """The files below `roots`, but for those below what is `excluded` of them."""

    def __init__(self, roots: "Iterable[str]", excluded: "Iterable[str]") -> None:
        spelled = {_below(root) for root in roots}
        self._spelled = tuple(spelled)
        self._real = tuple({_below(os.path.realpath(root)) for root in spelled})
        foreign = {_below(path) for path in excluded}
        real = {_below(os.path.realpath(path)) for path in foreign}
        self._excluded = tuple(path for path in real if path.startswith(self._real))
        self._foreign = tuple(real | foreign)
        self._settled: set[str] = set()

    def has(self, path: str) -> bool:
        # Where links lead is looked at as seldom as can be: this is asked thousands of times.
        if path.startswith(self._spelled) and ".." not in path:
            if not self._excluded:
                return True
            directory = os.path.dirname(path)  # noqa: PTH120
            if self._is_settled(directory) and not os.path.islink(path):  # noqa: PTH114
                return True
        return self._is_own(_below(os.path.realpath(path)))

    def _is_settled(self, directory: str) -> bool:
        """Whether a directory is own for good: nobody who could move it needs the model."""
        if directory in self._settled:
            return True
        if _below(directory).startswith(self._foreign):
            return False
        if not self._is_own(_below(os.path.realpath(directory))):
            return False
        self._settled.add(directory)
        return True

    def _is_own(self, real: str) -> bool:
        return real.startswith(self._real) and not real.startswith(self._excluded)


def is_absolute(path: str) -> bool:
    return path.startswith(os.sep)


def _below(path: str) -> str:
    """Return a path with a separator at its end: the beginning of nothing but what is in it."""
    return os.path.join(path, "")  # noqa: PTH118


def code_roots(program: str) -> "set[str]":
    """Return where the interpreter has its modules from, and the program itself."""
    work_dir = os.path.realpath(os.getcwd())  # noqa: PTH109
    named = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found = {path for path in {*sys.path, *named, sys.pycache_prefix or ""} if is_absolute(path)}
    # Of packages that were installed where their sources are.
    for finder in sys.meta_path:
        module = sys.modules.get(getattr(finder, "__module__", ""))
        mapping = getattr(module, "MAPPING", None)
        found.update(mapping.values() if isinstance(mapping, dict) else ())
    return {path for path in found if os.path.realpath(path) != work_dir} | {program}


# --- pages --------------------------------------------------------------------------------


def refuse_foreign_pages(argv: "list[str]", environment: "Mapping[str, str]") -> None:
    """Put a `Doorkeeper` before whatever uvicorn serves. Raises ImportError if it has changed."""
    try:
        import uvicorn  # noqa: F401, PLC0415
    except ImportError:
        # The program says itself that its installation is incomplete.
        return
    from uvicorn.config import Config  # noqa: PLC0415

    allowed = [name.strip() for name in environment.get(ALLOWED_HOSTS, "").split(",")]
    if ANY in allowed:
        return
    names = Names([name for name in allowed if name], _option(argv, "--host"))
    load = Config.load

    def loaded(self: Any) -> None:  # noqa: ANN401
        load(self)
        self.loaded_app = Doorkeeper(self.loaded_app, names)

    Config.load = loaded  # type: ignore[method-assign]


def _option(argv: "list[str]", option: str) -> str:
    """The last value of an option, as `--option value` or `--option=value`; else empty."""
    found = ""
    for word, following in zip(argv, [*argv[1:], ""]):  # noqa: B905  # of any Python's age
        if word == option:
            found = following
        elif word.startswith(option + "="):
            found = word[len(option) + 1 :]
    return found


class Names:
    """By which names a server may be called: loopback, further ones, and where it listens.

    further: hosts, or whole origins such as app://frame. Where it listens on all addresses of
    the machine, any address will do: a page has no power over what that leads to.
    """

    def __init__(self, further: "Iterable[str]", listens_on: str) -> None:
        lowered = {name.lower() for name in further}
        self._origins = {name for name in lowered if "://" in name or name == "null"}
        self._hosts = {"localhost", listens_on.lower(), *lowered - self._origins}
        self._hosts -= {"", *WILDCARDS}
        self._takes_any_address = listens_on in WILDCARDS
        self.is_host = functools.lru_cache(SEEN_MOST)(self._is_host)
        self.is_origin = functools.lru_cache(SEEN_MOST)(self._is_origin)

    def _is_host(self, value: bytes) -> bool:
        """Whether a Host header says one of them, with or without a port."""
        text = value.decode("latin1").strip().lower()
        if text.startswith("["):
            name, end, port = text[1:].partition("]")
        else:
            name, end, port = text.partition(":")
            port = end + port
        if (not end and text.startswith("[")) or (port and not PORT.fullmatch(port)):
            return False
        return name.rstrip(".") in self._hosts or self._is_address(name)

    def _is_address(self, name: str) -> bool:
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        inner = getattr(address, "ipv4_mapped", None) or address
        return self._takes_any_address or inner.is_loopback

    def _is_origin(self, value: bytes) -> bool:
        """Whether an Origin header says a page of one of them."""
        text = value.decode("latin1").strip().lower()
        scheme, separator, host = text.partition("://")
        is_page = bool(separator) and scheme in ("http", "https")
        return text in self._origins or (is_page and self._is_host(host.encode("latin1")))


class Doorkeeper:
    """An ASGI application before another: answers 403 to calls by names that are not its own.

    A call without a Host (HTTP/1.0) or an Origin comes from no page of a browser.
    """

    def __init__(self, app: "Callable[..., Awaitable[None]]", names: Names) -> None:
        self._app = app
        self._names = names

    def __call__(
        self,
        scope: "dict[str, Any]",
        receive: "Callable[..., Awaitable[Any]]",
        send: "Callable[..., Awaitable[None]]",
    ) -> "Awaitable[None]":
        for name, value in scope.get("headers", ()):
            if name == b"host" and not self._names.is_host(value):
                return refuse(scope, send, "Host", value)
            if name == b"origin" and not self._names.is_origin(value):
                return refuse(scope, send, "Origin", value)
        return self._app(scope, receive, send)


async def refuse(
    scope: "dict[str, Any]", send: "Callable[..., Awaitable[None]]", header: str, value: bytes
) -> None:
    """Answer one call as OpenAI's API tells an error; a WebSocket is refused by closing it."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    shown = value.decode("latin1")[:200]
    error = {
        "message": f"This server is not called by {header} {shown!r}. Call it by 127.0.0.1 or "
        "localhost, or add that host to allowed_hosts of the runtime's section.",
        "type": "invalid_request_error",
        "param": header.lower(),
        "code": "forbidden_host",
    }
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    del sys.argv[0]
    program = sys.argv[0]
    # As if the program itself had been run.
    if sys.path[:1] == [str(Path(__file__).parent)]:
        sys.path[0] = str(Path(program).parent)
    guard(sys.argv, os.environ)
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
