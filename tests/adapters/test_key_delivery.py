"""Which servers have a key, and how each program gets its own."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pool_service.access.server_keys import is_key
from pool_service.adapters.process.launch import work_dirs
from pool_service.adapters.runtime.launch_plan import Kind, option_value
from pool_service.adapters.runtime.program import CommandRuntime
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.core.types import LaunchPlan, Settings

MODEL = Settings("org/name")
IN_VARIABLE = (("LLAMA_API_KEY", "{api_key}"),)
BY_FILE = ("--api-key-file", "{api_key_file}")


def script(path: Path, interpreter: str) -> RuntimeOptions:
    """Return the options of a program that says that it is vllm-mlx 0.6.0."""
    lines = {
        sys.executable: f"#!{sys.executable}\nprint('0.6.0')\n",
        "/bin/sh": "#!/bin/sh\necho 0.6.0\n",
    }
    path.write_text(lines[interpreter])
    path.chmod(0o755)
    command = (str(path), *RuntimeOptions(path).command[1:])
    return RuntimeOptions(data_dir=path.parent, command=command, server_keys=True)


@pytest.fixture
def vllm_mlx(tmp_path: Path) -> RuntimeOptions:
    return script(tmp_path / "vllm-mlx", sys.executable)


@pytest.fixture
def other(tmp_path: Path) -> RuntimeOptions:
    return script(tmp_path / "server", "/bin/sh")


async def plan_of(options: RuntimeOptions, settings: Settings = MODEL) -> LaunchPlan:
    return await CommandRuntime(options).prepare("m", settings)


async def test_each_vllm_mlx_has_a_key_of_its_own_that_its_plan_does_not_show(
    vllm_mlx: RuntimeOptions,
) -> None:
    plans = [await plan_of(vllm_mlx) for _ in range(3)]
    assert all(is_key(plan.api_key) for plan in plans)
    assert len({plan.api_key for plan in plans}) == 3
    for plan in plans:
        assert plan.api_key not in " ".join(plan.argv)
        assert plan.api_key not in str(plan.environment)
        assert plan.api_key not in repr(plan)


@pytest.mark.parametrize("way", ["switched off", "its own", "a model's own"])
async def test_a_vllm_mlx_has_no_key_where_the_operator_says_so(
    vllm_mlx: RuntimeOptions, way: str
) -> None:
    settings = MODEL
    if way == "switched off":
        vllm_mlx = replace(vllm_mlx, server_keys=False)
    elif way == "its own":
        vllm_mlx = replace(vllm_mlx, command=(*vllm_mlx.command, "--api-key", "mine"))
    else:
        settings = replace(MODEL, arguments=("--api-key=mine",))
    assert (await plan_of(vllm_mlx, settings)).api_key == ""


@pytest.mark.parametrize("kind", ["vllm-mlx", "plain"])
async def test_a_program_that_the_launcher_does_not_run_has_none(
    vllm_mlx: RuntimeOptions, tmp_path: Path, kind: Kind
) -> None:
    """It would not get the key, and its callers would believe that it asks for one."""
    if kind == "vllm-mlx":
        vllm_mlx = script(tmp_path / "vllm-mlx", "/bin/sh")
    else:
        vllm_mlx = replace(vllm_mlx, kind=kind)
    assert (await plan_of(vllm_mlx)).api_key == ""


@pytest.mark.parametrize("of", ["runtime", "model"])
async def test_another_program_gets_its_key_in_a_variable(other: RuntimeOptions, of: str) -> None:
    settings = MODEL
    if of == "runtime":
        other = replace(other, environment=IN_VARIABLE)
    else:
        settings = replace(MODEL, environment=IN_VARIABLE)
    plan = await plan_of(other, settings)
    assert is_key(plan.api_key)
    assert dict(plan.environment)["LLAMA_API_KEY"] == plan.api_key
    assert plan.api_key not in " ".join(plan.argv)
    assert plan.api_key not in repr(plan)


@pytest.mark.parametrize("of", ["runtime", "model"])
async def test_another_program_gets_its_key_as_a_file(
    other: RuntimeOptions, tmp_path: Path, of: str
) -> None:
    settings = MODEL
    if of == "runtime":
        other = replace(other, command=(*other.command, *BY_FILE))
    else:
        settings = replace(MODEL, arguments=BY_FILE)
    directories = work_dirs(tmp_path / "state")
    plan = await CommandRuntime(other, work_dirs=directories).prepare("m", settings)
    assert is_key(plan.api_key)
    assert plan.files == (("api-key", plan.api_key),)
    path = directories / plan.nonce / "api-key"
    assert option_value(plan.argv, "--api-key-file") == str(path)


async def test_another_program_that_cannot_get_a_key_has_none(other: RuntimeOptions) -> None:
    assert (await plan_of(other)).api_key == ""
