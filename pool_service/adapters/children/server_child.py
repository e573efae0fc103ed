"""The wrapper in which vllm-mlx runs: it refuses foreign code and foreign web pages.

    PYTHON server_child.py PROGRAM ARGUMENT...

The runtime's interpreter runs this file, so it imports only the standard library;
`standby_child.py` uses its functions. It runs the plain command, with these differences:

- Only the runtime's own code runs, unless `--trust-remote-code` is among the arguments. A model
  can bring code in many ways, and a file can change after a check. So an audit hook of the
  interpreter, which sees all code, decides.
- Its standard input has the key that requests must show, if any (`server_key.py`).
- SIGTERM ends the process at once while it loads, and garbage is collected rarely until then.
- Prompts are kept where the service says (`kept_prompts.py`).
- It is confined, if the service says so (`confinement/`).
- Requests are refused that name another host (DNS rebinding: a web page whose name resolves to
  127.0.0.1) or come from a foreign web page. POOL_SERVICE_ALLOWED_HOSTS adds names, separated by
  commas.
"""

import functools
import gc
import importlib
import ipaddress
import json
import os
import re
import runpy
import signal
import sys
import sysconfig
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

TRUST, HOST, PORT_OPTION = "--trust-remote-code", "--host", "--port"
ALLOWED_HOSTS = "POOL_SERVICE_ALLOWED_HOSTS"
ANY = "*"
CODE_SUFFIXES = (".py", ".pyc", ".pyd", ".so", ".dylib")
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104  # compared with, not listened on
MAX_CACHED_HEADERS = 256
"""Header values whose verdict is cached."""

LOADING_GC_THRESHOLD = 100_000
"""Containers that are allocated between two collections of garbage while a server loads.

Nearly all of them are of imported code, which stays. With Python's usual 700 to 2000 the collector
looks through the same code again and again, for an eighth of the time that the imports take.
"""

PORT = re.compile(":[0-9]+")

PICKLE_NAMES = frozenset(
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
"""The names that a pickle may load: for values and arrays. Any other name can call a function."""


class CodeNotTrustedError(RuntimeError):
    """Raised instead of running code that is not the runtime's."""

    def __init__(self, what: object) -> None:
        message = f"{what} is no code of the runtime, and is not trusted (trust_remote_code)"
        super().__init__(message)


def restrict(argv: "list[str]", environment: "Mapping[str, str]") -> None:
    """Refuse foreign code and foreign web pages for the life of this process."""
    if TRUST not in argv:
        refuse_foreign_code(argv)
    refuse_foreign_pages(argv, environment)


def fix_address(confined: Any, argv: "list[str]") -> None:  # noqa: ANN401
    """Let a server that has a Confinement listen only where its arguments say. Raises OSError."""
    if confined is not None:
        confined.fix_address(option(argv, HOST), option(argv, PORT_OPTION))


def collect_garbage_rarely() -> "tuple[int, int, int]":
    """Collect garbage each LOADING_GC_THRESHOLD allocations; return the thresholds before."""
    usual = gc.get_threshold()
    gc.set_threshold(LOADING_GC_THRESHOLD, *usual[1:])
    return usual


def patch_startup(usual: "tuple[int, int, int]") -> None:
    """Patch uvicorn: SIGTERM ends a load at once, and garbage is collected as usual after it.

    uvicorn's own handler would first finish a load that nobody waits for any more.

    usual: the thresholds of the garbage collector from the moment at which the server listens.
    """
    try:
        from uvicorn import Server  # noqa: PLC0415
    except ImportError:
        # The program itself reports that its installation is incomplete.
        return
    startup = Server.startup

    async def patched(self: Any, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        await startup(self, *arguments, **named)
        signal.signal(signal.SIGTERM, handler)
        gc.set_threshold(*usual)

    Server.startup = patched  # type: ignore[method-assign]


# --- code ---------------------------------------------------------------------------------


def refuse_foreign_code(argv: "list[str]") -> None:
    """Allow only files of the runtime to be run, by a permanent audit hook (PEP 578)."""
    checks = CodeChecks(OwnFiles(code_roots(argv[0]), filter(is_absolute, argv[1:])))
    by_event: dict[str, Callable[..., None]] = {
        "exec": checks.check_exec,
        "open": checks.check_open,
        "import": checks.check_import,
        "pickle.find_class": checks.check_pickle,
    }

    def hook(event: str, arguments: "tuple[Any, ...]") -> None:
        check = by_event.get(event)
        if check is not None:
            check(*arguments)

    sys.addaudithook(hook)


class CodeChecks:
    """Checks of audit events; each raises CodeNotTrustedError to refuse the event."""

    def __init__(self, own: "OwnFiles") -> None:
        self._own = own

    def check_exec(self, code: Any, *_: object) -> None:  # noqa: ANN401
        """Check code that is about to run; code made in memory has no existing file's name."""
        name = code.co_filename
        if name.startswith("<") or self._own.has(name):
            return
        if is_absolute(name) or os.path.exists(name):  # noqa: PTH110
            raise CodeNotTrustedError(repr(name))

    def check_open(self, path: object, *_: object) -> None:
        """Check a file of code as it is opened; bytecode can claim to come from another file."""
        name = os.fsdecode(path) if isinstance(path, bytes) else path
        if not isinstance(name, str) or not name.lower().endswith(CODE_SUFFIXES):
            return
        if not self._own.has(name):
            raise CodeNotTrustedError(repr(name))

    def check_import(self, _module: object, path: object, *_: object) -> None:
        """Check an extension module (a shared library)."""
        if isinstance(path, str) and not self._own.has(path):
            raise CodeNotTrustedError(repr(path))

    def check_pickle(self, module: str, name: str) -> None:
        """Check a name that a pickle wants to load."""
        if (module, name) not in PICKLE_NAMES:
            raise CodeNotTrustedError(f"a pickle with {module}.{name}")


class OwnFiles:
    """The files below `roots`, except those below `foreign` paths, such as the model's directory.

    A prefix is a path with a separator at its end. Real prefixes are those without links.
    """

    def __init__(self, roots: "Iterable[str]", foreign: "Iterable[str]") -> None:
        prefixes = {_below(root) for root in roots}
        self._prefixes = tuple(prefixes)
        self._real_prefixes = tuple({_below(os.path.realpath(root)) for root in prefixes})
        foreign_prefixes = {_below(path) for path in foreign}
        real_foreign = {_below(os.path.realpath(path)) for path in foreign_prefixes}
        self._foreign = tuple(real_foreign | foreign_prefixes)
        # Only these have to be excepted, as the others are not below any root.
        self._foreign_in_roots = tuple(
            path for path in real_foreign if path.startswith(self._real_prefixes)
        )
        self._own_directories: set[str] = set()

    def has(self, path: str) -> bool:
        """Return whether a file is one of these, wherever links lead."""
        # Links are resolved as rarely as possible, as this is called thousands of times.
        if path.startswith(self._prefixes) and ".." not in path:
            if not self._foreign_in_roots:
                return True
            directory = os.path.dirname(path)  # noqa: PTH120
            if self._is_own_directory(directory) and not os.path.islink(path):  # noqa: PTH114
                return True
        return self._is_own(_below(os.path.realpath(path)))

    def _is_own_directory(self, directory: str) -> bool:
        """Return whether a directory is the runtime's, and remember it.

        A directory below a foreign path never is, as a link there may lead elsewhere later.
        """
        if directory in self._own_directories:
            return True
        if _below(directory).startswith(self._foreign):
            return False
        if not self._is_own(_below(os.path.realpath(directory))):
            return False
        self._own_directories.add(directory)
        return True

    def _is_own(self, real: str) -> bool:
        """Return whether a path without links, with a separator at its end, is one of these."""
        return real.startswith(self._real_prefixes) and not real.startswith(self._foreign_in_roots)


def is_absolute(path: str) -> bool:
    return path.startswith(os.sep)


def _below(path: str) -> str:
    """Return a path with a separator at its end, which only the paths below it begin with."""
    return os.path.join(path, "")  # noqa: PTH118


def code_roots(program: str) -> "set[str]":
    """Return the directories that the interpreter imports from, the program, and the launcher."""
    work_dir = os.path.realpath(os.getcwd())  # noqa: PTH109
    named = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found = {path for path in {*sys.path, *named, sys.pycache_prefix or ""} if is_absolute(path)}
    # Sources of editable installations.
    for finder in sys.meta_path:
        module = sys.modules.get(getattr(finder, "__module__", ""))
        mapping = getattr(module, "MAPPING", None)
        found.update(mapping.values() if isinstance(mapping, dict) else ())
    # A traceback shows lines of the launcher.
    own = {program, str(Path(__file__).parent)}
    return {path for path in found if os.path.realpath(path) != work_dir} | own


# --- pages --------------------------------------------------------------------------------


def refuse_foreign_pages(argv: "list[str]", environment: "Mapping[str, str]") -> None:
    """Put a `HostFilter` before uvicorn's application. Raises ImportError if uvicorn differs."""
    try:
        import uvicorn  # noqa: F401, PLC0415
    except ImportError:
        # The program itself reports that its installation is incomplete.
        return
    from uvicorn.config import Config  # noqa: PLC0415

    allowed = [name.strip() for name in environment.get(ALLOWED_HOSTS, "").split(",")]
    if ANY in allowed:
        return
    names = Names([name for name in allowed if name], option(argv, HOST))
    load = Config.load

    def loaded(self: Any) -> None:  # noqa: ANN401
        load(self)
        self.loaded_app = HostFilter(self.loaded_app, names)

    Config.load = loaded  # type: ignore[method-assign]


def option(argv: "list[str]", name: str) -> str:
    """Return the last value of an option (`--option value`, `--option=value`); "" without one."""
    found = ""
    for word, following in zip(argv, [*argv[1:], ""]):  # noqa: B905  # for older Pythons
        if word == name:
            found = following
        elif word.startswith(name + "="):
            found = word[len(name) + 1 :]
    return found


class Names:
    """The host names by which a server may be called: loopback, its own address, further ones.

    further: hosts, or whole origins such as app://frame.
    listens_on: the value of --host. If that is all addresses of the machine, any IP address is
        allowed, as DNS rebinding needs a name.

    `is_host` and `is_origin` return whether the value of such a header is allowed, and cache that.
    """

    def __init__(self, further: "Iterable[str]", listens_on: str) -> None:
        lowered = {name.lower() for name in further}
        self._origins = {name for name in lowered if "://" in name or name == "null"}
        self._hosts = {"localhost", listens_on.lower(), *lowered - self._origins}
        self._hosts -= {"", *WILDCARDS}
        self._takes_any_address = listens_on in WILDCARDS
        self.is_host = functools.lru_cache(MAX_CACHED_HEADERS)(self._is_host)
        self.is_origin = functools.lru_cache(MAX_CACHED_HEADERS)(self._is_origin)

    def _is_host(self, value: bytes) -> bool:
        """Return whether a Host header has an allowed name, with or without a port."""
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
        # An address of IPv6 has several spellings.
        return self._takes_any_address or inner.is_loopback or str(inner) in self._hosts

    def _is_origin(self, value: bytes) -> bool:
        """Return whether an Origin header is of a page with an allowed name."""
        text = value.decode("latin1").strip().lower()
        scheme, separator, host = text.partition("://")
        is_page = bool(separator) and scheme in ("http", "https")
        return text in self._origins or (is_page and self._is_host(host.encode("latin1")))


class HostFilter:
    """An ASGI middleware that answers 403 to requests for foreign hosts or from foreign pages.

    A request without Host (HTTP/1.0) or Origin does not come from a web page, and passes.
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
                return send_refusal(scope, send, "Host", value)
            if name == b"origin" and not self._names.is_origin(value):
                return send_refusal(scope, send, "Origin", value)
        return self._app(scope, receive, send)


async def send_refusal(
    scope: "dict[str, Any]", send: "Callable[..., Awaitable[None]]", header: str, value: bytes
) -> None:
    """Answer 403 with an error in the form of OpenAI's API; close a WebSocket."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    shown = value.decode("latin1")[:200]
    error = {
        "message": f"This server refuses requests with {header} {shown!r}. Call it by the "
        "address of its endpoint, or add that host to allowed_hosts of the runtime's section.",
        "type": "invalid_request_error",
        "param": header.lower(),
        "code": "forbidden_host",
    }
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Run the program that the arguments name, restricted."""
    usual = collect_garbage_rarely()
    del sys.argv[0]
    program = sys.argv[0]
    here = str(Path(__file__).parent)
    is_first = sys.path[:1] == [here]
    if not is_first:
        sys.path.insert(0, here)
    kept_prompts: Any = importlib.import_module("kept_prompts")
    server_key: Any = importlib.import_module("server_key")
    confine: Any = importlib.import_module("confinement.confine")
    confined = confine.confine_as_sent(os.environ)
    # The files beside this one are no part of the runtime. Make sys.path what it would be if the
    # program itself had been run.
    sys.path[:1] = [str(Path(program).parent)] if is_first else []
    sys.argv = server_key.with_key(sys.argv, server_key.receive())
    restrict(sys.argv, os.environ)
    fix_address(confined, sys.argv)
    patch_startup(usual)
    kept_prompts.keep_prompts(sys.argv, os.environ)
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
