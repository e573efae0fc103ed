"""Values that are each valid, but not together."""

import pytest

from tests.config.conftest import Read, Refusal


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[defaults]\nstart_timeout = 2", "defaults.start_timeout"),
        ("[defaults]\nprobe_timeout = '2m'\nstart_timeout = '2m'", "defaults.probe_timeout"),
        ("[models.x]\nstart_timeout = 3", 'models."x".start_timeout'),
        ("[defaults]\nstart_timeout = 2\n[models.x]\nkeep_alive = 1", "defaults.start_timeout"),
    ],
)
def test_a_probe_must_end_before_the_start_does(refusal: Refusal, text: str, place: str) -> None:
    told = refusal(text)
    assert told.startswith(f"{place}: probe_timeout (")
    assert told.count("must be less than start_timeout") == 1


def test_a_contradiction_names_the_variable_that_made_it(refusal: Refusal) -> None:
    variable = {"POOL_SERVICE_DEFAULTS_PROBE_TIMEOUT": "1h"}
    told = refusal("[defaults]\nstart_timeout = 120", variable)
    assert told == (
        "POOL_SERVICE_DEFAULTS_PROBE_TIMEOUT: probe_timeout (3600 s) must be less than "
        "start_timeout (120 s)"
    )


def test_a_wrapper_that_is_a_vllm_mlx_must_get_its_port_too(refusal: Refusal) -> None:
    for table in ("runtime", "runtimes.wrapped"):
        told = refusal(f'[{table}]\nkind = "vllm-mlx"\ncommand = ["./wrap", "{{runtime_model}}"]')
        assert told == f'{table}.command: must tell vllm-mlx its port: add "--port", "{{port}}"'


LLAMA = """
[runtimes.llama]
command = ["llama-server", "--port", "{port}"]
"""
VARIABLE = 'environment = { K = "{api_key}" }\n'
WRAPPER = """
kind = "vllm-mlx"
command = ["wrapper", "{runtime_model}", "--port", "{port}"]
"""
BY_ITSELF = "is for other programs: vllm-mlx gets its key by itself, so remove it"
OFF = "stands for nothing while server_keys is false; remove it, or set that to true"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[runtime]\nenvironment = { K = "x{api_key}" }',
            f"runtime.environment: {{api_key}} {BY_ITSELF}",
        ),
        (
            '[defaults]\nenvironment = { K = "{api_key}" }',
            f"defaults.environment: {{api_key}} {BY_ITSELF}",
        ),
        (
            '[models.x]\narguments = ["{api_key_file}"]',
            f'models."x".arguments: {{api_key_file}} {BY_ITSELF}',
        ),
        (
            f'{LLAMA}[defaults]\nruntime = "llama"\n{VARIABLE}[models.x]\nruntime = "default"',
            f'models."x".environment: {{api_key}} {BY_ITSELF}',
        ),
        (
            f"{LLAMA}server_keys = false\n{VARIABLE}",
            f"runtimes.llama.environment: {{api_key}} {OFF}",
        ),
        (
            f"{LLAMA.replace('{port}', '{api_key_file}')}server_keys = false",
            f"runtimes.llama.command: {{api_key_file}} {OFF}",
        ),
        (
            f'{LLAMA}server_keys = false\n[models.x]\nruntime = "llama"\n{VARIABLE}',
            f'models."x".environment: {{api_key}} {OFF}',
        ),
    ],
    ids=[
        *("runtime", "defaults", "model", "another runtime's"),
        *("off by variable", "off by file", "off for a model"),
    ],
)
def test_a_placeholder_for_a_key_that_no_server_gets_is_refused(
    refusal: Refusal, text: str, told: str
) -> None:
    assert refusal(text) == told


@pytest.mark.parametrize(
    "text",
    [
        f"{LLAMA}{VARIABLE}",
        LLAMA.replace("{port}", "{api_key_file}"),
        f'{LLAMA}[models.x]\nruntime = "llama"\n{VARIABLE}',
        f"[runtime]\n{VARIABLE}{WRAPPER}",
    ],
    ids=["variable", "file", "model", "wrapper"],
)
def test_a_placeholder_for_the_key_of_another_program_is_valid(read: Read, text: str) -> None:
    read(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[models.x]\nruntime = "vllm"',
            'models."x".runtime: there is no [runtimes.vllm]; add that section, with its command',
        ),
        (
            '[defaults]\nruntime = "lama"\n[runtimes.llama]\ncommand = ["llama", "{port}"]',
            "defaults.runtime: there is no [runtimes.lama], did you mean 'llama'?",
        ),
        (
            '[models.x]\ngroups = ["a b"]',
            'models."x".groups: there is no [groups."a b"]; add that section, with its limit',
        ),
        (
            '[groups.large]\n[defaults]\ngroups = ["larg"]',
            "defaults.groups: there is no [groups.larg], did you mean 'large'?",
        ),
    ],
)
def test_what_is_named_must_be_defined(refusal: Refusal, text: str, told: str) -> None:
    assert refusal(text) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[models.x]\naliases = ["chat"]\n[models.y]\naliases = ["z", "chat"]',
            'models."y".aliases: \'chat\' is an alias of models."x" already',
        ),
        (
            '[models.x]\naliases = ["y"]\n[models.y]',
            "models.\"x\".aliases: 'y' is the name of a model; remove one of them",
        ),
        (
            '[models.x]\naliases = ["x"]',
            "models.\"x\".aliases: 'x' is the name of a model; remove one of them",
        ),
    ],
)
def test_a_name_means_one_model(refusal: Refusal, text: str, told: str) -> None:
    assert refusal(text) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[models.x]\nexpected_memory = "20 GB"\nmemory_limit = "16 GB"',
            (
                "expected_memory (20.0 GB) must not be more than memory_limit (16.0 GB), or its "
                "server would be replaced for ever"
            ),
        ),
        (
            '[defaults]\nmemory_limit = "16 GiB"\n[models.x]\nexpected_memory = "20 GiB"',
            (
                "expected_memory (20.0 GiB) must not be more than memory_limit (16.0 GiB), or "
                "its server would be replaced for ever"
            ),
        ),
        (
            '[memory]\nbudget = "16 GiB"\n[models.x]\nexpected_memory = "20 GB"',
            (
                "expected_memory (20.0 GB) is more than memory.budget (16.0 GiB), so it could "
                "never start; raise the budget"
            ),
        ),
    ],
)
def test_what_is_declared_must_fit(refusal: Refusal, text: str, told: str) -> None:
    assert refusal(text) == f'models."x".expected_memory: {told}'


def test_all_contradictions_are_reported_at_once(refusal: Refusal) -> None:
    told = refusal("""
        [runtimes.w]
        command = ["vllm-mlx", "serve", "{runtime_model}"]
        [defaults]
        probe_timeout = "5m"
        start_timeout = "5m"
        [models.x]
        runtime = "ww"
        groups = ["g", "h"]
        aliases = ["x"]
    """).split("; ")
    places = [part.split(": ")[0] for part in told if ": " in part]
    assert places == [
        *("runtimes.w.command", "defaults.probe_timeout"),
        *('models."x".runtime', 'models."x".groups', 'models."x".groups', 'models."x".aliases'),
    ]


def test_need_may_not_be_bounded_below_what_is_always_kept(refusal: Refusal) -> None:
    told = refusal("[service]\nstandby = 3\nstandby_max = 2")
    assert told == "service.standby_max: standby_max (2) must not be less than standby (3)"


def test_more_standbys_than_need_may_add_by_default_are_no_contradiction(read: Read) -> None:
    assert read("[service]\nstandby = 12").service.standby == 12


LISTED = "[models.chat]\naliases = ['assistant']\n"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("chta", ", did you mean 'chat'?"),
        ("assistent", ", did you mean 'assistant'?"),
        ("org/other", "; add that section, with its settings"),
    ],
)
def test_the_home_model_is_one_that_is_served(refusal: Refusal, name: str, hint: str) -> None:
    told = refusal(f"[service]\nonly_listed = true\nhome_model = '{name}'\n{LISTED}")
    assert told.startswith("service.home_model: only_listed is set, and there is no [models.")
    assert told.endswith(hint)


@pytest.mark.parametrize(
    ("only_listed", "name"), [("true", "chat"), ("true", "assistant"), ("false", "org/other")]
)
def test_the_home_model_may_be_any_name_that_is_served(
    read: Read, only_listed: str, name: str
) -> None:
    text = f"[service]\nonly_listed = {only_listed}\nhome_model = '{name}'\n{LISTED}"
    catalogue = read(text).catalogue
    assert catalogue.home == ("org/other" if "/" in name else "chat")
    assert catalogue.settings_for(catalogue.home).home
    assert not catalogue.settings_for("another").home


def test_there_is_no_home_model_unless_it_is_named(read: Read) -> None:
    catalogue = read(LISTED).catalogue
    assert catalogue.home == ""
    assert not catalogue.settings_for("chat").home
