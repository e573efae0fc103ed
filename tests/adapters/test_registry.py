"""The runtimes of a machine by their names: what is expected of their servers, and told of them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.models.estimates import GUESS_BYTES, UsageKey, UsageStore, estimate_bytes
from pool_service.adapters.models.files import ModelFiles
from pool_service.adapters.prompts.prompt_store import PromptStore
from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.registry import Runtimes, _on_disk, diagnose_of
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.adapters.standby.process import StandbySpec
from pool_service.core.errors import ModelRejected, RuntimeUnavailable
from pool_service.core.types import EstimateSource, Settings

WEIGHTS = 1000


def program(path: Path, version: str = "0.6.0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return path


def script(path: Path) -> Path:
    """A program that a Python runs, which says its version when it is asked anything."""
    python = program(path.parent / "python")
    path.write_text(f"#!{python}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def options(tmp_path: Path) -> RuntimeOptions:
    command = (str(program(tmp_path / "bin/vllm-mlx")), "serve", "{runtime_model}")
    home = (("HF_HOME", str(tmp_path / "home")),)
    return RuntimeOptions(data_dir=tmp_path, command=command, environment=home)


@pytest.fixture
def plain(tmp_path: Path) -> RuntimeOptions:
    command = (str(program(tmp_path / "bin/other")), "{runtime_model}")
    return RuntimeOptions(data_dir=tmp_path, command=command)


@pytest.fixture
def runtimes(options: RuntimeOptions, plain: RuntimeOptions, tmp_path: Path) -> Iterator[Runtimes]:
    runtimes = Runtimes({"": options, "plain": plain}, tmp_path)
    yield runtimes
    runtimes.close()


def cached(root: Path, name: str, *, whole: bool = True, weights: int = WEIGHTS) -> None:
    """Put a model into the hub's cache."""
    repository = root / "home/hub" / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots/abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    for file in ("config.json", *(["tokenizer.json"] if whole else [])):
        (snapshot / file).write_text("{}")
    if weights:
        (snapshot / "model.safetensors").write_bytes(bytes(weights))


def test_a_runtime_that_stays_the_same_keeps_what_is_known_of_it(
    runtimes: Runtimes, options: RuntimeOptions
) -> None:
    before = dict(runtimes._runtimes)
    runtimes.replace({"": options, "other": options})
    assert runtimes._runtimes.keys() == {"", "other"}
    assert runtimes._runtimes[""] is before[""]
    runtimes.replace({"": replace(options, health_path="/other")})
    assert runtimes._runtimes[""] is not before[""]


async def test_what_is_expected_comes_from_the_surest_source_that_there_is(
    runtimes: Runtimes, tmp_path: Path
) -> None:
    script(tmp_path / "bin/vllm-mlx")
    cached(tmp_path, "org/name")
    settings = Settings("org/name")

    async def expected(one: Settings) -> tuple[int, EstimateSource]:
        found = await runtimes.estimate("m", one)
        return found.expected, found.source

    assert await expected(Settings("org/gone")) == (GUESS_BYTES, EstimateSource.UNKNOWN)
    with_prompts = estimate_bytes(WEIGHTS, settings.prompt_cache)
    assert await expected(settings) == (with_prompts, EstimateSource.WEIGHTS)
    without = replace(settings, prompt_cache=0)
    assert await expected(without) == (estimate_bytes(WEIGHTS), EstimateSource.WEIGHTS)
    declared = replace(settings, expected_memory=500)
    assert await expected(declared) == (500, EstimateSource.DECLARED)
    runtimes.record_usage(settings, 500)
    assert await expected(settings) == (500, EstimateSource.OBSERVED)
    assert await expected(declared) == (500, EstimateSource.DECLARED)
    runtimes.record_usage(settings, 501)
    assert await expected(declared) == (501, EstimateSource.OBSERVED)


@pytest.mark.parametrize(("name", "maps"), [("llama-server", True), ("other-server", False)])
async def test_weights_that_a_program_maps_count_though_no_sample_sees_them(
    tmp_path: Path, name: str, maps: bool
) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(bytes(WEIGHTS))
    options = RuntimeOptions(tmp_path, command=(str(program(tmp_path / "bin" / name)),))
    runtimes, settings = Runtimes({"": options}, tmp_path), Settings(str(model))
    plan = await runtimes.prepare("m", settings)
    assert plan.mapped_bytes == (WEIGHTS if maps else 0)
    runtimes.record_usage(settings, 7)
    found = await runtimes.estimate("m", settings)
    runtimes.close()
    needed = estimate_bytes(WEIGHTS) if maps else 7
    assert (found.expected, found.source) == (needed, EstimateSource.OBSERVED)


async def test_a_model_without_weights_is_guessed(runtimes: Runtimes, tmp_path: Path) -> None:
    cached(tmp_path, "org/name", weights=0)
    found = await runtimes.estimate("m", Settings("org/name"))
    assert (found.expected, found.source) == (GUESS_BYTES, EstimateSource.UNKNOWN)
    assert found.on_disk is False


async def test_a_model_that_is_not_there_is_told_with_those_of_a_similar_name(
    runtimes: Runtimes, tmp_path: Path
) -> None:
    cached(tmp_path, "org/model-7b")
    cached(tmp_path, "org/model-7c", whole=False)
    found = await runtimes.estimate("m", Settings("org/model-7a"))
    assert (found.on_disk, found.meant) == (False, ("org/model-7b",))
    there = await runtimes.estimate("m", Settings("org/model-7b"))
    assert (there.on_disk, there.meant, there.disk_bytes) == (True, (), WEIGHTS)


async def test_of_a_plain_runtime_it_is_not_known_whether_it_has_to_download(
    runtimes: Runtimes, tmp_path: Path
) -> None:
    found = await runtimes.estimate("m", Settings("org/model-7a", runtime="plain"))
    assert (found.on_disk, found.meant) == (None, ())
    # Nor is its directory checked, nor code in it.
    (tmp_path / "model.py").touch()
    await runtimes.estimate("m", Settings(str(tmp_path), runtime="plain"))
    await runtimes.estimate("m", Settings(str(tmp_path / "gone"), runtime="plain"))


@pytest.mark.parametrize(
    ("name", "files", "on_disk"),
    [
        ("/models/m", None, True),
        ("org/name", None, False),
        ("org/name", ModelFiles(Path("/x"), 1, complete=False), False),
        ("org/name", ModelFiles(Path("/x"), 1, complete=True), True),
    ],
)
def test_a_path_and_a_whole_model_need_no_download(
    name: str, files: ModelFiles | None, on_disk: bool
) -> None:
    assert _on_disk(Settings(name), files) is on_disk


async def test_of_several_runs_before_the_version_is_known_the_most_counts(
    runtimes: Runtimes,
) -> None:
    settings = Settings("org/name")
    for needed in (100, 300, 200):
        runtimes.record_usage(settings, needed)
    found = await runtimes.estimate("m", settings)
    assert (found.expected, found.source) == (300, EstimateSource.OBSERVED)
    assert runtimes._pending_usage == {}


async def test_what_was_needed_is_filed_when_the_version_of_its_runtime_is_known(
    runtimes: Runtimes,
) -> None:
    ours, others = Settings("org/name"), Settings("org/name", runtime="plain")
    runtimes.record_usage(ours, 100)
    runtimes.record_usage(others, 100)
    assert runtimes._pending_usage.keys() == {ours, others}
    await runtimes.standby_spec(ours)
    assert runtimes._pending_usage.keys() == {others}


async def test_what_is_needed_once_the_version_is_known_is_filed_at_once(
    runtimes: Runtimes, tmp_path: Path
) -> None:
    settings = Settings("org/name")
    await runtimes.standby_spec(settings)
    runtimes.record_usage(settings, 100)
    assert runtimes._pending_usage == {}
    runtimes.close()
    key = UsageKey("", "0.6.0", "org/name", prompt_cache=settings.prompt_cache)
    assert UsageStore(tmp_path).needed(key) == 100


async def test_what_a_server_kept_and_computed_beforehand_decides_what_it_needs(
    runtimes: Runtimes,
) -> None:
    without = Settings("org/name", prompt_cache=0)
    await runtimes.standby_spec(without)
    runtimes.record_usage(without, 100)
    assert (await runtimes.estimate("m", without)).expected == 100
    for other in (Settings("org/name"), replace(without, warm_prompts=("Be brief.",))):
        assert (await runtimes.estimate("m", other)).source is EstimateSource.UNKNOWN


async def test_a_standby_is_of_a_vllm_mlx_and_has_the_environment_of_its_servers(
    runtimes: Runtimes, options: RuntimeOptions
) -> None:
    assert await runtimes.standby_spec(Settings("m", runtime="plain")) is None
    recipe = await runtimes.standby_spec(Settings("m", environment=(("A", "b"),)))
    assert isinstance(recipe, StandbySpec)
    assert recipe.program == options.command[0]
    assert dict(recipe.environment)["A"] == "b"


async def test_the_models_of_the_cache_are_listed(runtimes: Runtimes, tmp_path: Path) -> None:
    assert await runtimes.cached() == ()
    cached(tmp_path, "org/b")
    cached(tmp_path, "org/a", whole=False)
    assert await runtimes.cached() == ("org/a", "org/b")


async def test_a_cache_that_cannot_be_located_is_logged(
    options: RuntimeOptions, tmp_path: Path
) -> None:
    broken = replace(options, environment=(("HF_HOME", "a\0b"),))
    with capture_logs() as logs:
        assert await Runtimes({"": broken}, tmp_path).cached() == ()
    assert [line["event"] for line in logs] == ["cannot read the cache of the model hub"]
    assert "HF_HOME" in logs[0]["why"]


async def test_a_plain_runtime_downloads_itself(runtimes: Runtimes, tmp_path: Path) -> None:
    await runtimes.fetch("m", Settings("org/name", runtime="plain"), lambda *_: None)
    assert not (tmp_path / "home").exists()


async def test_what_can_never_be_loaded_is_not_downloaded(
    runtimes: Runtimes, tmp_path: Path
) -> None:
    for name in ("-m", "./here"):
        with pytest.raises(ModelRejected, match="cannot be loaded"):
            await runtimes.fetch("m", Settings(name, runtime="plain"), lambda *_: None)
        with pytest.raises(ModelRejected, match="cannot be loaded"):
            await runtimes.estimate("m", Settings(name))
    with pytest.raises(ModelRejected, match="no such directory"):
        await runtimes.fetch("m", Settings(str(tmp_path / "gone")), lambda *_: None)


async def test_without_a_python_nothing_is_downloaded_and_the_model_is_named(
    runtimes: Runtimes,
) -> None:
    with pytest.raises(RuntimeUnavailable, match="no script of a Python environment") as caught:
        await runtimes.fetch("m", Settings("org/name"), lambda *_: None)
    assert caught.value.model == "m"


async def test_files_of_a_name_are_looked_for_as_its_server_would(
    runtimes: Runtimes, tmp_path: Path
) -> None:
    cached(tmp_path, "org/name")
    assert await runtimes.is_on_disk("org/name", Settings("m"))
    assert not await runtimes.is_on_disk("org/gone", Settings("m"))
    elsewhere = Settings("m", environment=(("HF_HOME", "/elsewhere"),))
    assert not await runtimes.is_on_disk("org/name", elsewhere)


# --- what is told of programs -------------------------------------------------------------


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any vllm-mlx."""
    monkeypatch.setattr("sys.executable", str(tmp_path / "venv/bin/python"))
    monkeypatch.setenv("PATH", "/nonexistent")
    return tmp_path


def named(root: Path, *, provision: bool = False) -> Runtimes:
    """The default runtime, wherever it is."""
    return Runtimes({"": RuntimeOptions(root, provision=provision)}, root)


async def test_the_program_of_the_default_runtime_is_told(
    runtimes: Runtimes, options: RuntimeOptions, nowhere: Path
) -> None:
    told = f"vllm-mlx 0.6.0, configured: {options.command[0]}"
    assert await runtimes.default_program() == told
    assert "installed into" in await named(nowhere, provision=True).default_program()
    with pytest.raises(RuntimeUnavailable):
        await named(nowhere).default_program()


async def test_one_that_is_there_and_cannot_be_used_is_not_said_to_be_installed_later(
    nowhere: Path,
) -> None:
    program(nowhere / "venv/bin/vllm-mlx", "0.2.9")
    with pytest.raises(RuntimeUnavailable, match=r"0\.2\.9"):
        await named(nowhere, provision=True).default_program()


@pytest.mark.parametrize(
    ("version", "provision", "told"),
    [
        ("0.6.0", False, None),
        ("0.2.9", False, ("too old", True)),
        ("0.2.9", True, ("too old", True)),
        (None, False, ("was not found", False)),
        (None, True, None),
    ],
)
async def test_why_no_server_could_be_started_is_told_with_whether_there_is_a_program(
    nowhere: Path, version: str | None, provision: bool, told: tuple[str, bool] | None
) -> None:
    if version:
        program(nowhere / "venv/bin/vllm-mlx", version)
    flaw = await named(nowhere, provision=provision).program_flaw("")
    if told is None:
        assert flaw is None
    else:
        assert flaw is not None
        assert told[0] in flaw[0]
        assert flaw[1] is told[1]


# --- kept prompts -------------------------------------------------------------------------


USAGE = "usage: vllm-mlx serve [-h] [--known N] [--warm-prompts FILE] model"


@pytest.fixture
def keeping(options: RuntimeOptions, tmp_path: Path) -> Runtimes:
    """Runtimes with a store of prompts, a program that a Python runs, and a model."""
    python = program(tmp_path / "bin/python")
    python.write_text(f"#!/bin/sh\ncase $* in *--help*) echo '{USAGE}';; *) echo 0.6.0;; esac\n")
    script_of(tmp_path).write_text(f"#!{python}\n")
    cached(tmp_path, "org/name")
    return Runtimes({"": options}, tmp_path, prompts=PromptStore(tmp_path, 2**30))


def script_of(root: Path) -> Path:
    return root / "bin/vllm-mlx"


async def keep(runtimes: Runtimes, settings: Settings) -> Path:
    """Keep something of a model, and return where."""
    plan = await runtimes.prepare("m", settings)
    assert plan.prompt_cache is not None
    kept = Path(plan.prompt_cache.directory) / "entry"
    kept.parent.mkdir(parents=True)
    kept.touch()
    return kept


@pytest.mark.parametrize("refusal", ["no program", "too old", "arguments", "warm prompts"])
async def test_a_start_that_is_refused_leaves_the_prompts_as_they_are(
    keeping: Runtimes, tmp_path: Path, refusal: str
) -> None:
    settings, python = Settings("org/name"), tmp_path / "bin/python"
    kept = await keep(keeping, settings)
    match refusal:
        case "no program":
            script_of(tmp_path).unlink()
        case "too old":
            program(python, "0.2.9")
            script_of(tmp_path).write_text(f"#!{python}\n\n")
        case "arguments":
            settings = replace(settings, arguments=("--unknown",))
        case _:
            python.write_text(python.read_text().replace("[--warm-prompts FILE]", ""))
            settings = replace(settings, warm_prompts=("Be brief.",))
    with pytest.raises(RuntimeUnavailable):
        await keeping.prepare("m", settings)
    assert kept.exists()


async def test_a_default_program_that_is_away_removes_no_prompts(nowhere: Path) -> None:
    found = script(nowhere / "venv/bin/vllm-mlx")
    model = nowhere / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (model / name).write_text("{}")
    runtimes = Runtimes({"": RuntimeOptions(nowhere)}, nowhere, prompts=PromptStore(nowhere, 2**30))
    kept = await keep(runtimes, Settings(str(model)))
    found.unlink()
    with pytest.raises(RuntimeUnavailable):
        await runtimes.prepare("m", Settings(str(model)))
    assert kept.exists()


async def test_prompts_that_are_not_to_be_kept_are_removed_at_the_next_start(
    keeping: Runtimes,
) -> None:
    kept = await keep(keeping, Settings("org/name"))
    assert (await keeping.prepare("m", Settings("org/name", prompt_cache=0))).prompt_cache is None
    assert not kept.exists()


async def test_a_server_is_the_same_when_its_prompts_cannot_be_read(
    keeping: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings("org/name", warm_prompts=("Be brief.",))
    usual = await keeping.prepare("m", settings)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(PromptStore, "find", fail)
    with capture_logs() as logs:
        plan = await keeping.prepare("m", settings)
    assert plan.prompt_cache is None
    assert (plan.argv, plan.files) == (usual.argv, usual.files)
    assert vllm_mlx.BATCHING in plan.argv
    assert [line["event"] for line in logs] == [
        "a server keeps no prompts, as they cannot be looked up"
    ]


def test_a_kind_that_is_not_known_is_diagnosed_by_its_exit_alone() -> None:
    diagnosis, message = diagnose_of("unknown")(3, None, ("address already in use",))
    assert (diagnosis.name, message) == ("CRASHED", "exited with code 3")
