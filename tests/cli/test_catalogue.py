import json
import signal
from pathlib import Path

import pytest
from grpc import StatusCode

from pool_service.cli.client_commands import NO_MODEL_CHANGED
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.conftest import Run
from tests.cli.program import Terminal, running, started
from tests.client.scripted import Refusal, Script, Stay, retry_after

A = pb.Model(
    model="a",
    aliases=["first", "one"],
    runtime_model="org/a",
    expected_bytes=3_200_000_000,
    expected_by=pb.EXPECTATION_DECLARED,
    on_disk=True,
    disk_bytes=2_300_000_000,
    state=pb.SERVER_STATE_READY,
    listed=True,
)
B = pb.Model(model="b", on_disk=False, problem="no\nsuch file", listed=True)
FOUND = pb.Model(model="c", on_disk=False, disk_bytes=10**9, problem="no model for the runtime")


def pulled(done: int, total: int) -> pb.PullResponse:
    return pb.PullResponse(done_bytes=done, total_bytes=total)


def test_models_are_a_table_with_what_is_wrong_below(run: Run, service: Script) -> None:
    service.answer("ListModels", pb.ListModelsResponse(models=[A], next_page_token="t"))
    service.answer("ListModels", pb.ListModelsResponse(models=[B, FOUND]))
    lines = run("models").stdout.splitlines()
    assert lines[0].split() == ["MODEL", "STATE", "ON", "DISK", "NEEDS", "LISTED", "ALIASES"]
    assert lines[1].split("  ", 1)[1].split() == (
        ["READY", "2.3", "GB", "3.2", "GB", "(declared)", "yes", "first,", "one"]
    )
    assert lines[2].split() == ["b", "-", "no", "-", "yes", "-"]
    assert lines[3].split() == ["c", "-", "1.0", "GB", "(partial)", "-", "-", "-"]
    assert lines[4:] == [r"  b: no\nsuch file", "3 models"]
    assert service.asked["ListModels"][0] == pb.ListModelsRequest(found=True)


def test_without_a_service_the_callers_own_cache_is_shown(
    run: Run, socket_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    whole = tmp_path / "models--org--whole"
    snapshot = whole / "snapshots/1"
    snapshot.mkdir(parents=True)
    (whole / "refs").mkdir()
    (whole / "refs/main").write_text("1")
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (snapshot / name).write_bytes(b"x" * 3000)
    blobs = tmp_path / "models--org--part/blobs"
    blobs.mkdir(parents=True)
    (blobs / "1.incomplete").write_bytes(b"x" * 2000)
    (tmp_path / "datasets--org--other").mkdir()
    result = run("models", address=f"unix:{socket_dir}/none")
    assert result.exit_code == 3
    assert [line.split() for line in result.stdout.splitlines()[1:]] == [
        ["org/part", "-", "2", "kB", "(partial)", "-", "-", "-"],
        ["org/whole", "-", "3", "kB", "-", "-", "-"],
        ["2", "models"],
    ]
    assert result.stderr.endswith(". These are the models in your own Hugging Face cache.\n")


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


def test_pull_prints_a_line_for_each_tenth_and_at_last_that_all_is_there(
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
    assert result.stdout == "m: all files are on disk (1.0 GB)\n"
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


def test_forget_says_what_a_model_no_longer_means(run: Run, service: Script) -> None:
    service.answer("Forget", pb.ForgetResponse(runtime_model="/models/q"))
    service.answer("Forget", pb.ForgetResponse())
    assert run("forget", "q").output == "q: forgot the runtime model /models/q\n"
    assert run("forget", "q").output == "q: no runtime model was remembered\n"
    assert service.asked["Forget"][0] == pb.ForgetRequest(model="q")


@pytest.mark.parametrize(
    ("words", "asked", "answer", "printed"),
    [
        (("pin",), True, (True, True, False), "is now pinned; the configuration does not pin it"),
        (("pin",), True, (True, False, True), "was already pinned"),
        (("unpin",), False, (False, True, True), "is no longer pinned; the configuration pins it"),
        (("unpin",), False, (False, False, False), "was not pinned"),
        (("pin", "--as-configured"), None, (False, True, False), "is no longer pinned"),
        (("pin", "--as-configured"), None, (True, False, True), "was already pinned"),
    ],
)
def test_pin_and_unpin_say_what_the_model_is_now(
    run: Run,
    service: Script,
    words: tuple[str, ...],
    asked: bool | None,
    answer: tuple[bool, bool, bool],
    printed: str,
) -> None:
    pinned, changed, configured = answer
    response = pb.PinResponse(pinned=pinned, changed=changed, configured=configured)
    for _ in range(2):
        service.answer("Pin", response)
    assert run(*words, "q").output == f"q: {printed}\n"
    told = json.loads(run(*words, "q", "--json").output)
    assert told == {"model": "q", "pinned": pinned, "changed": changed, "configured": configured}
    assert service.asked["Pin"] == 2 * [pb.PinRequest(model="q", pinned=asked)]
    assert all(one.HasField("pinned") is (asked is not None) for one in service.asked["Pin"])


LOST = Refusal(StatusCode.UNAVAILABLE, "no network", "FETCH_FAILED", (retry_after(3600),))


def test_a_download_that_cannot_begin_is_reported_at_once(run: Run, service: Script) -> None:
    service.answer("List", pb.ListResponse())
    service.answer("Pull", pulled(0, 0), LOST)
    result = run("pull", "m")
    assert (result.exit_code, result.stderr) == (6, "0 B\npool-service: no network\n")
    assert len(service.asked["Pull"]) == 1


def test_a_download_that_had_begun_goes_on(run: Run, service: Script) -> None:
    service.answer("List", pb.ListResponse())
    service.answer("Pull", pulled(10**8, 10**9), LOST)
    service.answer("Pull", pulled(10**9, 10**9))
    result = run("pull", "m")
    assert (result.exit_code, result.stdout) == (0, "m: all files are on disk (1.0 GB)\n")
