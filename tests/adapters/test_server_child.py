"""Who may call a server, by the headers of a call; and which code it may run, by its file."""

import asyncio
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pool_service.adapters.children import server_child
from pool_service.adapters.children.server_child import (
    ALLOWED_HOSTS,
    TRUST,
    CodeChecks,
    CodeNotTrustedError,
    HostFilter,
    Names,
    OwnFiles,
    code_roots,
    option,
    refuse_foreign_pages,
    restrict,
)
from pool_service.adapters.runtime import vllm_mlx

NAMES = Names(["models.example", "app://frame"], "127.0.0.1")


def test_what_it_shares_with_the_service_has_the_same_names() -> None:
    assert ALLOWED_HOSTS == vllm_mlx.ALLOWED_HOSTS
    assert TRUST == vllm_mlx.TRUST


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "LocalHost:1", "localhost.:80", "127.0.0.1", "[::1]"),
        *("127.0.0.1:49321", "127.1.2.3:80", "[::1]:80", "[::ffff:127.0.0.1]:80"),
        *("models.example", "MODELS.example:443"),
    ],
)
def test_loopback_and_what_is_configured_are_its_names(host: str) -> None:
    assert NAMES.is_host(host.encode())
    assert NAMES.is_origin(f"http://{host}".encode())
    assert NAMES.is_origin(f"https://{host}".encode())


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:80", "localhost.evil.example", "evil-localhost", ""),
        *("127.0.0.1.evil.example", "127.0.0.1.nip.io", "192.168.1.2:80", "10.0.0.1", "0.0.0.0"),
        *("[::2]", "[::]", "::1", "localhost@evil", "localhost:80@evil", "localhost/evil", "host:"),
        *("a.models.example", "models.example.evil", "2130706433", "127.1", "[localhost]x", "\xff"),
        *("localhost, evil.example", "localhost evil", "0x7f.0.0.1", "[::1", "app://frame", "*"),
    ],
)
def test_all_else_is_foreign(host: str) -> None:
    assert not NAMES.is_host(host.encode("latin1"))
    assert not NAMES.is_origin(f"http://{host}".encode("latin1"))


def test_a_page_without_an_origin_of_its_own_is_foreign_unless_it_is_configured() -> None:
    assert not NAMES.is_origin(b"null")
    assert Names(["null"], "").is_origin(b"null")
    assert not Names(["null"], "").is_host(b"null")
    assert not NAMES.is_origin(b"file://localhost")
    assert not NAMES.is_origin(b"localhost")
    assert NAMES.is_origin(b"app://frame")
    assert not NAMES.is_origin(b"app://frame.evil")


def test_where_it_listens_on_all_addresses_any_of_them_will_do() -> None:
    for wildcard in ("0.0.0.0", "::"):
        open_to_all = Names([], wildcard)
        assert open_to_all.is_host(b"192.168.1.2:80")
        assert open_to_all.is_host(b"[fe80::1]:80")
        assert not open_to_all.is_host(b"evil.example")
    assert Names([], "192.168.1.2").is_host(b"192.168.1.2:80")
    assert not Names([], "192.168.1.2").is_host(b"192.168.1.3:80")


@pytest.mark.parametrize("host", [b"[fd00::11]:80", b"[FD00:0:0::11]", b"[fd00::0011]:8000"])
def test_its_own_address_of_ipv6_has_several_spellings(host: bytes) -> None:
    assert Names([], "fd00::11").is_host(host)
    assert Names([], "fd00::11").is_origin(b"http://" + host)
    assert not Names([], "fd00::12").is_host(host)


async def app(
    scope: dict[str, Any], _receive: object, send: Callable[[object], Awaitable[None]]
) -> None:
    await send({"type": "reached", "scope": scope["type"]})


def called(kind: str, *headers: tuple[bytes, bytes]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> None: ...

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": kind} | ({"headers": headers} if kind != "lifespan" else {})
    asyncio.run(HostFilter(app, NAMES)(scope, receive, send))  # type: ignore[arg-type]
    return sent


LOCAL = (b"host", b"localhost:1")
FOREIGN = (b"host", b"evil.example")
PAGE = (b"origin", b"https://evil.example")
REACHED = [{"type": "reached", "scope": "http"}]


def test_a_call_by_its_name_passes_and_so_does_one_that_names_nothing() -> None:
    assert called("http", LOCAL) == called("http") == REACHED
    assert called("http", (b"accept", b"*/*"), LOCAL, (b"origin", b"http://localhost:3000"))
    assert called("lifespan") == [{"type": "reached", "scope": "lifespan"}]
    assert called("websocket", LOCAL) == [{"type": "reached", "scope": "websocket"}]


@pytest.mark.parametrize(
    "headers", [(FOREIGN,), (LOCAL, FOREIGN), (FOREIGN, LOCAL), (LOCAL, PAGE), (PAGE,)]
)
def test_a_foreign_call_gets_an_error_as_openai_tells_one(
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:
    start, body = called("http", *headers)
    assert start["status"] == 403
    assert dict(start["headers"])[b"content-length"] == b"%d" % len(body["body"])
    error = json.loads(body["body"])["error"]
    assert error["code"] == "forbidden_host"
    assert "evil.example" in error["message"]
    assert "allowed_hosts" in error["message"]


@pytest.mark.parametrize("header", [FOREIGN, PAGE])
def test_a_foreign_websocket_is_closed_before_it_is_open(header: tuple[bytes, bytes]) -> None:
    assert called("websocket", header) == [{"type": "websocket.close", "code": 1008}]


def test_files_of_a_model_inside_the_runtime_are_not_the_runtimes(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "runtime", tmp_path / "elsewhere"
    (root / "model").mkdir(parents=True)
    elsewhere.mkdir()
    (root / "link").symlink_to(elsewhere)
    own = OwnFiles([str(root)], [str(root / "model"), str(elsewhere)])
    assert own.has(str(root / "module.py"))
    assert not own.has(str(root / "model" / "module.py"))
    assert not own.has(str(root / "link" / "module.py"))
    assert not own.has(str(root / ".." / "elsewhere" / "module.py"))
    assert not own.has(f"{root}2/module.py")
    # However often it was asked before of files beside them.
    (root / "module.py").write_text("")
    (root / "model" / "honest.py").symlink_to(root / "module.py")
    assert own.has(str(root / "model" / "honest.py"))
    assert not own.has(str(root / "model" / "module.py"))
    (elsewhere / "honest.py").symlink_to(root / "module.py")
    assert own.has(str(root / "link" / "honest.py"))
    assert not own.has(str(root / "link" / "module.py"))
    (root / "leads_there.py").symlink_to(root / "model" / "module.py")
    assert own.has(str(root / "module.py"))
    assert not own.has(str(root / "leads_there.py"))
    without = OwnFiles([str(root)], [])
    assert without.has(str(root / "module.py"))
    assert not without.has(str(root / ".." / "elsewhere" / "module.py"))


# --- what may run -------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The runtime's own directory; beside it lies foreign code."""
    directory = tmp_path / "runtime"
    directory.mkdir()
    (directory / "own.py").touch()
    (tmp_path / "foreign.py").touch()
    return directory


@pytest.fixture
def refusals(root: Path) -> CodeChecks:
    return CodeChecks(OwnFiles([str(root)], []))


def code_of(name: object) -> object:
    return compile("", str(name), "exec")


def test_code_runs_that_is_the_runtimes_or_was_made_in_memory(
    refusals: CodeChecks, root: Path
) -> None:
    for name in (root / "own.py", root / "gone.py", "<string>", "no file of this name"):
        refusals.check_exec(code_of(name))


def test_code_of_another_file_does_not_run_even_if_that_is_gone(
    refusals: CodeChecks, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    for name in (root.parent / "foreign.py", root.parent / "gone.py", "foreign.py"):
        with pytest.raises(CodeNotTrustedError, match="is no code of the runtime"):
            refusals.check_exec(code_of(name))


@pytest.mark.parametrize(
    "name", ["foreign.py", "FOREIGN.PY", "m.pyc", "m.pyd", "lib.so", "lib.DYLIB"]
)
def test_a_foreign_file_of_code_is_not_opened(refusals: CodeChecks, root: Path, name: str) -> None:
    path = str(root.parent / name)
    for told in (path, os.fsencode(path)):
        with pytest.raises(CodeNotTrustedError, match=name):
            refusals.check_open(told, "r", 0)


def test_other_files_are_opened(refusals: CodeChecks, root: Path) -> None:
    for path in (root / "own.py", root.parent / "config.json", root.parent / "py"):
        refusals.check_open(str(path), "r", 0)
    refusals.check_open(7, "r", 0)


def test_an_extension_is_loaded_from_the_runtime_alone(refusals: CodeChecks, root: Path) -> None:
    refusals.check_import("m", None)
    refusals.check_import("m", str(root / "m.so"))
    with pytest.raises(CodeNotTrustedError, match=r"m\.so"):
        refusals.check_import("m", str(root.parent / "m.so"))


def test_a_pickle_loads_values_and_calls_nothing(refusals: CodeChecks) -> None:
    refusals.check_pickle("collections", "OrderedDict")
    for module, name in (("os", "system"), ("collections", "namedtuple"), ("os", "OrderedDict")):
        with pytest.raises(CodeNotTrustedError, match=f"a pickle with {module}.{name}"):
            refusals.check_pickle(module, name)


def test_code_is_the_runtimes_where_it_imports_from_but_not_where_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, link, library = tmp_path / "work", tmp_path / "link", tmp_path / "library"
    work.mkdir()
    link.symlink_to(work)
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "path", ["", "relative", str(work), str(link), str(library)])
    roots = code_roots("/bin/vllm-mlx")
    assert {str(library), "/bin/vllm-mlx", sysconfig.get_path("purelib")} <= roots
    assert not roots & {"", "relative", str(work), str(link)}


def test_the_launcher_is_its_own_code_so_that_a_traceback_through_it_can_be_written() -> None:
    here = Path(server_child.__file__).parent
    assert OwnFiles(code_roots("/bin/vllm-mlx"), []).has(str(here / "tokenizer_ahead.py"))
    assert str(here) in code_roots("/bin/vllm-mlx"), "wherever the interpreter imports from"


class Finder:
    """As installers add one for a package whose sources are elsewhere."""

    __module__ = "finder_of_sources"

    def find_spec(self, *_: object) -> None:
        return None


@pytest.mark.parametrize(
    ("mapping", "found"), [({"package": "/sources/package"}, True), ("/sources/package", False)]
)
def test_sources_of_an_editable_installation_are_the_runtimes(
    mapping: object, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType(Finder.__module__)
    vars(module)["MAPPING"] = mapping
    monkeypatch.setitem(sys.modules, Finder.__module__, module)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert ("/sources/package" in code_roots("/bin/vllm-mlx")) is found


@pytest.mark.parametrize(("more", "refused"), [((), True), ((TRUST,), False)])
def test_foreign_code_is_refused_unless_it_is_trusted(
    more: tuple[str, ...], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv, told = ["/bin/vllm-mlx", "serve", *more], list[object]()
    # Its hook would stay in this process for ever.
    monkeypatch.setattr(server_child, "refuse_foreign_code", told.append)
    monkeypatch.setattr(server_child, "refuse_foreign_pages", lambda *given: told.append(given))
    restrict(argv, {"A": "b"})
    assert told == [*([argv] if refused else []), (argv, {"A": "b"})]


# --- before uvicorn -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        ([], ""),
        (["--host", "a", "--host=b"], "b"),
        (["--host=b", "--host", "a"], "a"),
        (["--host"], ""),
        (["--hosts", "a", "--hosts=a", "x--host=a"], ""),
    ],
)
def test_of_an_option_the_last_value_counts(argv: list[str], value: str) -> None:
    assert option(argv, "--host") == value


class Config:
    """Uvicorn's, which loads an application."""

    loaded_app: object = None

    def load(self) -> None:
        self.loaded_app = app


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> type[Config]:
    """A uvicorn's configuration that nobody has changed yet."""
    fresh = type("Fresh", (Config,), {"load": Config.load})
    module = ModuleType("uvicorn.config")
    vars(module)["Config"] = fresh
    monkeypatch.setitem(sys.modules, "uvicorn", ModuleType("uvicorn"))
    monkeypatch.setitem(sys.modules, "uvicorn.config", module)
    return fresh


def loaded(config: type[Config]) -> Any:  # noqa: ANN401 - with its names
    one = config()
    one.load()
    return one.loaded_app


def test_the_doorkeeper_stands_before_the_application_that_uvicorn_loads(
    config: type[Config],
) -> None:
    refuse_foreign_pages(["x", "--host", "10.0.0.9"], {ALLOWED_HOSTS: "a.example, b.example,"})
    before = loaded(config)
    assert isinstance(before, HostFilter)
    assert before._app is app
    for host in (b"a.example", b"b.example", b"10.0.0.9", b"localhost"):
        assert before._names.is_host(host)
    assert not before._names.is_host(b"")
    assert not before._names.is_host(b"c.example")


def test_where_every_host_is_allowed_there_is_no_doorkeeper(config: type[Config]) -> None:
    refuse_foreign_pages(["x"], {ALLOWED_HOSTS: "a.example, *"})
    assert loaded(config) is app


def test_an_installation_without_uvicorn_is_left_to_the_program_to_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    refuse_foreign_pages(["x"], {})


PROGRAM = """
import sys
print(sys.argv[1:], sys.path[0])
with open(sys.argv[1]) as file:
    exec(compile(file.read(), sys.argv[1], "exec"))
"""


def test_a_process_of_it_runs_the_program_as_itself_and_refuses_it_foreign_code(
    tmp_path: Path,
) -> None:
    program, foreign = tmp_path / "bin" / "vllm-mlx", tmp_path / "model" / "code.py"
    for path, text in ((program, PROGRAM), (foreign, "print('foreign')")):
        path.parent.mkdir()
        path.write_text(text)
    ended = subprocess.run(
        [sys.executable, "-S", "-E", server_child.__file__, str(program), str(foreign)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout == f"['{foreign}'] {program.parent}\n"
    assert ended.returncode == 1
    assert "CodeNotTrusted" in ended.stderr
