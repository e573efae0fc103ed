from dataclasses import replace
from pathlib import Path

import pytest

from pool_service.adapters.runtime.launch_plan import (
    Names,
    check_directory,
    check_names,
    fill,
    kind_of,
    option_value,
    with_options,
)
from pool_service.core.errors import ModelRejected

TEMPLATE = ("vllm-mlx", "serve", "{runtime_model}", "--port", "{port}")


def test_placeholders_are_replaced_once_so_that_a_model_cannot_fill_others() -> None:
    names = Names(model="m", runtime_model="{port}{model}", port="1")
    assert fill(("{runtime_model}", "-p={port}", "{other}"), names) == (
        "{port}{model}",
        "-p=1",
        "{other}",
    )


@pytest.mark.parametrize(
    ("program", "kind"),
    [("vllm-mlx", "vllm-mlx"), ("/opt/x/vllm-mlx", "vllm-mlx"), ("llama-server", "plain")],
)
def test_the_programs_name_tells_the_kind(program: str, kind: str) -> None:
    assert kind_of((program, "serve")) == kind


def test_the_options_that_the_pool_relies_on_follow_serve() -> None:
    command = with_options(TEMPLATE, "{model}")
    assert command[:4] == ("vllm-mlx", "serve", "--served-model-name", "{model}")
    assert option_value(command, "--host") == "{host}"
    assert option_value(command, "--download-retries") == "1"
    assert float(option_value(command, "--auto-unload-idle-seconds") or 0) > 1e8
    assert command[-3:] == TEMPLATE[2:]


def test_the_host_is_loopback_unless_another_one_is_to_be_taken() -> None:
    command = with_options((*TEMPLATE, "--url=http://[{host}]"), "m")
    names = Names("m", "org/m", "0")
    assert option_value(fill(command, names), "--host") == "127.0.0.1"
    elsewhere = fill(command, replace(names, host="fd00::11"))
    assert option_value(elsewhere, "--host") == "fd00::11"
    assert elsewhere[-1] == "--url=http://[fd00::11]"


def test_a_command_without_arguments_has_no_options() -> None:
    assert option_value((), "--port") is None


@pytest.mark.parametrize("own", [("--host", "0.0.0.0"), ("--host=0.0.0.0",)])
def test_what_the_template_says_is_not_said_again(own: tuple[str, ...]) -> None:
    command = with_options((*TEMPLATE, *own), "m")
    assert option_value(command, "--host") == "0.0.0.0"
    assert sum(part.startswith("--host") for part in command) == 1


def test_kept_prompts_are_bounded_unless_the_template_bounds_them() -> None:
    command = with_options(TEMPLATE, "m", prompt_bytes=2 * 1024**3)
    assert "--continuous-batching" in command
    assert option_value(command, "--cache-memory-mb") == "2048"
    for own in ("--cache-memory-percent=0.4", "--cache-memory-mb=7"):
        command = with_options((*TEMPLATE, own), "m", prompt_bytes=2 * 1024**3)
        assert [part for part in command if part.startswith("--cache-memory")] == [own]
        assert "--continuous-batching" in command


@pytest.mark.parametrize("joined", [False, True])
def test_of_an_option_that_is_said_twice_the_last_counts_as_for_the_program(joined: bool) -> None:
    """A model's arguments follow those of the runtime's command, which name a checked model."""
    last = ("--embedding-model=last",) if joined else ("--embedding-model", "last")
    command = ("vllm-mlx", "serve", "--embedding-model", "first", "--mllm", *last)
    assert option_value(command, "--embedding-model") == "last"


@pytest.mark.parametrize("option", ["--trust-remote-code", "--mllm-draft-model=x"])
def test_unloading_is_not_asked_for_beside_options_that_it_would_disable(option: str) -> None:
    command = with_options((*TEMPLATE, option), "m")
    assert option_value(command, "--auto-unload-idle-seconds") is None


@pytest.mark.parametrize("name", ["-x", "--trust-remote-code"])
def test_a_name_that_is_an_option_is_refused(name: str) -> None:
    with pytest.raises(ModelRejected, match="option"):
        check_names("m", name)
    with pytest.raises(ModelRejected, match="option"):
        check_names(name, "org/name")


@pytest.mark.parametrize("name", ["./x", "../x", "~", "~/x", ".", "..", "$HOME/x", "${HOME}/x"])
def test_a_relative_path_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(ModelRejected, match="must be absolute"):
        check_names("m", name)


@pytest.mark.parametrize("name", ["org/name", "name", "/abs/x", ".hidden/x"])
def test_ids_and_absolute_paths_pass(name: str) -> None:
    check_names("m", name)


def test_a_directory_that_can_hold_no_model_is_refused_before_a_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, why in (("none", "no such directory"), ("file", "is a file"), ("empty", "config")):
        with pytest.raises(ModelRejected, match=why) as caught:
            check_directory("m", str(tmp_path / name))
        assert caught.value.model == "m"


def test_a_path_that_is_too_long_is_refused_and_no_bug() -> None:
    with pytest.raises(ModelRejected, match="too long"):
        check_directory("m", "/" + "x" * 4000)


def test_a_model_directory_and_a_hub_id_pass(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    check_directory("m", str(tmp_path))
    check_directory("m", "org/name")
