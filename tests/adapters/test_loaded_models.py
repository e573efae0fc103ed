"""What is refused before a server is started with it: of its model, and of those beside it."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pool_service.adapters.runtime.registry import Runtimes
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.core.errors import (
    CodeNotTrusted,
    ModelNotOnDisk,
    ModelRejected,
    RuntimeUnavailable,
)
from pool_service.core.types import EstimateSource, Settings

APPLE_DOUBLE = bytes.fromhex("00051607") + bytes(4092)


def model(directory: Path, weights: int = 1000) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "tokenizer.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(bytes(weights))
    return directory


@pytest.fixture
def options(tmp_path: Path) -> RuntimeOptions:
    program = tmp_path / "bin" / "vllm-mlx"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 0.6.0\n")
    program.chmod(0o755)
    home = (("HF_HOME", str(tmp_path / "hub")),)
    command = (str(program), "serve", "{runtime_model}", "--port", "{port}")
    return RuntimeOptions(data_dir=tmp_path, command=command, environment=home)


@pytest.fixture
def runtimes(options: RuntimeOptions, tmp_path: Path) -> Iterator[Runtimes]:
    runtimes = Runtimes({"": options}, tmp_path)
    yield runtimes
    runtimes.close()


async def test_what_others_could_change_is_refused_when_it_is_asked_for_and_when_it_is_started(
    runtimes: Runtimes, tmp_path: Path
) -> None:
    own = model(tmp_path / "own")
    settings = Settings(str(own))
    await runtimes.estimate("m", settings)
    (own / "tokenizer.json").chmod(0o666)
    for ask in (runtimes.estimate, runtimes.prepare):
        with pytest.raises(ModelRejected, match="json can be written by everybody; chmod"):
            await ask("m", settings)
        # Trust is in what is there, and not in what others may make of it.
        with pytest.raises(ModelRejected, match="trusted_directories"):
            await ask("m", replace(settings, trust_remote_code=True))


async def test_to_fetch_a_directory_that_is_none_is_refused(
    runtimes: Runtimes, tmp_path: Path
) -> None:
    with pytest.raises(ModelRejected, match="there is no such directory"):
        await runtimes.fetch("m", Settings(str(tmp_path / "none")), lambda *_: None)


async def test_in_a_directory_that_is_trusted_it_is_loaded(
    options: RuntimeOptions, tmp_path: Path
) -> None:
    own = model(tmp_path / "own")
    own.chmod(0o777)
    runtimes = Runtimes({"": replace(options, trusted_directories=(tmp_path,))}, tmp_path)
    await runtimes.estimate("m", Settings(str(own)))
    await runtimes.prepare("m", Settings(str(own)))


async def test_what_says_which_snapshot_is_loaded_counts_too(
    runtimes: Runtimes, tmp_path: Path
) -> None:
    repository = tmp_path / "hub" / "hub" / "models--org--name"
    model(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    await runtimes.estimate("m", Settings("org/name"))
    (repository / "refs").chmod(0o777)
    with pytest.raises(ModelRejected, match="refs can be written by everybody"):
        await runtimes.estimate("m", Settings("org/name"))


async def test_a_program_that_others_could_change_is_not_run(
    runtimes: Runtimes, tmp_path: Path
) -> None:
    settings = Settings(str(model(tmp_path / "own")))
    (tmp_path / "bin").chmod(0o777)
    with pytest.raises(RuntimeUnavailable, match="bin can be written by everybody; chmod o-w"):
        await runtimes.prepare("m", settings)


@pytest.mark.parametrize("how", ["script", "option", "what runs it", "a link to what runs it"])
async def test_what_runs_a_program_and_what_it_is_told_to_run_count_like_it(
    options: RuntimeOptions, tmp_path: Path, how: str
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "file").write_text("#!/bin/sh\n")
    (shared / "file").chmod(0o755)
    (shared / "link").symlink_to("/bin/sh")
    program = tmp_path / "bin" / "program"
    named = {"what runs it": "file", "a link to what runs it": "link"}.get(how)
    program.write_text(f"#!{shared / named} -e\n" if named else "#!/bin/sh\n")
    program.chmod(0o755)
    told = {"script": (str(shared / "file"),), "option": (f"--script={shared / 'file'}",)}
    command = (str(program), *told.get(how, ()), "{runtime_model}", "{port}")
    runtimes = Runtimes({"": replace(options, command=command)}, tmp_path)
    settings = Settings(str(model(tmp_path / "own")))
    await runtimes.prepare("m", settings)
    shared.chmod(0o777)
    with pytest.raises(RuntimeUnavailable, match="shared can be written by everybody"):
        await runtimes.prepare("m", settings)


@pytest.mark.parametrize(
    "option",
    ["--embedding-model", "--rerank-model", "--specprefill-draft-model", "--mllm-draft-model"],
)
@pytest.mark.parametrize("joined", [False, True])
async def test_what_the_arguments_name_is_looked_at_like_the_model(
    runtimes: Runtimes,
    tmp_path: Path,
    option: str,
    joined: bool,
) -> None:
    own, beside = model(tmp_path / "own"), model(tmp_path / "beside", 5000)
    arguments = (f"{option}={beside}",) if joined else (option, str(beside))
    settings = Settings(str(own), arguments=arguments)
    estimate = await runtimes.estimate("m", settings)
    alone = await runtimes.estimate("m", Settings(str(own)))
    assert estimate.source is EstimateSource.WEIGHTS
    assert estimate.expected > alone.expected
    (beside / "modeling.py").touch()
    with pytest.raises(CodeNotTrusted, match="modeling"):
        await runtimes.estimate("m", settings)
    await runtimes.estimate("m", replace(settings, trust_remote_code=True))
    (beside / "modeling.py").unlink()
    beside.chmod(0o777)
    with pytest.raises(ModelRejected, match="beside can be written by everybody"):
        await runtimes.estimate("m", settings)


@pytest.mark.parametrize("how", ["argument", "joined", "said twice", "variable", "link"])
async def test_a_file_that_names_programs_is_not_taken_where_others_could_change_it(
    runtimes: Runtimes, tmp_path: Path, how: str
) -> None:
    tools = tmp_path / "tools" / "mcp.json"
    tools.parent.mkdir()
    tools.write_text("{}")
    (tmp_path / "link").symlink_to(tools)
    arguments = {
        "argument": ("--mcp-config", str(tools)),
        "joined": (f"--mcp-config={tools}",),
        "said twice": ("--mcp-config", "/none", "--mcp-config", str(tools)),
        "link": ("--mcp-config", str(tmp_path / "link")),
    }.get(how, ())
    variables = () if arguments else (("VLLM_MLX_MCP_CONFIG", str(tools)),)
    own = str(model(tmp_path / "own"))
    settings = Settings(own, arguments=arguments, environment=variables)
    await runtimes.estimate("m", settings)
    tools.parent.chmod(0o777)
    with pytest.raises(ModelRejected, match="tools can be written by everybody"):
        await runtimes.estimate("m", settings)


async def test_what_the_arguments_name_has_to_be_on_disk(
    runtimes: Runtimes, options: RuntimeOptions, tmp_path: Path
) -> None:
    settings = Settings(str(model(tmp_path / "own")), arguments=("--embedding-model", "org/e"))
    for ask in (runtimes.estimate, runtimes.prepare):
        with pytest.raises(ModelNotOnDisk, match="pool-service pull org/e"):
            await ask("m", settings)
    # Unless the operator lets servers ask the hub themselves.
    online = replace(options, environment=(*options.environment, ("HF_HUB_OFFLINE", "0")))
    await Runtimes({"": online}, tmp_path).estimate("m", settings)


async def test_what_macos_keeps_beside_files_is_no_part_of_a_model(
    runtimes: Runtimes, tmp_path: Path
) -> None:
    own = model(tmp_path / "own")
    before = await runtimes.estimate("m", Settings(str(own)))
    for name in [*os.listdir(own), "modeling.py"]:  # noqa: PTH208
        (own / f"._{name}").write_bytes(APPLE_DOUBLE)
    assert await runtimes.estimate("m", Settings(str(own))) == before


async def test_nothing_else_hides_behind_such_a_name(runtimes: Runtimes, tmp_path: Path) -> None:
    own = model(tmp_path / "own")
    (own / "._config.json").write_text(json.dumps({"model_file": "x"}))
    with pytest.raises(CodeNotTrusted, match=r"\._config.json: model_file"):
        await runtimes.estimate("m", Settings(str(own)))
    (own / "._config.json").unlink()
    for name, content in (("._x.py", b"pass"), ("x.py", APPLE_DOUBLE)):
        (own / name).write_bytes(content)
        with pytest.raises(CodeNotTrusted, match=r"x\.py"):
            await runtimes.estimate("m", Settings(str(own)))
        (own / name).unlink()
    os.mkfifo(own / "._x.py")
    with pytest.raises(CodeNotTrusted, match=r"x\.py"):
        await runtimes.estimate("m", Settings(str(own)))


async def test_a_name_like_that_does_not_make_a_model_whole(
    runtimes: Runtimes, tmp_path: Path
) -> None:
    repository = tmp_path / "hub" / "hub" / "models--org--name"
    own = model(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (own / "tokenizer.json").rename(own / "._x.tiktoken")
    (own / "._x.tiktoken").write_bytes(APPLE_DOUBLE)
    assert (await runtimes.estimate("m", Settings("org/name"))).on_disk is False


async def test_a_server_that_stays_offline_gets_no_token_and_a_download_does(
    options: RuntimeOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "inherited")
    settings = Settings(str(model(tmp_path / "own")))
    token = (("HF_TOKEN", "configured"),)
    for environment, served, fetched in (
        ((), None, "inherited"),
        (token, None, "configured"),
        ((*token, ("HF_HUB_OFFLINE", "0")), "configured", "configured"),
    ):
        said = replace(options, environment=environment)
        runtimes = Runtimes({"": said}, tmp_path)
        plan = await runtimes.prepare("m", settings)
        assert dict(plan.environment).get("HF_TOKEN") == served
        fetching = runtimes._runtimes[""].environment(settings, fetches=True)
        assert dict(fetching)["HF_TOKEN"] == fetched


@pytest.mark.parametrize(
    ("seen", "expected", "source"),
    [
        (0, 500, EstimateSource.DECLARED),
        (400, 500, EstimateSource.DECLARED),
        (900, 900, EstimateSource.OBSERVED),
    ],
)
async def test_more_than_what_is_declared_is_believed_once_it_was_seen(
    runtimes: Runtimes, tmp_path: Path, seen: int, expected: int, source: EstimateSource
) -> None:
    """But not of another runtime model, whatever name it goes by."""
    settings = Settings(str(model(tmp_path / "own")), expected_memory=500)
    await runtimes.estimate("m", settings)
    if seen:
        runtimes.record_usage(settings, seen)
    estimate = await runtimes.estimate("m", settings)
    assert (estimate.expected, estimate.source) == (expected, source)
    other = replace(settings, runtime_model=str(model(tmp_path / "other")))
    assert (await runtimes.estimate("m", other)).expected == 500
