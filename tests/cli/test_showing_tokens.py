"""The commands show the token of a file, and say what to do without one."""

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from grpc import StatusCode

from pool_service.cli.commands import pool_service
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.conftest import Run
from tests.client.scripted import Refusal, Script


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "token", "pst_x")


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_token_file_is_named_before_the_command_or_after_it(
    run: Run, service: Script, file: Path, tmp_path: Path
) -> None:
    service.answer("List", pb.ListResponse())
    other = written(tmp_path / "other", "pst_y")
    for arguments in (
        ["--token-file", str(file), "list"],
        ["list", "--token-file", str(file)],
        ["--token-file", str(other), "list", "--token-file", str(file)],
    ):
        assert run(*arguments).exit_code == 0
    assert service.shown["List"] == ["Bearer pst_x"] * 3


def test_address_and_token_file_may_be_on_either_side(
    run: Run, service: Script, file: Path
) -> None:
    service.answer("List", pb.ListResponse())
    nowhere = "unix:/nonexistent/socket"
    address = ["--address", service.address]
    shown = ["--token-file", str(file)]
    assert run(*address, "list", *shown, address=nowhere).exit_code == 0
    assert run(*shown, "list", *address, address=nowhere).exit_code == 0
    assert service.shown["List"] == ["Bearer pst_x"] * 2


def test_the_variables_name_a_token(
    run: Run, service: Script, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answer("List", pb.ListResponse())
    monkeypatch.setenv("POOL_SERVICE_TOKEN_FILE", str(file))
    run("list")
    monkeypatch.setenv("POOL_SERVICE_TOKEN", "pst_given")
    run("list")
    run("--token-file", str(written(tmp_path / "other", "pst_y")), "list")
    assert service.shown["List"] == ["Bearer pst_x", "Bearer pst_given", "Bearer pst_y"]


@pytest.mark.parametrize(
    ("arguments", "rpc"),
    [
        (["ensure", "m"], "Ensure"),
        (["evict", "m"], "Evict"),
        (["models"], "ListModels"),
        (["forget", "m"], "Forget"),
        (["pin", "m"], "Pin"),
        (["describe", "m"], "Describe"),
        (["reload"], "Reload"),
        (["pull", "m"], "Pull"),
        (["watch"], "Watch"),
        (["logs", "m"], "TailLogs"),
        (["hold", "m", "--", "true"], "Hold"),
        (["run", "m"], "Hold"),
    ],
)
def test_every_command_shows_the_token(
    run: Run, service: Script, file: Path, arguments: list[str], rpc: str
) -> None:
    service.answer("List", pb.ListResponse())
    refusal = Refusal(StatusCode.FAILED_PRECONDITION, "no", "MODEL_REJECTED")
    service.answer(rpc, refusal)
    assert run("--token-file", str(file), *arguments, text="hi").exit_code == 5
    assert {*service.shown["List"], *service.shown[rpc]} == {"Bearer pst_x"}
    assert service.shown[rpc]


def test_without_a_token_a_refusal_says_where_to_put_one(run: Run, service: Script) -> None:
    refusal = Refusal(StatusCode.UNAUTHENTICATED, "it needs a token. Ask for one.", "TOKEN_MISSING")
    service.answer("List", refusal)
    result = run("list")
    assert result.exit_code == 5
    assert result.stderr == (
        "pool-service: it needs a token. Ask for one. Or name the file with --token-file.\n"
    )


def test_a_token_that_allows_less_is_refused_in_the_words_of_the_service(
    run: Run, service: Script
) -> None:
    words = "Reload needs the scope admin, and 'engine' has use."
    service.answer("Reload", Refusal(StatusCode.PERMISSION_DENIED, words, "SCOPE_MISSING"))
    result = run("reload")
    assert (result.exit_code, result.stderr) == (5, f"pool-service: {words}\n")


def test_a_token_file_that_others_may_read_is_refused_before_the_call(
    run: Run, service: Script, file: Path
) -> None:
    file.chmod(0o644)
    result = run("--token-file", str(file), "list")
    assert result.exit_code == 2
    assert f"chmod 600 {file}" in result.stderr
    assert "pst_x" not in result.output
    assert not service.asked


def test_names_are_completed_with_the_token(
    service: Script, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool_service.cli.shell_completion.ANSWER_LIMIT_S", 60)
    model = pb.Model(model="qwen")
    service.answer("ListModels", pb.ListModelsResponse(models=[model]))
    service.answer("List", pb.ListResponse())
    shell = ShellComplete(pool_service, {}, "pool-service", "_POOL_SERVICE_COMPLETE")
    words = ["--token-file", str(file), "ensure", "--address", service.address]
    assert [item.value for item in shell.get_completions(words, "q")] == ["qwen"]
    assert service.shown["ListModels"] == ["Bearer pst_x"]
