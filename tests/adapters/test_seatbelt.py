"""The profile with which macOS is to confine a process, by its text. Not yet run on a Mac."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pool_service.adapters.sandbox import support
from pool_service.adapters.sandbox.seatbelt import SANDBOX_EXEC, profile
from pool_service.adapters.sandbox.support import DarwinSupport
from pool_service.adapters.sandbox.surroundings import confined_command, sandbox_variables
from pool_service.core.types import Sandbox

WORK = Path("/state/work/nonce")
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[()]|[^\s()"]+')

Term = str | list["Term"]


def parsed(text: str) -> list[Term]:
    """Return the rules of a profile: lists of words, strings and lists."""
    tokens = iter(TOKEN.findall(text))

    def terms() -> Iterator[Term]:
        for token in tokens:
            if token == ")":
                return
            yield list(terms()) if token == "(" else token

    return list(terms())


def rules(sandbox: Sandbox, verdict: str, action: str) -> list[Term]:
    """Return the filters of the rules for an action."""
    found = [rule for rule in parsed(profile(sandbox, WORK)) if isinstance(rule, list)]
    return [
        term
        for rule in found
        if rule[0] == verdict and action in rule
        for term in rule
        if isinstance(term, list)
    ]


def test_all_is_denied_but_what_is_named() -> None:
    text = profile(Sandbox(), WORK)
    assert parsed(text)[:2] == [["version", "1"], ["deny", "default"]]
    assert "network-outbound" not in text
    assert text.count("(") == text.count(")")


def test_only_the_system_the_model_and_the_working_directory_are_read() -> None:
    sandbox = Sandbox(("/models/m", "/venv"))
    places = [json.loads(str(one[-1])) for one in rules(sandbox, "allow", "file-read*")]
    assert {"/models/m", "/venv", str(WORK), "/usr", "/System"} <= {*places}
    # The root itself, without what is below it.
    assert ["literal", '"/"'] in rules(sandbox, "allow", "file-read*")
    assert ["subpath", '"/"'] not in rules(sandbox, "allow", "file-read*")


def test_only_the_working_directory_is_written_and_no_link_or_pipe_is_made_there() -> None:
    assert rules(Sandbox(("/m",)), "allow", "file-write*") == [["subpath", f'"{WORK}"']]
    kinds = [one[-1] for one in rules(Sandbox(), "deny", "file-write-create")]
    assert kinds == [["vnode-type", "SYMLINK"], ["vnode-type", "FIFO"]]
    assert rules(Sandbox(), "deny", "file-link") == [["subpath", f'"{WORK}"']]


def test_mlx_finds_the_graphics_driver_and_the_compiler_of_its_kernels() -> None:
    clients = [one[-1] for one in rules(Sandbox(), "allow", "iokit-open")]
    assert '"AGXDeviceUserClient"' in clients
    services = [one[-1] for one in rules(Sandbox(), "allow", "mach-lookup")]
    assert '"com.apple.MTLCompilerService"' in services


@pytest.mark.parametrize(
    ("ports", "addresses"),
    [((0,), ["localhost:*"]), (None, ["localhost:*"]), ((1, 2), ["localhost:1", "localhost:2"])],
)
def test_it_listens_on_loopback_only(ports: tuple[int, ...] | None, addresses: list[str]) -> None:
    found = rules(Sandbox(ports=ports), "allow", "network-bind")
    assert found == [["local", "ip", f'"{address}"'] for address in addresses]


def test_a_server_of_a_fleet_listens_where_other_machines_are() -> None:
    found = rules(Sandbox(ports=(1,), leaves_loopback=True), "allow", "network-bind")
    assert found == [["local", "ip", '"*:1"']]


def test_a_path_cannot_end_its_string() -> None:
    path = '/models/a") (allow default) ("\\'
    (place,) = [
        one for one in rules(Sandbox((path,)), "allow", "file-read*") if "allow" in str(one[-1])
    ]
    assert place[-1] == json.dumps(path)
    assert ["allow", "default"] not in parsed(profile(Sandbox((path,)), WORK))


def test_its_command_is_run_by_sandbox_exec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    sandbox, command = Sandbox(("/m",)), ("python", "serve")
    for confines_itself in (True, False):
        confined = confined_command(command, sandbox, tmp_path, confines_itself=confines_itself)
        assert confined[:2] == (SANDBOX_EXEC, "-f")
        assert Path(confined[2]).read_text() == profile(sandbox, tmp_path)
        assert confined[3:] == command
    assert confined_command(command, None, tmp_path, confines_itself=False) == command
    variables = sandbox_variables(sandbox, {"HOME": "/home"}, tmp_path)
    assert "POOL_SERVICE_SANDBOX" not in variables, "nothing is left to do for the process"
    assert variables["TMPDIR"] == str(tmp_path / ".tmp")


@pytest.mark.parametrize(("output", "flaw"), [("1\n", ""), (None, "could not run /venv/bin/p")])
async def test_whether_it_works_is_tried(
    monkeypatch: pytest.MonkeyPatch, output: str | None, flaw: str
) -> None:
    asked = list[tuple[str, ...]]()

    async def output_of(*command: str) -> str | None:
        asked.append(command)
        return output

    monkeypatch.setattr(support, "output_of", output_of)
    found = await DarwinSupport().flaw("/venv/bin/p", [])
    assert flaw in found
    assert bool(found) == bool(flaw)
    assert asked[0][0] == SANDBOX_EXEC
    assert '(subpath "/venv")' in asked[0][2]
    assert "not been tried" in DarwinSupport().doubt()
