import pwd
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_service.config import ConfigError, load
from pool_service_client import ADDRESS_VARIABLE, TOKEN_FILE_VARIABLE, TOKEN_VARIABLE
from tests.config.conftest import Read, Refusal

BUDGET = 'bytes (1 MiB or more), or text such as "24 GB", "80%" or "none"'
RESERVE = 'bytes, or text such as "2 GiB" or "5%" (under 100%)'
LENGTH = 'seconds, or text with units such as "90s", "5m" or "1h30m"'


def test_everything_that_is_wrong_is_reported_at_once(refusal: Refusal) -> None:
    told = refusal(
        """
        [service]
        listn = ["h:1"]
        max_starts = 0

        [models."x"]
        keep_alive = "soon"
        """,
        {"POOL_SERVICE_HISTORY": "many"},
        {"log_level": "loud"},
    )
    count = "a whole number from {} to 1000000"
    length = f'{LENGTH} (at most ten years), "forever" or less than 0'
    assert sorted(told.split("; ")) == [
        '--log-level: must be "debug", "info", "warning" or "error", not "loud"',
        f'POOL_SERVICE_HISTORY: must be {count.format(64)}, not "many"',
        f'models."x".keep_alive: must be {length}, not "soon"',
        "service.listn: there is no such key, did you mean service.listen?",
        f"service.max_starts: must be {count.format(1)}, not 0",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[servce]", "servce: there is no such key, did you mean service?"),
        ("listen = []", "listen: there is no such key, did you mean service.listen?"),
        (
            "[service]\nkeep_alive = 3",
            "service.keep_alive: there is no such key, did you mean defaults.keep_alive?",
        ),
        (
            "[models.x]\nruntime_mode = 'y'",
            'models."x".runtime_mode: there is no such key, did you mean models."x".runtime_model?',
        ),
        (
            "[defaults]\nmin_residency = 3",
            "defaults.min_residency: there is no such key, did you mean defaults.grace_period?",
        ),
        (
            '[models.x]\nmemory_ceiling = "9 GB"',
            'models."x".memory_ceiling: there is no such key, did you mean defaults.memory_limit?',
        ),
        ("[service]\nqqq = 1", "service.qqq: there is no such key"),
        ('[service]\n"a\\nb" = 1', 'service."a\\nb": there is no such key'),
        ("service = 3", "service: must be a table, [service]"),
        ("[[runtime]]", "runtime: must be a table, [runtime]"),
        ("[[models]]", 'models: must be a table, [models."NAME"]'),
        ("[[groups]]", "groups: must be a table, [groups.NAME]"),
        ("[runtimes]\nx = 3", "runtimes.x: must be a table, [runtimes.x]"),
        (
            "[groups.large]\nlimits = 3",
            "groups.large.limits: there is no such key, did you mean groups.large.limit?",
        ),
        ("[groups.large]\nmost = 2", "groups.large.most: there is no such key; there is: limit"),
        (
            "[service]\nmemory_budget = 1",
            "service.memory_budget: there is no such key, did you mean memory.budget?",
        ),
        (
            "[runtimes.x]\nhealthpath = '/'",
            "runtimes.x.healthpath: there is no such key, did you mean runtimes.x.health_path?",
        ),
        (
            "[defaults]\npreload = true",
            'defaults.preload: there is no such key, did you mean models."NAME".preload?',
        ),
        (
            "[runtimes.llama.cpp]\nkind = 'plain'",
            (
                "runtimes.llama.cpp: there is no such key; a name with dots is written in "
                'quotes, [runtimes."llama.cpp"]'
            ),
        ),
        (
            "[runtimes.default]",
            "runtimes.default: is the name of [runtime] itself; set that, or choose another name",
        ),
        (
            '[groups."a b"]',
            ('groups."a b": the name may have only ASCII letters, digits and . _ -, at most 64'),
        ),
        ("[models]\nx = 3", 'models."x": must be a table, [models."x"]'),
        (
            "[models.Qwen3.5]\nkeep_alive = 3",
            (
                'models."Qwen3"."5": there is no such key; a name with dots is written in quotes, '
                '[models."Qwen3.5"]'
            ),
        ),
        (
            "[models.Qwen3.5-0.8B]\nkeep_alive = 3",
            (
                'models."Qwen3"."5-0": there is no such key; a name with dots is written in '
                'quotes, [models."Qwen3.5-0.8B"]'
            ),
        ),
    ],
)
def test_a_key_that_is_none_is_named_with_what_was_meant(
    refusal: Refusal, text: str, told: str
) -> None:
    assert refusal(text) == told


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("service.history", "1", "must be a whole number from 64 to 1000000, not 1"),
        ("service.max_starts", '"8"', 'must be a whole number from 1 to 1000000, not "8"'),
        ("service.max_starts", "true", "must be a whole number from 1 to 1000000, not true"),
        ("service.max_starts", "2.0", "must be a whole number from 1 to 1000000, not 2.0"),
        ("service.failure_ttl", "-1", f"must be {LENGTH} (0 or more, at most ten years), not -1"),
        ("service.failure_ttl", "nan", f"must be {LENGTH} (0 or more, at most ten years), not NaN"),
        (
            "service.failure_ttl",
            "true",
            f"must be {LENGTH} (0 or more, at most ten years), not true",
        ),
        ("runtime.drains", '"yes"', 'must be true or false, not "yes"'),
        (
            "runtime.busy_path",
            '"metrics"',
            'must be a path of a URL, such as "/health", not "metrics"',
        ),
        (
            "runtime.busy_values",
            '["a b"]',
            (
                "'a b' is neither the name of a metric, such as requests_running or "
                'requests_running{kind="chat"}, nor a JSON pointer, such as /summary/in_flight'
            ),
        ),
        (
            "runtime.ready_body",
            '"{"',
            (
                "is no JSON: Expecting property name enclosed in double quotes: "
                "line 1 column 2 (char 1)"
            ),
        ),
        (
            "runtime.ready_body",
            '"3"',
            'must be a JSON object as text, such as \'{"model": "{runtime_model}"}\', not "3"',
        ),
        ("service.log_format", '"xml"', 'must be "text" or "json", not "xml"'),
        ("service.state_dir", "3", "must be a path in quotes, not 3"),
        ("service.state_dir", '""', 'must be a path in quotes, not ""'),
        (
            "service.listen",
            '"h:1"',
            'must be a list of addresses, such as ["127.0.0.1:50051"], not "h:1"',
        ),
        (
            "service.listen",
            "[]",
            'must be a list of addresses, such as ["127.0.0.1:50051"], not []',
        ),
        ("service.listen", '["h"]', "'h' is not an address; write host:port or unix:PATH"),
        ("service.listen", '["h:1", "h:1"]', "h:1 is listed more than once"),
        (
            "runtime.command",
            '["serve", "{modle}"]',
            (
                "has the unknown placeholder {modle}, known are {runtime_model}, {port}, {host}, "
                "{model} and {api_key_file}"
            ),
        ),
        (
            "runtime.command",
            '["serve", "--port", "{PORT}"]',
            (
                "has the unknown placeholder {PORT} (did you mean {port}?), known are "
                "{runtime_model}, {port}, {host}, {model} and {api_key_file}"
            ),
        ),
        (
            "runtime.command",
            '["serve", "{ runtime-model }"]',
            (
                "has the unknown placeholder { runtime-model } (did you mean {runtime_model}?), "
                "known are {runtime_model}, {port}, {host}, {model} and {api_key_file}"
            ),
        ),
        (
            "runtime.command",
            '["vllm-mlx", "serve", "org/m", "--port", "{port}"]',
            'must tell vllm-mlx what to load: add "{runtime_model}" behind "serve"',
        ),
        (
            "runtime.command",
            '["/bin/vllm-mlx", "serve", "{runtime_model}"]',
            'must tell vllm-mlx its port: add "--port", "{port}"',
        ),
        (
            "runtime.command",
            '["vllm-mlx", "serve", "{runtime_model}", "--port", "8000"]',
            'must tell vllm-mlx its port: add "--port", "{port}"',
        ),
        (
            "runtime.command",
            '"serve"',
            'must be a list of arguments, such as ["program", "{port}"], not "serve"',
        ),
        ("runtime.kind", '"tgi"', 'must be "vllm-mlx" or "plain", not "tgi"'),
        (
            "runtime.health_path",
            '"health"',
            'must be a path of a URL, such as "/health", not "health"',
        ),
        ("runtime.provision", '"yes"', 'must be true or false, not "yes"'),
        ("runtime.environment", "{ TOKEN = 12345 }", "TOKEN must be text in quotes"),
        (
            "logs.max_bytes",
            '"lots"',
            'must be bytes, or text with a unit such as "16MiB" (65536 or more), not "lots"',
        ),
        (
            "logs.max_bytes",
            "5",
            'must be bytes, or text with a unit such as "16MiB" (65536 or more), not 5',
        ),
        (
            "defaults.stall_timeout",
            "0",
            f'must be {LENGTH} (more than 0, at most ten years) or "forever", not 0',
        ),
        (
            "defaults.stall_timeout",
            '"90"',
            f'must be {LENGTH} (more than 0, at most ten years) or "forever", not "90"',
        ),
        (
            "defaults.stall_timeout",
            '"1m1h"',
            f'must be {LENGTH} (more than 0, at most ten years) or "forever", not "1m1h"',
        ),
        (
            "defaults.start_timeout",
            "-1",
            f'must be {LENGTH} (more than 0, at most ten years) or "forever", not -1',
        ),
        ("service.only_listed", "1", "must be true or false, not 1"),
        *(
            ("memory.budget", said, f"must be {BUDGET}, not {said}")
            for said in ('"lots"', "24", "0.8", "-1", "true", '"101%"', '"0%"', '"24 GB or so"')
        ),
        ("memory.budget", '"2 EiB"', f'must be {BUDGET}, not "2 EiB"'),
        *(
            ("memory.reserve", said, f"must be {RESERVE}, not {said}")
            for said in ('"none"', '"100%"', "-1", "1.5")
        ),
        ("memory.queue_limit", "0", "must be a whole number from 1 to 1000000, not 0"),
        (
            "memory.queue_timeout",
            "0",
            f"must be {LENGTH} (more than 0, at most ten years), not 0",
        ),
        ("groups.x.limit", "0", "must be a whole number from 1 to 1000000, not 0"),
        (
            'models."x".expected_memory',
            "24",
            'must be bytes, or text with a unit such as "24 GB" (1 MiB or more), not 24',
        ),
        (
            'models."x".memory_limit',
            '"80%"',
            'must be bytes, or text with a unit such as "24 GB" (1 MiB or more), not "80%"',
        ),
        (
            'models."x".aliases',
            '"chat"',
            'must be a list of names, such as ["chat", "gpt-4"], not "chat"',
        ),
        ('models."x".aliases', '["-a"]', "'-a' begins with '-' and so looks like an option"),
        ('models."x".aliases', '["a", "a"]', "a is listed more than once"),
        (
            'models."x".groups',
            "[1]",
            'must be a list of names of groups, such as ["large"], not 1',
        ),
        (
            "defaults.arguments",
            '"--max-tokens 4096"',
            (
                'must be a list of arguments, such as ["--max-tokens", "4096"], '
                'not "--max-tokens 4096"'
            ),
        ),
        ("defaults.environment", "{ A = 1 }", "A must be text in quotes"),
        (
            "defaults.runtime",
            "1",
            'must be the name of a [runtimes.NAME] section or "default", in quotes, not 1',
        ),
        (
            'models."x".runtime_model',
            '"-x"',
            "begins with '-' and so looks like an option",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(
    refusal: Refusal, key: str, value: str, told: str
) -> None:
    assert refusal(f"{key} = {value}") == f"{key}: {told}"


@pytest.mark.parametrize("length", ["inf", "1e300", "315360001", '"3651d"', "1" + "0" * 400])
def test_no_length_is_over_ten_years(refusal: Refusal, length: str) -> None:
    assert "at most ten years" in refusal(f"[defaults]\nkeep_alive = {length}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("runtime.command", '["serve", "{port}", "--api-key={api_key}"]'),
        ("runtimes.llama.command", '["serve", "{port}", "{api_key}"]'),
        ("defaults.arguments", '["--api-key", "{api_key}"]'),
        ('models."x".arguments', '["--api-key", "{api_key}"]'),
    ],
)
def test_a_key_is_in_no_arguments_as_all_users_can_read_those(
    refusal: Refusal, key: str, value: str
) -> None:
    assert refusal(f"{key} = {value}") == (
        f"{key}: must not have {{api_key}}, since every user of this machine can read the "
        "arguments of a process (ps). Give the key in a variable, environment = "
        '{ API_KEY = "{api_key}" }, or as a file, {api_key_file}'
    )


@pytest.mark.parametrize("name", ["", "-x", "a\\nb", "../x", "$(id)"])
def test_names_of_models_are_those_of_the_wire(refusal: Refusal, name: str) -> None:
    assert refusal(f'[models."{name}"]').startswith(f'models."{name}": the name ')


def test_a_value_is_reported_on_one_line_and_not_at_length(refusal: Refusal) -> None:
    told = refusal(f'[service]\nlog_format = "\\u202e\\n{"x" * 10_000}"')
    assert told.startswith('service.log_format: must be "text" or "json", not "\\u202e\\nxxx')
    assert len(told) < 150


@pytest.mark.parametrize("section", ["RUNTIME", "DEFAULTS"])
def test_variables_of_servers_are_never_reported(refusal: Refusal, section: str) -> None:
    variable = f"POOL_SERVICE_{section}_ENVIRONMENT"
    for value in ("TOKEN=secret 'x", "secret"):
        told = refusal("", {variable: value})
        assert told.startswith(f"{variable}: must be a table of variables")
        assert "secret" not in told


# --- variables and flags ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("POOL_SERVICE_LISTN", "POOL_SERVICE_LISTEN"),
        ("POOL_SERVICE_STATEDIR", "POOL_SERVICE_STATE_DIR"),
        ("POOL_SERVICE_DEFAULT_KEEP_ALIVE", "POOL_SERVICE_DEFAULTS_KEEP_ALIVE"),
        ("POOL_SERVICE_DEFAULTS_MIN_RESIDENCY", "POOL_SERVICE_DEFAULTS_GRACE_PERIOD"),
        ("POOL_SERVICE_PULSE_LIMIT", "POOL_SERVICE_PROBE_LIMIT"),
    ],
)
def test_a_misspelt_variable_is_reported(refusal: Refusal, slip: str, meant: str) -> None:
    told = refusal("", {slip: "x"})
    assert told == f"{slip}: there is no such variable, did you mean {meant}?"


@pytest.mark.parametrize("name", [ADDRESS_VARIABLE, TOKEN_VARIABLE, TOKEN_FILE_VARIABLE])
def test_a_variable_of_the_clients_is_not_misspelt(read: Read, name: str) -> None:
    assert read("", {name: "x"}) == read("")


def test_an_unknown_flag_is_reported(refusal: Refusal) -> None:
    told = refusal("", {}, {"state_dri": "/x"})
    assert told == "--state-dri: there is no such key, did you mean service.state_dir?"


def test_a_right_flag_hides_a_wrong_value_below_it(tmp_path: Path) -> None:
    file = tmp_path / "pool.toml"
    file.write_text("[service]\nhistory = 'many'")
    assert load(file, {"history": 77}, {}).service.history == 77


def test_without_a_home_the_directories_must_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    without_a_home(monkeypatch)
    with pytest.raises(ConfigError, match=r"service\.state_dir: has no home directory .*path"):
        load(None, {}, {})


def test_without_a_home_a_state_directory_is_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_a_home(monkeypatch)
    assert load(None, {"state_dir": tmp_path}, {}).service.state_dir == tmp_path


def without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user who is in no user database, such as a container's bare number."""

    def unknown(_: object) -> None:
        raise KeyError

    for name in ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


# --- files that are none ------------------------------------------------------------------


def test_a_file_that_is_no_toml_is_reported_with_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "pool.toml"
    file.write_text("[service]\nlisten = [\n  oops\n]")
    with pytest.raises(ConfigError, match=r"pool\.toml is not valid TOML: .*line 3, column 3"):
        load(file, {}, {})


def test_a_file_that_is_no_text_is_reported_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "pool.toml"
    file.write_bytes(b"[service]\n\xff")
    with pytest.raises(ConfigError, match=r"pool\.toml is not valid TOML: line 2 is not UTF-8"):
        load(file, {}, {})


def test_a_file_that_cannot_be_read_is_reported_with_who_named_it(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError, match=r"missing\.toml: No such file.*; correct the path"):
        load(missing, {}, {})
    with pytest.raises(ConfigError, match=r"missing\.toml: No such.*; correct POOL_SERVICE_CONFIG"):
        load(None, {}, {"POOL_SERVICE_CONFIG": str(missing)})
    with pytest.raises(ConfigError, match=r"Is a directory"):
        load(tmp_path, {}, {})


# --- whatever it is -----------------------------------------------------------------------

KEYS = st.sampled_from(
    [
        *("service.listen", "service.state_dir", "service.failure_ttl", "service.log_level"),
        *("runtime.command", "runtime.environment", "runtime.kind", "runtime.served_model_name"),
        *("logs.max_bytes", "defaults.keep_alive", "models", "models.x", "models.x.runtime_model"),
        *("memory.budget", "memory.reserve", "runtimes", "runtimes.x.command", "groups.g.limit"),
        *("models.x.aliases", "models.x.groups", "models.x.environment", "models.x.runtime"),
        *("models.x.expected_memory", "defaults.arguments", "service", "other"),
    ]
)
VALUES = st.sampled_from(
    [
        *(
            "1",
            "-1",
            "1.5",
            "inf",
            "nan",
            "true",
            '""',
            '"x"',
            '"\\u0000"',
            "1979-05-27",
            "07:32:00",
        ),
        *("[]", "[1]", '["x"]', "[[]]", "[{x = 1}]", "{}", "{x = 1}", '{x = "y"}', "9" * 5000),
    ]
)


@given(st.dictionaries(KEYS, VALUES, max_size=3))
def test_any_values_are_a_configuration_or_an_error_in_words(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text("\n".join(f"{key} = {value}" for key, value in values.items()))
    told = str(file)
    try:
        load(file, {}, {})
    except ConfigError as error:
        told = str(error)
    assert str(file) in told
    assert told.isprintable()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            'busy_path = "/metrics"',
            "busy_path: has no effect without busy_values; set both or neither",
        ),
        (
            'busy_values = ["/n"]',
            "busy_values: has no effect without busy_path; set both or neither",
        ),
        ('ready_path = "/r"', "ready_path: has no effect without ready_body; set both or neither"),
        ('ready_body = "{}"', "ready_body: has no effect without ready_path; set both or neither"),
        (
            'busy_path = "/m"\nbusy_values = ["/n", "m"]',
            "busy_values: must name either metrics or JSON pointers, since one answer is read",
        ),
        (
            'use_values = ["/n"]',
            "use_values: has no effect without busy_path, whose answer has them; set both",
        ),
        (
            'busy_path = "/m"\nbusy_values = ["/n"]\nuse_values = ["m"]',
            "use_values: must name either metrics or JSON pointers, since one answer is read",
        ),
    ],
)
def test_keys_that_mean_nothing_alone_are_refused(refusal: Refusal, said: str, told: str) -> None:
    section = '[runtimes.x]\ncommand = ["x", "{port}"]\n'
    assert refusal(section + said) == f"runtimes.x.{told}"


def test_the_busy_path_of_vllm_mlx_cannot_be_set(refusal: Refusal) -> None:
    told = "is for other runtimes; the pool knows where to ask vllm-mlx, so remove it"
    assert (
        refusal('[runtime]\nbusy_path = "/m"\nbusy_values = ["m"]') == f"runtime.busy_path: {told}"
    )
