import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.change_history import History
from pool_service.config import load
from pool_service.core.limits import Limits
from pool_service.core.types import FOREVER, Settings
from tests.config.conftest import GIB, Read


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/somebody")
    return Path("/somebody")


# --- what holds without a word ------------------------------------------------------------


def test_without_a_file_the_defaults_are_those_of_the_parts(home: Path) -> None:
    config = load(None, {}, {})
    assert config.service.listen == ("127.0.0.1:50051",)
    limits = config.limits(total=0, default_budget=GIB)
    assert limits == Limits(memory_budget=GIB, standby=1)
    assert replace(config.catalogue.defaults, config_hash="") == Settings(runtime_model="")
    assert config.catalogue.models == {}
    assert config.catalogue.aliases == {}
    assert config.catalogue.only_listed is False
    assert config.runtime_options == RuntimeOptions(data_dir=config.service.data_dir)
    kept = inspect.signature(LogStore).parameters
    assert config.logs.keep == kept["keep"].default
    assert config.logs.max_bytes == kept["max_bytes"].default
    assert config.service.history == inspect.signature(History).parameters["capacity"].default


def test_the_default_directories_are_under_the_home(home: Path) -> None:
    service = load(None, {}, {}).service
    for directory in (service.state_dir, service.data_dir):
        assert directory.is_relative_to(home)
        assert directory.name == "pool-service"


def test_an_empty_file_is_as_good_as_none(home: Path, read: Read) -> None:
    assert read("") == load(None, {}, {})


# --- what the file says -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        *(("90", 90.0), ("0.5", 0.5), ("0", 0.0), ('"90s"', 90.0), ('"5m"', 300.0)),
        *(('"1h30m"', 5400.0), ('"1d"', 86400.0), ('"1h 30m 1.5s"', 5401.5), ('"250ms"', 0.25)),
        *(('"forever"', FOREVER), ("-1", FOREVER), ("-0.5", FOREVER)),
    ],
)
def test_a_keep_alive_is_seconds_or_text_with_units_or_for_ever(
    read: Read, said: str, meant: float
) -> None:
    assert read(f"[defaults]\nkeep_alive = {said}").catalogue.defaults.keep_alive == meant


@pytest.mark.parametrize("key", ["start_timeout", "stall_timeout"])
def test_a_start_may_have_no_limit(read: Read, key: str) -> None:
    for said, meant in (('"forever"', FOREVER), ("90", 90.0)):
        defaults = read(f"[defaults]\n{key} = {said}").catalogue.defaults
        assert getattr(defaults, key) == meant


def test_the_runtime_is_what_the_file_says(read: Read) -> None:
    config = read("""
        [service]
        data_dir = "/data"
        [runtime]
        command = ["./serve.sh", "{runtime_model}", "--port={port}", '--x={"a": 1}']
        kind = "plain"
        health_path = "/v1/health?full=1"
        served_model_name = "{model}"
        provision = true
        environment = { HF_HOME = "/models", EMPTY = "" }
    """)
    assert config.runtime_options == RuntimeOptions(
        data_dir=Path("/data"),
        command=("./serve.sh", "{runtime_model}", "--port={port}", '--x={"a": 1}'),
        kind="plain",
        health_path="/v1/health?full=1",
        served_model_name="{model}",
        provision=True,
        environment=(("HF_HOME", "/models"), ("EMPTY", "")),
    )


@pytest.mark.parametrize(
    ("said", "meant"), [("65536", 65536), ('"64KiB"', 65536), ('"1.5 MB"', 1_500_000)]
)
def test_the_size_of_logs_is_bytes_or_text_with_a_unit(read: Read, said: str, meant: int) -> None:
    assert read(f"[logs]\nmax_bytes = {said}\nkeep = 2").logs.model_dump() == {
        "max_bytes": meant,
        "keep": 2,
    }


def test_paths_become_absolute(
    home: Path, read: Read, socket_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(socket_dir)
    config = read("""
        [service]
        state_dir = "~/state"
        data_dir = "data"
        listen = ["unix:~/pool.sock", "unix:x.sock", "[::1]:0"]
        [models]
        a.runtime_model = "~/models/a"
        b.runtime_model = "./b"
        c.runtime_model = "org/c"
    """)
    assert config.service.state_dir == home / "state"
    assert config.service.data_dir == socket_dir / "data"
    assert config.service.listen == (
        f"unix:{home}/pool.sock",
        f"unix:{socket_dir}/x.sock",
        "[::1]:0",
    )
    models = config.catalogue.models
    assert [models[name].runtime_model for name in "abc"] == [
        f"{home}/models/a",
        f"{socket_dir}/b",
        "org/c",
    ]


# --- what goes above the file -------------------------------------------------------------


def test_flags_go_above_the_environment_and_that_above_the_file(read: Read) -> None:
    file = """
        [service]
        listen = ["127.0.0.15:1"]
        max_starts = 1
        history = 101
    """
    environ = {"POOL_SERVICE_LISTEN": "127.0.0.14:1, 127.0.0.14:2", "POOL_SERVICE_MAX_STARTS": "2"}
    service = read(file, environ, {"listen": ("127.0.0.16:1", "127.0.0.16:2")}).service
    assert (service.listen, service.max_starts, service.history) == (
        ("127.0.0.16:1", "127.0.0.16:2"),
        2,
        101,
    )
    service = read(file, environ).service
    assert (service.listen, service.max_starts, service.history) == (
        ("127.0.0.14:1", "127.0.0.14:2"),
        2,
        101,
    )


def test_flags_may_be_values_or_text() -> None:
    flags = {
        "listen": "127.0.0.10:1,127.0.0.11:2",
        "state_dir": Path("/s"),
        "history": 77,
        "log_format": "json",
    }
    service = load(None, flags, {}).service
    assert service.listen == ("127.0.0.10:1", "127.0.0.11:2")
    assert (service.state_dir, service.history, service.log_format) == (Path("/s"), 77, "json")


def test_each_section_has_its_variables() -> None:
    config = load(
        None,
        {},
        {
            "POOL_SERVICE_STATE_DIR": "/s",
            "POOL_SERVICE_LOG_LEVEL": "DEBUG",
            "POOL_SERVICE_FAILURE_TTL": "1h",
            "POOL_SERVICE_RUNTIME_COMMAND": "serve '{runtime_model}' --name 'a b'",
            "POOL_SERVICE_RUNTIME_PROVISION": "True",
            "POOL_SERVICE_RUNTIME_ENVIRONMENT": "A=1 B='x y=z'",
            "POOL_SERVICE_LOGS_MAX_BYTES": "1MiB",
            "POOL_SERVICE_DEFAULTS_KEEP_ALIVE": "-1",
            "POOL_SERVICE_DEFAULTS_PROBE_TIMEOUT": "1.5",
        },
    )
    assert config.service.state_dir == Path("/s")
    assert config.service.log_level == "debug"
    assert config.limits(GIB, GIB).failure_ttl == 3600.0
    assert config.runtime.command == ("serve", "{runtime_model}", "--name", "a b")
    assert config.runtime.provision is True
    assert config.runtime.environment == (("A", "1"), ("B", "x y=z"))
    assert config.logs.max_bytes == 1024 * 1024
    assert config.catalogue.defaults.keep_alive == FOREVER
    assert config.catalogue.defaults.probe_timeout == 1.5


def test_an_empty_variable_counts_as_none(read: Read) -> None:
    assert read("[service]\nhistory = 77", {"POOL_SERVICE_HISTORY": ""}).service.history == 77


def test_variables_of_others_are_left_alone() -> None:
    others = {
        "POOL_SERVICE_ADDRESS": "127.0.0.17:1",
        "POOL_SERVICE_NONCE": "x",
        # What Kubernetes sets in each container beside a service named pool-service.
        "POOL_SERVICE_SERVICE_HOST": "10.0.0.1",
        "POOL_SERVICE_SERVICE_PORT": "50051",
        "POOL_SERVICE_PORT": "tcp://10.0.0.1:50051",
        "POOL_SERVICE_PORT_50051_TCP_ADDR": "10.0.0.1",
    }
    assert load(None, {}, others) == load(None, {}, {})


def test_the_file_can_be_named_by_a_variable(tmp_path: Path) -> None:
    named, given = tmp_path / "named.toml", tmp_path / "given.toml"
    named.write_text("[service]\nhistory = 77")
    given.write_text("[service]\nhistory = 88")
    environ = {"POOL_SERVICE_CONFIG": str(named)}
    assert load(None, {}, environ).service.history == 77
    assert load(given, {}, environ).service.history == 88


@pytest.mark.parametrize(
    "command",
    [
        ["vllm-mlx", "serve", "{runtime_model}", "--port={port}"],
        ["vllm-mlx", "serve", "{runtime_model}", "--port", "0"],
        ["sh", "-c", "exec serve ${PORT} {port}"],
        ["serve"],
    ],
)
def test_commands_that_can_work(read: Read, command: list[str]) -> None:
    assert read(f"[runtime]\ncommand = {command}").runtime.command == tuple(command)


def test_only_a_variable_is_split_at_commas(read: Read) -> None:
    flag = read("", flags={"listen": ("unix:/a/x,y.sock", "127.0.0.17:1")})
    assert flag.service.listen == ("unix:/a/x,y.sock", "127.0.0.17:1")
    assert read("", {"POOL_SERVICE_LISTEN": "127.0.0.17:1, 127.0.0.17:2"}).service.listen == (
        "127.0.0.17:1",
        "127.0.0.17:2",
    )


def test_any_free_port_can_be_had_twice(read: Read) -> None:
    anywhere = ("127.0.0.1:0", "127.0.0.1:0")
    assert read("", flags={"listen": anywhere}).service.listen == anywhere


def test_what_a_program_reports_of_itself_is_in_its_runtime(read: Read) -> None:
    config = read(
        """
        [runtimes.llama]
        command = ["llama-server", "-m", "{runtime_model}", "--port", "{port}"]
        busy_path = "/metrics"
        busy_values = ["llamacpp:requests_processing", 'busy{kind="chat"}']
        use_values = ["llamacpp:prompt_tokens_total"]
        drains = true
        [runtimes.lazy]
        command = ["lazy", "{port}"]
        ready_path = "/v1/completions"
        ready_body = '{"model": "{runtime_model}", "prompt": "a"}'
        """
    )
    llama, lazy = config.all_runtime_options["llama"], config.all_runtime_options["lazy"]
    assert llama.busy_path == "/metrics"
    assert llama.busy_values == ("llamacpp:requests_processing", 'busy{kind="chat"}')
    assert llama.use_values == ("llamacpp:prompt_tokens_total",)
    assert llama.effective_drains
    assert (lazy.ready_path, lazy.effective_drains) == ("/v1/completions", False)
    assert config.runtime_options.effective_drains


def test_such_keys_are_part_of_a_config_hash_if_they_are_set(read: Read) -> None:
    command = '[runtime]\ncommand = ["x", "{port}"]\n'
    hashes = {read(command).catalogue.defaults.config_hash}
    more = (
        'busy_path = "/b"\nbusy_values = ["/n"]',
        'busy_path = "/b"\nbusy_values = ["/n"]\nuse_values = ["/u"]',
        'health_path = "/h"',
        'ready_path = "/r"\nready_body = "{}"',
        "drains = true",
        "drains = false",
    )
    hashes |= {read(command + one).catalogue.defaults.config_hash for one in more}
    assert len(hashes) == 1 + len(more)


@pytest.mark.parametrize("program", ["vllm-mlx", "/opt/bin/vllm-mlx"])
def test_of_vllm_mlx_the_name_alone_is_enough(read: Read, program: str) -> None:
    whole = f'["{program}", "serve", "{{runtime_model}}", "--port", "{{port}}"]'
    by_name, written = (
        read(f"[runtime]\ncommand = {command}") for command in (f'["{program}"]', whole)
    )
    assert by_name.runtime_options == written.runtime_options


def test_a_key_that_says_what_is_known_anyway_changes_no_config_hash(read: Read) -> None:
    """Servers that run keep their hashes when a later version knows their program."""
    command = '[runtime]\ncommand = ["llama-server"]\n'
    hashes = {
        read(command + more).catalogue.defaults.config_hash
        for more in ("", 'health_path = "/health"', 'kind = "plain"')
    }
    assert len(hashes) == 1
