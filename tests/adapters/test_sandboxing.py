"""Which servers are confined, and to what; what is said where they are not."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.runtime.runtime_options import RuntimeOptions, SandboxMode
from pool_service.adapters.sandbox.sandboxing import MAX_REMEMBERED, Sandboxing, Subject
from pool_service.core.errors import RuntimeUnavailable
from pool_service.core.types import Sandbox
from pool_service.paths import home_directory


class Support:
    """What a machine says that it can do."""

    def __init__(self) -> None:
        self.said = ""
        self.doubted = ""
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    async def flaw(self, interpreter: str, private: Sequence[str]) -> str:
        self.asked.append((interpreter, tuple(private)))
        return self.said

    def doubt(self) -> str:
        return self.doubted


class Scene:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.support = Support()
        self.sandboxing = Sandboxing(root / "state", self.support)
        self.program = root / "bin" / "vllm-mlx"
        self.program.parent.mkdir()
        self.program.write_text(f"#!{sys.executable}\n")
        self.model = root / "models" / "m"
        for directory in (self.model, root / "hub", root / "state"):
            directory.mkdir(parents=True)
        self.options = RuntimeOptions(data_dir=root)

    def subject(
        self, *arguments: str, has_tools: bool = False, program: Path | None = None
    ) -> Subject:
        environment = (("HF_HUB_CACHE", str(self.root / "hub")),)
        return Subject(self.options, program or self.program, arguments, environment, has_tools)

    def set(self, sandbox: SandboxMode, *command: str) -> None:
        self.options = replace(self.options, sandbox=sandbox)
        if command:
            self.options = replace(self.options, command=command)

    async def of_server(self, *arguments: str, port: int | None = None) -> Sandbox | None:
        return await self.sandboxing.of_server("m", self.subject(*arguments), [self.model], port)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    root = tmp_path.resolve()
    (root / "home").mkdir()
    monkeypatch.setenv("HOME", str(root / "home"))
    return Scene(root)


async def test_a_server_of_vllm_mlx_reads_its_model_and_takes_any_free_port(scene: Scene) -> None:
    sandbox = await scene.of_server("serve", "{runtime_model}", "--port", "{port}")
    assert sandbox is not None
    assert sandbox.readable == tuple(sorted([str(scene.model), str(scene.program)]))
    assert sandbox.ports == (0,)
    assert {str(scene.root / "state"), str(scene.root / "home")} < {*sandbox.private}
    assert scene.support.asked == [(sys.executable, sandbox.private)]


@pytest.mark.parametrize(
    ("arguments", "port", "expected"),
    [(("--port", "8000"), None, (8000,)), (("--port=8000",), None, (8000,)), ((), 7, (7,))],
)
async def test_a_server_that_is_told_its_port_takes_no_other(
    scene: Scene, arguments: tuple[str, ...], port: int | None, expected: tuple[int, ...]
) -> None:
    sandbox = await scene.of_server(*arguments, port=port)
    assert sandbox is not None
    assert sandbox.ports == expected


async def test_a_server_reads_what_its_arguments_name_and_the_configuration_permits(
    scene: Scene,
) -> None:
    template, more = scene.root / "template.jinja", scene.root / "home"
    template.touch()
    scene.options = replace(scene.options, sandbox_readable=(more,))
    sandbox = await scene.of_server("--chat-template", str(template))
    assert sandbox is not None
    assert {str(template), str(more)} < {*sandbox.readable}


async def test_standbys_read_all_stores_and_so_become_servers_of_their_models(
    scene: Scene,
) -> None:
    listed = scene.root / "listed"
    listed.mkdir()
    scene.options = replace(scene.options, model_directories=(str(listed),))
    standby = await scene.sandboxing.of_standbys(scene.subject())
    assert standby is not None
    assert {str(scene.root / "hub"), str(listed)} < {*standby.readable}
    assert str(scene.model) not in standby.readable
    for model, fits in ((listed, True), (scene.root / "hub" / "x", True), (scene.model, False)):
        model.mkdir(exist_ok=True)
        server = await scene.sandboxing.of_server("m", scene.subject(), [model], None)
        assert server is not None
        assert standby.covers(server) is fits


async def test_standbys_remember_the_models_that_no_store_holds(scene: Scene) -> None:
    await scene.of_server()
    standby = await scene.sandboxing.of_standbys(scene.subject())
    assert standby is not None
    assert str(scene.model) in standby.readable
    for number in range(MAX_REMEMBERED):
        model = scene.root / f"{number}"
        model.mkdir()
        await scene.sandboxing.of_server("m", scene.subject(), [model], None)
    standby = await scene.sandboxing.of_standbys(scene.subject())
    assert standby is not None
    assert str(scene.model) not in standby.readable
    assert len(standby.readable) <= MAX_REMEMBERED + 2


async def test_a_store_that_holds_the_home_is_not_readable(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(scene.root / "hub" / "home"))
    sandboxing = Sandboxing(scene.root / "state", scene.support)
    standby = await sandboxing.of_standbys(scene.subject())
    assert standby is not None
    assert str(scene.root / "hub") not in standby.readable


OBSTACLES = {
    "off": 'sandbox is "off"',
    "another program": "other programs",
    "another kind": "other programs",
    "a wrapper": "no Python script",
    "tools": "--mcp-config",
    "a doubt": "not tried",
    "the kernel": "no Landlock",
}


def set_obstacle(scene: Scene, obstacle: str) -> Subject:
    if obstacle == "off":
        scene.set("off")
    elif obstacle == "another program":
        scene.set("auto", "llama-server")
    elif obstacle == "another kind":
        scene.options = replace(scene.options, kind="plain")
    elif obstacle == "a wrapper":
        scene.program.write_text("#!/bin/sh\n")
    elif obstacle == "a doubt":
        scene.support.doubted = "not tried"
    elif obstacle == "the kernel":
        scene.support.said = "no Landlock"
    return scene.subject(has_tools=obstacle == "tools")


@pytest.mark.parametrize("obstacle", OBSTACLES)
async def test_what_cannot_or_need_not_be_confined_is_not_and_says_why(
    scene: Scene, obstacle: str
) -> None:
    subject = set_obstacle(scene, obstacle)
    assert OBSTACLES[obstacle] in await scene.sandboxing.obstacle(subject)
    assert await scene.sandboxing.of_standbys(subject) is None
    assert await scene.sandboxing.of_server("m", subject, [scene.model], None) is None


@pytest.mark.parametrize("obstacle", OBSTACLES)
async def test_servers_of_vllm_mlx_without_confinement_are_reported_once(
    scene: Scene, obstacle: str
) -> None:
    subject = set_obstacle(scene, obstacle)
    with capture_logs() as logs:
        for _ in range(3):
            await scene.sandboxing.of_server("m", subject, [scene.model], None)
    is_meant = obstacle in ("off", "another program", "another kind")
    assert [line["event"] for line in logs] == ([] if is_meant else ["servers are not confined"])


@pytest.mark.parametrize("obstacle", sorted(OBSTACLES.keys() - {"off"}))
async def test_told_so_all_are_confined_that_can_be_and_no_others_start(
    scene: Scene, obstacle: str
) -> None:
    subject = set_obstacle(scene, obstacle)
    scene.set("on")
    subject = replace(subject, options=scene.options)
    if obstacle != "the kernel":
        assert await scene.sandboxing.of_server("m", subject, [scene.model], None) is not None
        return
    with pytest.raises(RuntimeUnavailable, match="cannot be confined: no Landlock") as caught:
        await scene.sandboxing.of_server("m", subject, [scene.model], None)
    assert caught.value.model == "m"
    with pytest.raises(RuntimeUnavailable):
        await scene.sandboxing.of_standbys(subject)


async def test_another_program_reads_its_own_installation_and_listens_anywhere(
    scene: Scene,
) -> None:
    scene.set("on", "llama-server")
    program = scene.root / "llama" / "bin" / "llama-server"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"\x7fELF")
    subject = scene.subject(program=program)
    sandbox = await scene.sandboxing.of_server("m", subject, [scene.model], None)
    assert sandbox is not None
    assert str(scene.root / "llama") in sandbox.readable
    assert sandbox.ports is None
    assert scene.support.asked == [(sys.executable, sandbox.private)]


async def test_the_home_of_the_user_database_is_private_too(scene: Scene) -> None:
    sandbox = await scene.of_server()
    assert sandbox is not None
    home = home_directory({})
    assert home is not None
    assert str(home) in sandbox.private


@pytest.mark.parametrize(
    ("other", "covered"),
    [
        (Sandbox(("/a/b",)), True),
        (Sandbox(("/a", "/c/d")), True),
        (Sandbox(("/ab",)), False),
        (Sandbox(("/",)), False),
        (Sandbox((), (1,)), False),
        (Sandbox((), None), False),
        (Sandbox((), (0,), ("/p",)), False),
        (Sandbox(leaves_loopback=True), False),
    ],
)
def test_a_sandbox_covers_another_that_permits_no_more(other: Sandbox, covered: bool) -> None:
    assert Sandbox(("/a", "/c")).covers(other) is covered
    most = Sandbox(("/",), None, leaves_loopback=True)
    assert most.covers(replace(other, private=()))
