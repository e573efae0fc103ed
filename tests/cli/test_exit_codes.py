from pathlib import Path

import pytest
from google.rpc.error_details_pb2 import DebugInfo, RequestInfo
from grpc import StatusCode

from pool_service.cli.command_hints import SYNONYMS
from pool_service.cli.commands import pool_service
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.conftest import Run
from tests.client.scripted import Refusal, Script, Stay, ready, retry_after

SOON = (retry_after(3600),)


@pytest.mark.parametrize(
    ("refusal", "exit_code"),
    [
        (Refusal(StatusCode.INVALID_ARGUMENT, "no", "INVALID_MODEL"), 5),
        (Refusal(StatusCode.NOT_FOUND, "no", "MODEL_UNKNOWN"), 5),
        (Refusal(StatusCode.FAILED_PRECONDITION, "no", "MODEL_REJECTED"), 5),
        (Refusal(StatusCode.FAILED_PRECONDITION, "no", "RUNTIME_UNAVAILABLE"), 5),
        (Refusal(StatusCode.FAILED_PRECONDITION, "no", "CODE_NOT_TRUSTED"), 5),
        (Refusal(StatusCode.FAILED_PRECONDITION, "no", "MODEL_TOO_LARGE"), 5),
        (Refusal(StatusCode.UNAVAILABLE, "no", "FETCH_FAILED", SOON), 6),
        (Refusal(StatusCode.RESOURCE_EXHAUSTED, "no", "QUEUE_FULL", SOON), 6),
        (Refusal(StatusCode.FAILED_PRECONDITION, "no", "SERVER_IN_USE"), 6),
        (Refusal(StatusCode.FAILED_PRECONDITION, "no", "CRASH_LOOP", SOON), 5),
        (Refusal(StatusCode.RESOURCE_EXHAUSTED, "no", "POOL_FULL", SOON), 6),
        (Refusal(StatusCode.UNAVAILABLE, "no", "START_FAILED", SOON), 6),
        (Refusal(StatusCode.UNAVAILABLE, "no", "SHUTTING_DOWN"), 6),
        (Refusal(StatusCode.UNAVAILABLE, "no", "RECOVERING", SOON), 6),
        (Refusal(StatusCode.ABORTED, "no", "EVICTED"), 6),
        (Refusal(StatusCode.INTERNAL, "no", "INTERNAL"), 1),
    ],
    ids=lambda value: getattr(value, "reason", str(value)),
)
def test_the_reason_makes_the_exit_code(
    run: Run, service: Script, refusal: Refusal, exit_code: int
) -> None:
    service.answer("Ensure", refusal)
    result = run("ensure", "m")
    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "", "pool-service: no\n")


def test_a_service_that_is_not_there(run: Run, socket_dir: Path) -> None:
    one = (["ensure", "m"], ["evict", "m"], ["hold", "m"], ["pull", "m"])
    for command in (*one, ["list"], ["watch"], ["models"], ["reload"]):
        result = run(*command, address=f"unix:{socket_dir}/none")
        assert result.exit_code == 3
        assert result.stderr.startswith(
            f"pool-service: cannot reach the pool service at unix:{socket_dir}/none: "
        )
        assert result.stderr.count("\n") == 1


def test_an_error_about_a_forbidden_download_names_the_flag(run: Run, service: Script) -> None:
    refusal = Refusal(StatusCode.FAILED_PRECONDITION, "It is not here.", "MODEL_NOT_ON_DISK")
    service.answer("Ensure", refusal)
    result = run("ensure", "m")
    assert (result.exit_code, result.stderr) == (
        5,
        "pool-service: It is not here. Here that is --download.\n",
    )


def test_the_services_configuration_is_not_valid(run: Run, service: Script) -> None:
    wrong = Refusal(StatusCode.FAILED_PRECONDITION, "wrong:\na = 1\nb = 2", "CONFIG_INVALID")
    service.answer("Reload", wrong)
    result = run("reload")
    assert (result.exit_code, result.stderr) == (
        2,
        "pool-service: wrong:\n    a = 1\n    b = 2\n",
    )


def test_the_callers_timeout(run: Run, service: Script) -> None:
    service.answer("Ensure", Stay())
    result = run("ensure", "m", "--timeout", "0.2")
    assert result.exit_code == 4
    assert result.stderr == (
        "pool-service: no answer within 0.2 s; what the service has begun goes on\n"
    )


def test_a_timeout_after_failures_says_what_failed(run: Run, service: Script) -> None:
    service.answer("Ensure", Refusal(StatusCode.UNAVAILABLE, "it died", "START_FAILED"))
    service.answer("Ensure", Stay())
    # For the failure, the pause after it and a second call.
    result = run("ensure", "m", "--timeout", "5")
    assert result.exit_code == 4
    assert result.stderr.endswith("; the failure before that: it died\n")


def test_nothing_is_retried_unless_a_timeout_says_for_how_long(run: Run, service: Script) -> None:
    passing = Refusal(StatusCode.UNAVAILABLE, "it ends", "SHUTTING_DOWN", (retry_after(0.01),))
    for _ in range(2):
        service.answer("Ensure", passing)
    service.answer("Ensure", pb.EnsureResponse(server=ready()))
    assert run("ensure", "m").exit_code == 6
    assert run("ensure", "m", "--timeout", "30").exit_code == 0
    assert len(service.ensured) == 3


def test_the_last_lines_of_the_server_stand_below_the_error(run: Run, service: Script) -> None:
    debug = DebugInfo(stack_entries=["Traceback", "ImportError: \x1b[31mno mlx"])
    service.answer("Ensure", Refusal(StatusCode.UNAVAILABLE, "it died", "START_FAILED", (debug,)))
    assert run("ensure", "m").stderr.splitlines() == [
        "pool-service: it died",
        "    Traceback",
        r"    ImportError: \x1b[31mno mlx",
    ]


def test_a_bug_of_the_service_is_reported_with_the_request(run: Run, service: Script) -> None:
    refusal = Refusal(StatusCode.INTERNAL, "a bug", "INTERNAL", (RequestInfo(request_id="r-17"),))
    service.answer("Ensure", refusal)
    assert run("ensure", "m").stderr == "pool-service: a bug (request r-17)\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["ensure"],
        ["ensure", "m", "--timeout", "0"],
        ["ensure", "m", "--timeout", "nan"],
        ["ensure", "m", "--timeout", "forever"],
        ["ensure", "m", "--keep-alive", "inf"],
        ["ensure", "m", "--keep-alive", "5 parsecs"],
        ["ensure", "m", "--keep-alive", ""],
        ["ensure", "m", "--address", "nowhere"],
        ["--address", "nowhere", "list"],
        ["evict"],
        ["evict", "m", "--all"],
        ["evict", "--idle", "--all"],
        ["evict", "--idle", "--force"],
        ["watch", "--after", "-1"],
        ["ensure", "\udcff"],
        ["ensure", "m", "--runtime-model", "\udcff"],
        ["evict", "\udcff"],
        ["hold"],
        ["hold", "m", "--keep-alive", "nan"],
        ["hold", "m", "--json", "--", "true"],
        ["hold", "m", "--", "no-such-program-anywhere"],
        ["pull"],
        ["list", "--address", "unix:/\udcff"],
        ["unknown"],
    ],
    ids=lambda arguments: ascii(" ".join(arguments)),
)
def test_a_command_line_that_makes_no_sense(
    run: Run, service: Script, arguments: list[str]
) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")
    assert not service.asked


def test_the_commands_address_goes_before_the_global_one(run: Run, service: Script) -> None:
    service.answer("Evict", pb.EvictResponse())
    command = ["--address", "unix:/none", "evict", "m", "--address", service.address]
    assert run(*command, address="unix:/neither").exit_code == 0


def test_the_global_address_goes_before_the_environments(run: Run, service: Script) -> None:
    service.answer("Evict", pb.EvictResponse())
    assert run("--address", service.address, "evict", "m", address="unix:/none").exit_code == 0


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("ps", "Here it is `pool-service list`."),
        ("log", "Here it is `pool-service logs`."),
        ("rm", "Here it is `pool-service evict`, which keeps the model's files"),
        ("ensrue", "Did you mean `pool-service ensure`?"),
    ],
)
def test_another_word_for_a_command_leads_to_the_right_one(run: Run, typed: str, told: str) -> None:
    result = run(typed, "m")
    assert result.exit_code == 2
    assert f"No such command {typed!r}. {told}" in result.stderr


def test_every_other_word_leads_to_a_command_and_hides_none() -> None:
    commands = pool_service.commands
    assert {words.split()[0] for words in SYNONYMS.values()} <= set(commands)
    assert not set(SYNONYMS) & set(commands)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("1h30m", 5400), ("2h 5m", 7500), ("90", 90), ("-1", -1), ("forever", -1)],
)
def test_a_duration_is_written_as_in_the_configuration(
    run: Run, service: Script, text: str, seconds: int
) -> None:
    service.answer("Ensure", pb.EnsureResponse(server=ready()))
    assert run("ensure", "m", "--keep-alive", text).exit_code == 0
    assert service.ensured[0].keep_alive.seconds == seconds


def test_a_duration_that_is_none_is_refused_with_its_form(run: Run) -> None:
    result = run("ensure", "m", "--keep-alive", "long")
    assert "'long' is not a duration; write seconds, or units such as \"90s\"" in result.stderr


def test_a_keep_alive_of_any_length_is_the_services_to_refuse(run: Run, service: Script) -> None:
    service.answer("Ensure", Refusal(StatusCode.INVALID_ARGUMENT, "no", "INVALID_KEEP_ALIVE"))
    result = run("ensure", "m", "--keep-alive", "1e300")
    assert (result.exit_code, result.stderr) == (5, "pool-service: no\n")
    assert service.ensured[0].keep_alive.seconds == 315_576_000_000


def test_a_timeout_of_any_length_is_no_deadline_that_has_passed(run: Run, service: Script) -> None:
    service.answer("Ensure", pb.EnsureResponse(server=ready()))
    assert run("ensure", "m", "--timeout", "1e10").exit_code == 0


def test_what_is_wrong_with_a_configuration_stands_in_lines(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "pool.toml"
    file.write_text("[service]\nlistn = 1\nmax_starts = 0\n")
    result = run("config", "check", str(file))
    assert result.exit_code == 2
    headline, *problems = result.stderr.splitlines()
    assert headline == f"pool-service: the configuration in {file} is not valid:"
    assert [problem[:12] for problem in problems] == ["    service."] * 2
    file.write_text("[service]\nmax_starts = 0\n")
    assert run("config", "check", str(file)).stderr.count("\n") == 1


def test_a_valid_configuration_with_which_a_model_cannot_start_is_not_all_right(
    run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "pool.toml"
    runtime = '[runtime]\ncommand = ["/bin/true", "{port}"]\n[service]\n'
    away = 'trusted_directories = ["/nowhere"]\n'
    file.write_text(f"{runtime}{away}[models.a]\nruntime_model = '{tmp_path}/b'")
    result = run("config", "check", str(file))
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "warning: service.trusted_directories: there is no directory '/nowhere'",
        f"pool-service: the configuration in {file} is valid, but not all of it can work here:",
        f"    models.\"a\".runtime_model: there is no 'b' in '{tmp_path}'; correct the path",
    ]
    file.write_text(f"{runtime}{away}")
    result = run("config", "check", str(file))
    assert (result.exit_code, result.stdout) == (0, f"{file} is valid\n")
    assert result.stderr.startswith("warning: ")
