"""Claims about what each check finds, right and wrong."""

import platform
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from grpc import StatusCode

from pool_service.adapters.sandbox.sandboxing import Sandboxing
from pool_service.config import Config, load
from pool_service.doctor import Finding, Verdict, access, installation, kernel, machine, sandbox
from pool_service.doctor.examination import examine, guarded
from tests.certificates import LOCAL, Authority
from tests.client.scripted import Refusal, running
from tests.second_address import NOWHERE, SECOND_LOOPBACK


def config_of(tmp_path: Path, text: str = "") -> Config:
    file = tmp_path / "pool.toml"
    file.write_text(text)
    return load(file, {"state_dir": tmp_path / "state"}, {})


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_children_of_this_process_are_seen_in_every_way_that_proofs_need() -> None:
    found = [*kernel.process_findings(), *kernel.socket_findings()]
    assert [finding.verdict for finding in found] == [Verdict.OK] * 6


@pytest.mark.parametrize(
    ("machine_name", "release", "verdict"),
    [
        ("arm64", "14.5", Verdict.OK),
        ("arm64", "26.0", Verdict.OK),
        ("arm64", "13.6", Verdict.BROKEN),
        ("x86_64", "15.1", Verdict.BROKEN),
    ],
)
def test_a_mac_must_be_one_that_mlx_runs_on(
    monkeypatch: pytest.MonkeyPatch, machine_name: str, release: str, verdict: Verdict
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: machine_name)
    monkeypatch.setattr(platform, "mac_ver", lambda: (release, ("", "", ""), machine_name))
    assert only(machine.platform_findings()).verdict is verdict


def test_it_is_told_whether_the_address_of_the_fleet_is_there(tmp_path: Path) -> None:
    member = "[fleet]\nname = 'one'\nadvertise = '{}'"
    assert list(installation.fleet_findings(config_of(tmp_path, ""))) == []
    there = only(installation.fleet_findings(config_of(tmp_path, member.format(SECOND_LOOPBACK))))
    assert (there.subject, there.verdict) == ("fleet", Verdict.OK)
    away = only(installation.fleet_findings(config_of(tmp_path, member.format(NOWHERE))))
    assert away.verdict is Verdict.BROKEN
    assert f"fleet.advertise is {NOWHERE}, which is no address of this machine" in away.found


def test_a_runtime_of_a_fleet_that_may_listen_elsewhere_is_told(tmp_path: Path) -> None:
    text = (
        f"[fleet]\nname = 'one'\nadvertise = '{SECOND_LOOPBACK}'\n"
        "[runtimes.ours]\ncommand = ['our-server', '{port}']"
    )
    _, doubt = installation.fleet_findings(config_of(tmp_path, text))
    assert doubt.verdict is Verdict.WARNING
    assert doubt.found.startswith("[runtimes.ours] command: it does not tell the program")


RUNTIME = """
[runtime]
command = ["{program}", "serve", "{{runtime_model}}", "--port", "{{port}}"]
sandbox = "{mode}"
"""


@pytest.mark.parametrize(
    ("mode", "obstacle", "verdict"),
    [
        ("auto", "", Verdict.OK),
        ("auto", "no Landlock", Verdict.WARNING),
        ("on", "no Landlock", Verdict.BROKEN),
        ("off", "sandbox is off", Verdict.INFO),
    ],
)
def test_it_is_told_whether_servers_are_confined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, obstacle: str, verdict: Verdict
) -> None:
    program = tmp_path / "vllm-mlx"
    program.write_text("#!/bin/sh\necho 0.6.0\n")
    program.chmod(0o755)

    async def found(*_: object) -> str:
        return obstacle

    monkeypatch.setattr(Sandboxing, "obstacle", found)
    monkeypatch.setattr(sys, "platform", "linux")
    config = config_of(tmp_path, RUNTIME.format(program=program, mode=mode))
    finding = only(sandbox.sandbox_findings(config))
    assert (finding.verdict, obstacle in finding.found) == (verdict, True)
    assert bool(finding.remedy) == (verdict in (Verdict.WARNING, Verdict.BROKEN))


def test_where_there_is_no_program_only_its_own_check_says_so(tmp_path: Path) -> None:
    config = config_of(tmp_path, RUNTIME.format(program=tmp_path / "none", mode="auto"))
    assert list(sandbox.sandbox_findings(config)) == []


def test_the_memory_of_the_machine_is_reported_and_what_of_it_servers_may_have(
    tmp_path: Path,
) -> None:
    assert next(machine.memory_findings()).verdict is Verdict.OK
    budget = only(machine.budget_findings(config_of(tmp_path, "memory.budget = '3 GB'")))
    assert budget.found == "3.0 GB, by memory.budget"
    unlimited = only(machine.budget_findings(config_of(tmp_path, "memory.budget = 'none'")))
    assert unlimited.found == "without a limit"


def test_a_state_directory_that_is_to_be_made_is_right_and_not_made(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert only(installation.state_findings(config)).verdict is Verdict.OK
    assert not config.service.state_dir.exists()


def test_a_state_directory_that_is_a_file_is_broken_with_a_remedy(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    config.service.state_dir.write_text("")
    finding = only(installation.state_findings(config))
    assert finding.verdict is Verdict.BROKEN
    assert "--state-dir" in finding.remedy


def test_the_directory_of_the_default_socket_must_be_the_users_alone(tmp_path: Path) -> None:
    def found() -> Finding:
        return only(access.socket_findings(load(None, {}, {}), {"XDG_RUNTIME_DIR": str(tmp_path)}))

    assert (found().verdict, found().found) == (Verdict.OK, f"{tmp_path}/pool-service/socket")
    (tmp_path / "pool-service").mkdir(mode=0o755)
    assert found().verdict is Verdict.WARNING
    assert found().remedy == f"chmod 700 {tmp_path}/pool-service"


def test_where_a_default_socket_has_no_place_the_doctor_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ("long" * 30)))
    finding = only(access.socket_findings(load(None, {}, {}), {}))
    assert finding.verdict is Verdict.WARNING
    assert "service.listen" in finding.found


def test_certificates_are_checked_and_their_end_is_told_of(tmp_path: Path) -> None:
    def found(text: str, now: float = 0.0) -> Finding:
        return only(access.certificate_findings(config_of(tmp_path, text), now))

    authority = Authority("authority")
    cert, key = authority.issue(*LOCAL).write(tmp_path, "service")
    text = f"[tls]\ncert = '{cert}'\nkey = '{key}'"
    now = time.time()
    assert found(text, now).verdict is Verdict.OK
    assert found(text, now).found.startswith("they are valid until 2")
    soon = found(text, now + 25 * 86400)
    assert (soon.verdict, soon.remedy) == (Verdict.WARNING, "replace it")
    key.chmod(0o644)
    assert found(text).verdict is Verdict.BROKEN
    assert "chmod 600" in found(text).found
    assert not [*access.certificate_findings(config_of(tmp_path, ""), now)]


def test_an_address_for_other_machines_is_not_asked(tmp_path: Path) -> None:
    tls = "cert = '/c'\nkey = '/k'"
    config = config_of(tmp_path, f"[service]\nlisten = ['192.0.2.1:50051']\n[tls]\n{tls}")
    assert only(installation.service_findings(config)).verdict is Verdict.INFO


def test_a_service_of_its_own_place_has_no_default_socket(tmp_path: Path) -> None:
    assert not [*access.socket_findings(config_of(tmp_path), {"XDG_RUNTIME_DIR": str(tmp_path)})]


def test_a_runtime_that_is_not_there_is_broken_but_a_named_one_only_warned_of(
    tmp_path: Path,
) -> None:
    nowhere = "command = ['/nowhere/server', '{runtime_model}', '--port', '{port}']"
    config = config_of(tmp_path, f"[runtime]\n{nowhere}\n[runtimes.other]\n{nowhere}\n")
    default, named = installation.runtime_findings(config)
    assert (default.verdict, named.verdict) == (Verdict.BROKEN, Verdict.WARNING)
    assert "/nowhere/server" in default.found


def test_flaws_of_a_runtime_and_lost_counts_of_requests_are_warned_of(tmp_path: Path) -> None:
    program = tmp_path / "vllm-mlx"
    program.write_text("#!/bin/sh\necho 0.5.0\n")
    program.chmod(0o755)
    option = '"--gpu-memory-utilization", "0.8"'
    command = f'"{program}", "serve", "{{runtime_model}}", "--port", "{{port}}", {option}'
    models = "[models.a]\ntrust_remote_code = true\n[models.b]"
    config = config_of(tmp_path, f"[runtime]\ncommand = [{command}]\n{models}")
    found, flaw = installation.runtime_findings(config)
    assert (found.verdict, flaw.verdict) == (Verdict.OK, Verdict.WARNING)
    assert flaw.found.startswith("beside --gpu-memory-utilization, vllm-mlx 0.5.0 does not count")
    trusted = only(installation.count_findings(config))
    assert (trusted.subject, trusted.verdict) == ("model a", Verdict.WARNING)
    assert trusted.found.startswith("trust_remote_code: beside --trust-remote-code")


def test_a_port_that_another_program_has_is_broken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        config = config_of(tmp_path, f"service.listen = ['{address}']")
        finding = only(installation.service_findings(config))
    assert finding.verdict is Verdict.BROKEN
    assert finding.found == f"another program listens on {address}"


def test_a_port_that_nobody_has_is_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
    config = config_of(tmp_path, f"service.listen = ['{address}']")
    assert only(installation.service_findings(config)).verdict is Verdict.INFO


def test_a_service_that_asks_for_a_token_runs(tmp_path: Path) -> None:
    with contextmanager(running)() as script:
        script.answer("List", Refusal(StatusCode.UNAUTHENTICATED, "who calls?", "TOKEN_MISSING"))
        config = config_of(tmp_path, f"service.listen = ['{script.address}']")
        finding = only(installation.service_findings(config))
    assert finding.verdict is Verdict.OK
    assert finding.found == f"it runs at {script.address}, and lets nobody in without a token"


def test_a_token_that_cannot_be_shown_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL_SERVICE_TOKEN_FILE", str(tmp_path / "none"))
    config = config_of(tmp_path, "service.listen = ['127.0.0.1:50051']")
    finding = only(installation.service_findings(config))
    assert finding.verdict is Verdict.WARNING
    assert f"the token file {tmp_path / 'none'} cannot be read" in finding.found


def test_models_are_judged_by_their_files_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "there" / name).write_text("{}")
    (tmp_path / "there/model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    config = config_of(
        tmp_path,
        f"[models.gone]\nruntime_model = '/nowhere/model'\n"
        f"[models.there]\nruntime_model = '{tmp_path}/there'\n",
    )
    gone, there = installation.model_findings(config, {})
    assert (gone.subject, gone.verdict) == ("model gone", Verdict.INFO)
    assert gone.remedy == "correct its runtime_model"
    assert (there.subject, there.verdict) == ("model there", Verdict.OK)


def test_a_hub_cache_is_counted(tmp_path: Path) -> None:
    environment = {"HF_HUB_CACHE": str(tmp_path / "hub")}
    assert only(installation.cache_findings(environment)).verdict is Verdict.INFO
    (tmp_path / "hub/models--org--name").mkdir(parents=True)
    found = only(installation.cache_findings(environment))
    assert found.found == f"models in {tmp_path / 'hub'}: 1"


def test_the_configuration_that_a_variable_names_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "pool.toml"
    file.write_text(f"[service]\nstate_dir = '{tmp_path / 'state'}'\n")
    found = (one for one in examine(None, {"POOL_SERVICE_CONFIG": str(file)}))
    configuration = next(one for one in found if one.subject == "configuration")
    assert (configuration.verdict, configuration.found) == (Verdict.OK, str(file))


def test_a_configuration_that_is_wrong_is_reported_and_ends_the_examination(tmp_path: Path) -> None:
    file = tmp_path / "pool.toml"
    file.write_text("service.listen = 5\nmemory.budget = 'much'\n")
    *_, last = examine(file, {})
    assert (last.subject, last.verdict) == ("configuration", Verdict.BROKEN)
    assert "service.listen" in last.found
    assert "memory.budget" in last.found


def test_a_check_that_fails_itself_is_a_finding() -> None:
    def check() -> Iterator[Finding]:
        raise OSError("no such system call")

    finding = only(guarded("sockets", check))
    assert finding.verdict is Verdict.BROKEN
    assert "no such system call" in finding.found


def test_no_word_of_metrics_if_there_are_to_be_none(tmp_path: Path) -> None:
    assert list(installation.http_findings(config_of(tmp_path))) == []


def test_metrics_that_are_not_served_are_no_fault(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = config_of(tmp_path, f"http.listen = '127.0.0.1:{port}'")
    found = only(installation.http_findings(config))
    assert (found.subject, found.verdict) == ("metrics", Verdict.INFO)
    assert found.found == f"it does not run; 127.0.0.1:{port} is free"


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nok\n", Verdict.OK),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", Verdict.OK),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", Verdict.BROKEN),
        (b"", Verdict.BROKEN),
    ],
)
def test_it_is_told_who_answers_at_the_address_of_the_metrics(
    tmp_path: Path, socket_dir: Path, answer: bytes, verdict: Verdict
) -> None:
    path = socket_dir / "http.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        serving = threading.Thread(target=_answer_once, args=(listener, answer))
        serving.start()
        config = config_of(tmp_path, f"http.listen = 'unix:{path}'")
        assert only(installation.http_findings(config)).verdict is verdict
        serving.join()


def _answer_once(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(answer)
