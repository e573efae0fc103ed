import json
import signal

from grpc import StatusCode

from pool_service.cli.calls import NO_MODEL_CHANGED
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.conftest import Run
from tests.cli.program import Terminal, running, started
from tests.client.scripted import Refusal, Script, Stay

A = pb.Model(
    model="a",
    aliases=["first", "one"],
    runtime_model="org/a",
    expected_bytes=3_200_000_000,
    expected_by=pb.EXPECTATION_DECLARED,
    on_disk=True,
)
B = pb.Model(model="b", on_disk=False, problem="no\nsuch file")


def pulled(done: int, total: int) -> pb.PullResponse:
    return pb.PullResponse(done_bytes=done, total_bytes=total)


def test_models_are_a_table_with_what_is_wrong_below(run: Run, service: Script) -> None:
    service.answer("ListModels", pb.ListModelsResponse(models=[A], next_page_token="t"))
    service.answer("ListModels", pb.ListModelsResponse(models=[B, pb.Model(model="c")]))
    lines = run("models").stdout.splitlines()
    assert lines[0].split() == ["MODEL", "ALIASES", "NEEDS", "ON", "DISK"]
    assert lines[1].split() == ["a", "first,", "one", "3.2", "GB", "(declared)", "yes"]
    assert lines[2].split() == ["b", "-", "-", "no"]
    assert lines[3].split() == ["c", "-", "-", "-"]
    assert lines[4:] == [r"  b: no\nsuch file", "3 models"]


def test_an_empty_catalogue_says_so(run: Run, service: Script) -> None:
    service.answer("ListModels", pb.ListModelsResponse())
    assert run("models").output == "0 models\n"


def test_models_json_is_an_object_a_line_with_the_names_of_the_wire(
    run: Run, service: Script
) -> None:
    service.answer("ListModels", pb.ListModelsResponse(models=[A, B]))
    a, b = map(json.loads, run("models", "--json").stdout.splitlines())
    assert set(a) == {field.name for field in pb.Model.DESCRIPTOR.fields}
    assert (a["aliases"], a["expected_by"]) == (["first", "one"], "DECLARED")
    assert (a["on_disk"], b["on_disk"]) == (True, False)


def test_pull_tells_each_tenth_in_a_line_and_at_last_that_all_is_there(
    run: Run, service: Script
) -> None:
    service.answer("List", pb.ListResponse())
    steps = [pulled(0, 0), *(pulled(done * 10**7, 10**9) for done in (1, 5, 10, 15, 57, 100))]
    service.answer("Pull", *steps)
    result = run("pull", "m", "--runtime-model", "r")
    assert result.stderr.splitlines() == [
        "0 B",
        "10 MB of 1.0 GB",
        "100 MB of 1.0 GB",
        "570 MB of 1.0 GB",
        "1.0 GB of 1.0 GB",
    ]
    assert result.stdout == "m: all its files are there (1.0 GB)\n"
    assert service.asked["Pull"] == [pb.PullRequest(model="m", runtime_model="r")]


def test_a_pull_that_is_refused_says_why(run: Run, service: Script) -> None:
    service.answer("List", pb.ListResponse())
    refused = Refusal(StatusCode.FAILED_PRECONDITION, "no such model", "MODEL_REJECTED")
    service.answer("Pull", refused)
    result = run("pull", "m")
    assert (result.exit_code, result.output) == (5, "pool-service: no such model\n")


def test_pull_on_a_terminal_is_a_bar_that_ctrl_c_gives_up(
    service: Script, terminal: Terminal
) -> None:
    service.answer("List", pb.ListResponse())
    service.answer("Pull", pulled(10**9, 4 * 10**9), Stay())
    with running(started(service, "pull", "m", stderr=terminal.writer)) as process:
        terminal.wait_for("1.0/4.0 GB")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert service.closed("Pull")
    assert "Traceback" not in terminal.seen


def test_reload_says_what_it_changed(run: Run, service: Script) -> None:
    changes = pb.ReloadResponse(
        replaced=["a"],
        updated=["b"],
        removed=["c"],
        restart_needed=["service.listen"],
        problems=["models.d.arguments: --x is no option"],
    )
    service.answer("Reload", changes)
    assert run("reload").stdout.splitlines() == [
        "a: restarts with its new settings when it is next unused",
        "b: keeps running, with new limits",
        "c: stops when it is next unused",
        "service.listen: applies when the service is restarted",
    ]
    assert json.loads(run("reload", "--json").stdout) == {
        "replaced": ["a"],
        "updated": ["b"],
        "removed": ["c"],
        "restart_needed": ["service.listen"],
        "problems": ["models.d.arguments: --x is no option"],
    }


def test_reload_warns_of_what_keeps_models_from_starting(run: Run, service: Script) -> None:
    service.answer("Reload", pb.ReloadResponse(problems=["models.d: wrong\x1b"]))
    result = run("reload")
    assert (result.exit_code, result.stdout) == (0, f"{NO_MODEL_CHANGED}\n")
    assert result.stderr == "warning: models.d: wrong\\x1b\n"


def test_reload_of_the_same_says_so(run: Run, service: Script) -> None:
    service.answer("Reload", pb.ReloadResponse())
    assert run("reload").output == f"{NO_MODEL_CHANGED}\n"
