import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.runtime import diagnosis, vllm_mlx
from pool_service.adapters.runtime.launch_plan import Kind, option_value
from pool_service.adapters.runtime.program import CommandRuntime
from pool_service.adapters.runtime.provision import Progress, Provisioner
from pool_service.adapters.runtime.registry import Runtimes, diagnose_of
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.adapters.runtime.search import Versions
from pool_service.core.activity import UseSignals
from pool_service.core.errors import ModelRejected, RuntimeUnavailable
from pool_service.core.types import EstimateSource, PromptCache, Settings
from tests.second_address import NOWHERE, SECOND_LOOPBACK

PLAIN = ("{program}", "--model", "{runtime_model}", "--port", "{port}", "--alias={model}")


def program(path: Path, version: str = "0.6.0") -> Path:
    """ProgramCache --version as a vllm-mlx that is no Python script would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return path


class FakeProvisioner(Provisioner):
    """Installs in no time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path
        self.installs = 0

    def installed(self) -> Path | None:
        return self.path if self.path.exists() else None

    async def install(self, progress: Progress = lambda *_: None) -> Path:
        self.installs += 1
        progress(1, 1, "done")
        return program(self.path)


@pytest.fixture
def options(tmp_path: Path) -> RuntimeOptions:
    path = program(tmp_path / "vllm-mlx")
    return RuntimeOptions(
        data_dir=tmp_path, command=(str(path), *RuntimeOptions(tmp_path).command[1:])
    )


@pytest.fixture
def plain(tmp_path: Path) -> RuntimeOptions:
    path = program(tmp_path / "server")
    return RuntimeOptions(data_dir=tmp_path, command=(str(path), *PLAIN[1:]))


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv/bin/python"))
    monkeypatch.setenv("PATH", "/nonexistent")
    return tmp_path


async def test_vllm_mlx_chooses_its_port_and_serves_the_callers_name(
    options: RuntimeOptions,
) -> None:
    plan = await CommandRuntime(options).prepare("my model", Settings("org/name"))
    assert plan.port is None
    assert option_value(plan.argv, "--port") == "0"
    assert "org/name" in plan.argv
    assert option_value(plan.argv, "--served-model-name") == plan.served_model_name == "my model"
    assert plan.health_path == "/health"


async def test_vllm_mlx_queues_a_second_request(options: RuntimeOptions) -> None:
    plan = await CommandRuntime(options, inherited={}).prepare("m", Settings("org/name"))
    environment = dict(plan.environment)
    assert environment["VLLM_MLX_SIMPLE_ENGINE_LOCK_ADMISSION"] == "wait"


async def test_a_name_in_braces_is_a_name(options: RuntimeOptions) -> None:
    plan = await CommandRuntime(options).prepare("{port}", Settings("{model}"))
    assert plan.served_model_name == "{port}"
    assert "{model}" in plan.argv


async def test_the_served_name_of_the_template_is_handed_out(options: RuntimeOptions) -> None:
    own = replace(options, command=(*options.command, "--served-model-name", "x-{model}"))
    plan = await CommandRuntime(own).prepare("m", Settings("org/name"))
    assert plan.served_model_name == "x-m"
    assert plan.argv.count("--served-model-name") == 1


async def test_a_plain_runtime_is_told_a_free_port_that_no_other_plan_has(
    plain: RuntimeOptions,
) -> None:
    runtime = CommandRuntime(plain)
    plans = [await runtime.prepare("m", Settings("org/name")) for _ in range(20)]
    assert len({plan.port for plan in plans}) == 20
    for plan in plans:
        assert plan.argv[1:] == ("--model", "org/name", "--port", str(plan.port), "--alias=m")
        assert plan.served_model_name == "org/name"


async def test_every_runtime_is_told_the_address_at_which_it_must_listen(
    options: RuntimeOptions, plain: RuntimeOptions
) -> None:
    for host, given in ((SECOND_LOOPBACK, SECOND_LOOPBACK), ("", "127.0.0.1")):
        for one in (options, replace(plain, command=(*plain.command, "--host", "{host}"))):
            plan = await CommandRuntime(replace(one, host=host)).prepare("m", Settings("org/m"))
            assert option_value(plan.argv, "--host") == given
            # Without an advertised address a command may name another one, as before.
            assert plan.host == host


async def test_nothing_is_started_where_the_address_is_not_there(
    options: RuntimeOptions, plain: RuntimeOptions
) -> None:
    for one in (options, plain):
        runtime = CommandRuntime(replace(one, host=NOWHERE))
        with pytest.raises(RuntimeUnavailable) as refused:
            await runtime.prepare("m", Settings("org/m"))
        assert f"'m' cannot be started: fleet.advertise is {NOWHERE}" in str(refused.value)
        assert "no address of this machine now" in str(refused.value)


async def test_a_plain_template_without_a_port_may_listen_where_it_wants(
    plain: RuntimeOptions,
) -> None:
    own = replace(plain, command=plain.command[:3])
    assert (await CommandRuntime(own).prepare("m", Settings("x"))).port is None


async def test_the_operators_variables_reach_the_server_and_the_services_do_not(
    plain: RuntimeOptions,
) -> None:
    own = replace(plain, environment=(("WEB_CONCURRENCY", "1"),))
    runtime = CommandRuntime(own, inherited={"PYTHONPATH": "/x", "HOME": "/h"})
    environment = dict((await runtime.prepare("m", Settings("x"))).environment)
    assert environment == {"HOME": "/h", "PYTHONUNBUFFERED": "1", "WEB_CONCURRENCY": "1"}


async def test_a_model_that_cannot_be_there_is_refused_before_the_program_is_looked_for(
    tmp_path: Path, nowhere: Path
) -> None:
    runtime = CommandRuntime(RuntimeOptions(tmp_path))
    with pytest.raises(ModelRejected, match="no such directory"):
        await runtime.prepare("m", Settings(str(nowhere / "none")))


async def test_what_an_absolute_path_means_to_a_plain_runtime_is_its_own_business(
    plain: RuntimeOptions,
) -> None:
    await CommandRuntime(plain).prepare("m", Settings("/none/model.gguf"))


async def test_a_missing_runtime_names_the_command_that_installs_it(nowhere: Path) -> None:
    runtime = CommandRuntime(RuntimeOptions(nowhere))
    with pytest.raises(RuntimeUnavailable, match="pool-service runtime install") as caught:
        await runtime.prepare("m", Settings("org/name"))
    assert caught.value.model == "m"


async def test_a_missing_runtime_is_installed_where_the_configuration_allows_it(
    nowhere: Path,
) -> None:
    provisioner, seen = FakeProvisioner(nowhere / "data/vllm-mlx"), []
    runtime = CommandRuntime(
        RuntimeOptions(nowhere, provision=True),
        provisioner=provisioner,
        progress=lambda *step: seen.append(step),
    )
    for _ in range(2):
        plan = await runtime.prepare("m", Settings("org/name"))
        assert plan.argv[0] == str(provisioner.path)
    assert provisioner.installs == 1
    assert seen == [(1, 1, "done")]


async def test_a_runtime_that_is_too_old_is_refused(options: RuntimeOptions) -> None:
    program(Path(options.command[0]), "0.2.9")
    with pytest.raises(RuntimeUnavailable, match=r"0\.2\.9"):
        await CommandRuntime(options).prepare("m", Settings("org/name"))


async def test_an_upgrade_of_the_program_is_noticed(options: RuntimeOptions) -> None:
    runtime = CommandRuntime(options)
    program(Path(options.command[0]), "0.2.9")
    with pytest.raises(RuntimeUnavailable):
        await runtime.prepare("m", Settings("org/name"))
    program(Path(options.command[0]), "0.10.0")
    await runtime.prepare("m", Settings("org/name"))


async def test_the_version_of_a_wrapper_by_another_name_is_not_asked(tmp_path: Path) -> None:
    wrapper = program(tmp_path / "wrapper", "no version")
    own = RuntimeOptions(
        tmp_path, command=(str(wrapper), "serve", "{runtime_model}"), kind="vllm-mlx"
    )
    plan = await CommandRuntime(own).prepare("m", Settings("org/name"))
    assert "--served-model-name" in plan.argv


async def test_describe_tells_what_would_run_and_how_it_was_found(options: RuntimeOptions) -> None:
    described = await CommandRuntime(options).describe()
    assert described.path == options.command[0]
    assert (described.found, described.kind) == ("configured", "vllm-mlx")
    assert (described.version, described.interpreter) == ("0.6.0", None)


async def test_describe_installs_nothing(nowhere: Path) -> None:
    provisioner = FakeProvisioner(nowhere / "vllm-mlx")
    options = RuntimeOptions(nowhere, provision=True)
    with pytest.raises(RuntimeUnavailable):
        await CommandRuntime(options, provisioner=provisioner).describe()
    assert provisioner.installs == 0


def test_each_kind_has_its_own_diagnosis(options: RuntimeOptions, plain: RuntimeOptions) -> None:
    assert diagnose_of(CommandRuntime(options).kind) is vllm_mlx.diagnose
    assert diagnose_of(CommandRuntime(plain).kind) is diagnosis.diagnose


async def test_what_a_server_of_an_earlier_service_needed_is_remembered(
    options: RuntimeOptions, tmp_path: Path
) -> None:
    adopting = Runtimes({"": options}, tmp_path)
    adopting.record_usage(Settings("org/name"), 100)
    await adopting.estimate("other", Settings("org/other"))
    adopting.close()
    estimated = await Runtimes({"": options}, tmp_path).estimate("m", Settings("org/name"))
    assert (estimated.expected, estimated.source) == (100, EstimateSource.OBSERVED)


async def test_a_name_that_is_an_option_or_a_relative_path_is_refused(
    plain: RuntimeOptions,
) -> None:
    for name in ("--help", "./here"):
        with pytest.raises(ModelRejected, match="cannot be loaded"):
            await CommandRuntime(plain).prepare("m", Settings(name))


async def test_requests_in_flight_are_read_where_each_kind_tells_of_them(
    options: RuntimeOptions, plain: RuntimeOptions
) -> None:
    of_vllm_mlx = replace(options, busy_path="/busy", busy_values=("n",))
    plan = await CommandRuntime(of_vllm_mlx).prepare("m", Settings("org/name"))
    assert plan.use == vllm_mlx.use_signals((0, 6, 0), with_metrics=vllm_mlx.METRICS in plan.argv)
    assert plan.use.path != "/busy"
    for path, use in (("", UseSignals()), ("/busy", UseSignals("/busy", ("n",), counts_all=True))):
        of_other = replace(plain, busy_path=path, busy_values=("n",))
        assert (await CommandRuntime(of_other).prepare("m", Settings("x"))).use == use


@pytest.mark.parametrize(
    ("of_runtime", "of_model", "name"),
    [
        ((), (), ""),
        (("--embedding-model", "{runtime_model}"), (), "org/name"),
        ((), ("--embedding-model=/models/bert",), "/models/bert"),
        (("--embedding-model", "org/first"), ("--embedding-model", "org/last"), "org/last"),
    ],
)
async def test_the_embedding_model_answers_to_the_text_of_its_option(
    tmp_path: Path,
    plain: RuntimeOptions,
    of_runtime: tuple[str, ...],
    of_model: tuple[str, ...],
    name: str,
) -> None:
    """By a wrapper, whose options are not listed, so that its arguments are not checked."""
    command = (*plain.command, *of_runtime)
    wrapper = replace(plain, command=command, kind="vllm-mlx")
    settings = Settings("org/name", arguments=of_model)
    assert (await CommandRuntime(wrapper).prepare("m", settings)).embedding_model_name == name
    other = replace(plain, command=command)
    assert (await CommandRuntime(other).prepare("m", settings)).embedding_model_name == ""


@pytest.mark.parametrize(
    ("kind", "configured", "drains"),
    [
        ("vllm-mlx", None, True),
        ("plain", None, False),
        ("vllm-mlx", False, False),
        ("plain", True, True),
    ],
)
def test_a_server_drains_as_configured_or_else_by_its_kind(
    tmp_path: Path, kind: Kind, configured: bool | None, drains: bool
) -> None:
    options = RuntimeOptions(tmp_path, kind=kind, drains=configured)
    assert options.effective_drains is drains


async def test_the_version_is_that_of_a_vllm_mlx_that_is_there(
    options: RuntimeOptions, plain: RuntimeOptions, nowhere: Path
) -> None:
    assert await CommandRuntime(options).version() == "0.6.0"
    assert await CommandRuntime(plain).version() == ""
    assert await CommandRuntime(RuntimeOptions(nowhere)).version() == ""


async def test_arguments_that_the_program_does_not_list_are_refused_with_what_to_do(
    options: RuntimeOptions,
) -> None:
    usage = "usage: vllm-mlx serve [-h] [--known N] model"
    script = f"#!/bin/sh\ncase $* in *--help*) echo '{usage}';; *) echo 0.6.0;; esac\n"
    await asyncio.to_thread(Path(options.command[0]).write_text, script)
    runtime = CommandRuntime(options)
    await runtime.prepare("m", Settings("org/name", arguments=("--known", "1")))
    with pytest.raises(RuntimeUnavailable, match="start"):
        await runtime.prepare("m", Settings("org/name", arguments=("--unknown", "1")))


@pytest.mark.parametrize(
    ("name", "is_script", "arguments", "why"),
    [
        ("vllm-mlx", True, (), ""),
        ("vllm-mlx", True, ("--disable-prefix-cache",), "beside --disable-prefix-cache"),
        ("vllm-mlx", True, ("--enable-mtp",), "beside --enable-mtp"),
        ("vllm-mlx", True, ("--enable-mtp", "--continuous-batching"), ""),
        # Without the launcher a server would keep its prompts in the home directory, unbounded.
        ("vllm-mlx", False, (), "for a program that is no Python script"),
        ("my-vllm-mlx", True, (), "for a program that is not vllm-mlx itself"),
    ],
)
async def test_prompts_are_kept_only_where_the_launcher_and_the_arguments_let_them_be(
    tmp_path: Path, name: str, arguments: tuple[str, ...], why: str, *, is_script: bool
) -> None:
    path = program(tmp_path / name)
    if is_script:
        path.write_text(f"#!{program(tmp_path / 'python')}\n")
    options = RuntimeOptions(tmp_path, command=(str(path), "serve"), kind="vllm-mlx")
    settings = Settings("m", arguments=arguments, warm_prompts=("Be brief.",))
    asked: list[bool] = []

    async def find(versions: Versions | None) -> PromptCache | None:
        asked.append(versions is not None)
        return PromptCache("/kept", 5) if versions else None

    with capture_logs() as logs:
        plan = await CommandRuntime(options).prepare("m", settings, find)
    batches = vllm_mlx.BATCHING in plan.argv
    assert (asked, batches, bool(plan.files)) == ([not why], not why, not why)
    assert plan.prompt_cache == (None if why else PromptCache("/kept", 5))
    told = [line["why"] for line in logs if line["event"] == "warm_prompts are not computed"]
    assert told == ([f"--continuous-batching is not added {why}"] if why else [])


@pytest.mark.parametrize("batches", [False, True])
async def test_warm_prompts_are_in_a_file_for_a_server_that_batches(
    options: RuntimeOptions, batches: bool
) -> None:
    arguments = (vllm_mlx.BATCHING,) if batches else ()
    settings = Settings("org/name", arguments=arguments, warm_prompts=("Sei knapp: \u00fcber", "b"))
    plan = await CommandRuntime(options).prepare("m", settings)
    assert "Sei knapp" not in str(plan.argv)
    if not batches:
        assert plan.files == ()
        assert vllm_mlx.WARM_PROMPTS not in plan.argv
        return
    ((name, content),) = plan.files
    assert option_value(plan.argv, vllm_mlx.WARM_PROMPTS) == name
    assert json.loads(content) == [
        [{"role": "system", "content": "Sei knapp: \u00fcber"}],
        [{"role": "system", "content": "b"}],
    ]


async def test_warm_prompts_need_a_program_that_computes_them(options: RuntimeOptions) -> None:
    usage = "usage: vllm-mlx serve [-h] [--known N] model"
    script = f"#!/bin/sh\ncase $* in *--help*) echo '{usage}';; *) echo 0.6.0;; esac\n"
    await asyncio.to_thread(Path(options.command[0]).write_text, script)
    with pytest.raises(RuntimeUnavailable, match=r"no option --warm-prompts\. Install a newer one"):
        await CommandRuntime(options).prepare("m", Settings("org/name", warm_prompts=("a",)))
