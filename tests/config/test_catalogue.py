"""What is said of models, of runtimes and of groups."""

from dataclasses import replace
from pathlib import Path

import pytest

from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.config.config_hash import config_hash_of
from pool_service.core.catalogue import Catalogue
from pool_service.core.types import Settings
from tests.config.conftest import GIB, Read


def settings_of(catalogue: Catalogue, model: str) -> Settings:
    """Without the config hash, which has tests of its own."""
    return replace(catalogue.settings_for(model), config_hash="")


def test_a_model_inherits_what_it_does_not_say(read: Read) -> None:
    catalogue = read("""
        [defaults]
        keep_alive = "10m"
        start_timeout = 60
        memory_limit = "8 GiB"
        download = true

        [models."vllm-mlx/big"]
        runtime_model = "org/big"
        start_timeout = "5m"
        memory_limit = "32 GiB"
        download = false

        [models.small]
        keep_alive = 0
    """).catalogue
    assert settings_of(catalogue, "vllm-mlx/big") == Settings(
        "org/big", keep_alive=600.0, start_timeout=300.0, memory_limit=32 * GIB
    )
    inherited = Settings("", start_timeout=60.0, memory_limit=8 * GIB, download=True)
    small, other = (settings_of(catalogue, model) for model in ("small", "other"))
    assert small == replace(inherited, runtime_model="small", keep_alive=0.0)
    assert other == replace(inherited, runtime_model="other", keep_alive=600.0)


def test_a_model_says_how_it_is_kept(read: Read) -> None:
    catalogue = read("""
        [groups.large]
        [models.chat]
        pinned = true
        preload = true
        expected_memory = "20 GB"
        memory_limit = 30_000_000_000
        groups = ["large"]
        trust_remote_code = true
    """).catalogue
    assert settings_of(catalogue, "chat") == Settings(
        "chat",
        pinned=True,
        preload=True,
        expected_memory=20_000_000_000,
        memory_limit=30_000_000_000,
        groups=("large",),
        trust_remote_code=True,
    )


def test_lists_of_a_model_replace_the_defaults_and_variables_are_laid_over_them(
    read: Read,
) -> None:
    catalogue = read("""
        [groups]
        a.limit = 1
        b.limit = 2
        [defaults]
        arguments = ["--max-tokens", "4096"]
        environment = { TOKEN = "t", LEVEL = "low" }
        groups = ["a"]
        [models.x]
        arguments = ["--x"]
        environment = { LEVEL = "high", EXTRA = "" }
        groups = ["b"]
        [models.bare]
        arguments = []
        groups = []
    """).catalogue
    own = settings_of(catalogue, "x")
    assert (own.arguments, own.groups) == (("--x",), ("b",))
    assert own.environment == (("EXTRA", ""), ("LEVEL", "high"), ("TOKEN", "t"))
    bare = settings_of(catalogue, "bare")
    assert (bare.arguments, bare.groups) == ((), ())
    assert bare.environment == (("LEVEL", "low"), ("TOKEN", "t"))


def test_the_catalogue_knows_which_keys_are_set_and_where(read: Read) -> None:
    text = """
        [defaults]
        keep_alive = "1m"
        stop_timeout = 5
        [models.x]
        stop_timeout = 6
        aliases = ["y"]
    """
    catalogue = read(text, {"POOL_SERVICE_DEFAULTS_KEEP_ALIVE": "2m"}).catalogue
    assert catalogue.section_keys == {"x": {"stop_timeout", "aliases"}}
    assert catalogue.default_origins == {
        "keep_alive": "POOL_SERVICE_DEFAULTS_KEEP_ALIVE",
        "stop_timeout": "[defaults]",
    }


def test_an_alias_leads_to_its_model(read: Read) -> None:
    catalogue = read("""
        [models."vllm-mlx/qwen3-4b"]
        aliases = ["chat", "gpt-4"]
        [models.b]
        aliases = ["small"]
    """).catalogue
    names = ("chat", "gpt-4", "small", "b", "x")
    models = ("vllm-mlx/qwen3-4b", "vllm-mlx/qwen3-4b", "b", "b", "x")
    assert tuple(catalogue.resolve(name) for name in names) == models


def test_only_listed_models_may_be_all_that_is_served(read: Read) -> None:
    listed = "[models.a]\n"
    assert read(listed).catalogue.serves("b")
    catalogue = read(f"{listed}[service]\nonly_listed = true").catalogue
    assert (catalogue.serves("a"), catalogue.serves("b")) == (True, False)


# --- runtimes -----------------------------------------------------------------------------


def test_a_model_can_name_its_runtime(read: Read) -> None:
    config = read("""
        [service]
        data_dir = "/data"
        [runtimes."llama.cpp"]
        command = ["llama-server", "-m", "{runtime_model}", "--port", "{port}"]
        environment = { A = "1" }
        [defaults]
        runtime = "llama.cpp"
        [models.a]
        [models.b]
        runtime = "default"
    """)
    settings = [settings_of(config.catalogue, model) for model in ("a", "b", "other")]
    assert [one.runtime for one in settings] == ["llama.cpp", "", "llama.cpp"]
    data_dir = Path("/data")
    assert config.all_runtime_options == {
        "": RuntimeOptions(data_dir),
        "llama.cpp": RuntimeOptions(
            data_dir,
            command=("llama-server", "-m", "{runtime_model}", "--port", "{port}"),
            environment=(("A", "1"),),
        ),
    }


# --- recipes ------------------------------------------------------------------------------

BASE = """
    [runtimes.other]
    command = ["serve", "{port}"]
    [runtimes.same]
    command = ["serve", "{port}"]
    [models.x]
    runtime = "other"
    environment = { A = "1", B = "2" }
"""


def config_hash(read: Read, text: str) -> str:
    return read(text).catalogue.settings_for("x").config_hash


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ('["serve", "{port}"]', '["serve", "-v", "{port}"]'),
        ('["serve", "{port}"]', '["serve", "{port}"]\nhealth_path = "/v1"'),
        ('["serve", "{port}"]', '["serve", "{port}"]\nserved_model_name = "y"'),
        ('["serve", "{port}"]', '["serve", "{port}"]\nenvironment = { C = "3" }'),
        ('runtime = "other"', ""),
        ('A = "1"', 'A = "2"'),
        ('A = "1", ', ""),
        ("[models.x]", '[models.x]\narguments = ["--y"]'),
        ("[models.x]", "[models.x]\ntrust_remote_code = true"),
        ("[models.x]", '[defaults]\narguments = ["--y"]\n[models.x]'),
    ],
)
def test_everything_that_decides_the_process_is_in_the_config_hash(
    read: Read, was: str, becomes: str
) -> None:
    assert config_hash(read, BASE.replace(was, becomes)) != config_hash(read, BASE)


def test_the_warm_prompts_are_in_the_config_hash(read: Read) -> None:
    hashes = {
        config_hash(read, f"[models.x]\nwarm_prompts = {prompts}")
        for prompts in ('["a"]', '["b"]', "[]")
    }
    assert len(hashes) == 3
    assert config_hash(read, "[models.x]") in hashes


def test_the_prompt_cache_is_in_the_config_hash_of_a_program_that_keeps_prompts(read: Read) -> None:
    changed = "[defaults]\nprompt_cache = false\n"
    assert config_hash(read, changed + "[models.x]") != config_hash(read, "[models.x]")
    assert config_hash(read, changed + BASE) == config_hash(read, BASE)


def test_another_default_leaves_the_hash_of_a_set_prompt_cache_as_it_is() -> None:
    """2 GiB are left out, for servers that were started when no hash had a prompt_cache."""
    options = RuntimeOptions(Path("/data"))
    hashes = [
        config_hash_of(options, Settings("m", prompt_cache=gibibytes * GIB)) for gibibytes in (2, 4)
    ]
    assert hashes == ["62b5ee633a0c9c87", "bd5d0acdbd370c3d"]


def test_the_kind_of_a_program_is_in_the_config_hash(read: Read) -> None:
    assert config_hash(read, '[runtime]\nkind = "plain"') != config_hash(read, "")


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ('A = "1", B = "2"', 'B = "2", A = "1"'),
        ('runtime = "other"', 'runtime = "same"'),
        ('["serve", "{port}"]', '["serve", "{port}"]\nkind = "plain"'),
        ("[models.x]", '[models.x]\nkeep_alive = 9\npinned = true\nmemory_limit = "1 GB"'),
        ("[models.x]", '[models.x]\naliases = ["z"]\npreload = true\ndownload = true'),
        ("[models.x]", '[models.x]\nruntime_model = "org/x"'),
    ],
)
def test_what_does_not_decide_the_process_is_not(read: Read, was: str, becomes: str) -> None:
    assert config_hash(read, BASE.replace(was, becomes)) == config_hash(read, BASE)


def test_a_config_hash_is_the_same_in_another_run_and_version(read: Read) -> None:
    """Else an upgrade would replace every server that it adopts."""
    assert config_hash(read, BASE) == "943ebb15a6593ba4"


def test_a_config_hash_does_not_reveal_the_values_of_variables(read: Read) -> None:
    secret = "0123456789abcdef"
    told = config_hash(read, BASE.replace('A = "1"', f'A = "{secret}"'))
    assert len(told) == 16
    assert told != secret
    assert set(told) <= set("0123456789abcdef")


def test_where_the_arguments_of_a_model_are_said_is_known(read: Read) -> None:
    text = """
    [defaults]
    arguments = ["--a"]
    [models."org/one"]
    arguments = ["--b"]
    [models.two]
    """
    catalogue = read(text).catalogue
    sections = {
        name: catalogue.settings_for(name).arguments_section for name in ("org/one", "two", "three")
    }
    assert sections == {"org/one": '[models."org/one"]', "two": "[defaults]", "three": "[defaults]"}
