from pathlib import Path

import pytest

from pool_service.adapters.system.server_environment import (
    scrub,
    with_absolute_paths,
    without_secrets,
)
from pool_service.core.errors import RuntimeUnavailable


@pytest.mark.parametrize(
    "name",
    [
        *("WEB_CONCURRENCY", "VLLM_MLX_MCP_CONFIG", "MLX_LM_TRUST_REMOTE_CODE"),
        *("MLX_TRUST_REMOTE_CODE", "HF_ALLOW_CODE_EVAL", "PYTHONSTARTUP", "PYTHONPATH"),
        *("PYTHONHOME", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "AWS_SECRET_ACCESS_KEY"),
        *("UVICORN_PORT", "VIRTUAL_ENV"),
    ],
)
def test_what_changes_what_runs_or_is_secret_stays_outside(name: str) -> None:
    assert name not in dict(scrub({name: "1", "PATH": "/bin"}))


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "HF_HOME", "HF_TOKEN_PATH"),
        *("HUGGINGFACE_HUB_CACHE", "TOKENIZERS_PARALLELISM", "XDG_CACHE_HOME"),
        *("SSL_CERT_FILE", "https_proxy", "NO_PROXY", "MLX_METAL_FAST_SYNCH", "MTL_DEBUG_LAYER"),
    ],
)
def test_what_a_runtime_needs_passes(name: str) -> None:
    assert dict(scrub({name: "1"}))[name] == "1"


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_API_KEY", "HF_PASSWORD"]
)
def test_secrets_are_for_downloads_alone(name: str) -> None:
    assert name not in dict(scrub({name: "secret"}))
    assert dict(scrub({name: "secret"}, with_secrets=True))[name] == "secret"


def test_what_is_secret_by_its_name_is_left_out_but_for_what_installers_need() -> None:
    secrets = (
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "github_token",
        "DB_PASSWORD",
        "X_TOKEN",
    )
    others = ("PATH", "HF_TOKEN_PATH", "TOKENIZERS_PARALLELISM", "KEYBOARD", "PIP_INDEX_TOKEN")
    given = [(name, "1") for name in (*secrets, *others)]
    assert dict(without_secrets(given)).keys() == set(others)


def test_what_the_operator_sets_is_not_filtered_and_wins() -> None:
    environment = dict(scrub({"HOME": "/a"}, [("HOME", "/b")], [("PYTHONPATH", "/c")]))
    assert (environment["HOME"], environment["PYTHONPATH"]) == ("/b", "/c")


def test_output_is_not_buffered() -> None:
    assert dict(scrub({}))["PYTHONUNBUFFERED"] == "1"


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"HF_HOME": "hf"}, {"HF_HOME": "{cwd}/hf"}),
        ({"HOME": "/h", "HF_HOME": "~/hf"}, {"HOME": "/h", "HF_HOME": "/h/hf"}),
        ({"HOME": "/h", "HF_HOME": "$HOME/hf"}, {"HOME": "/h", "HF_HOME": "/h/hf"}),
        (
            {"HF_HUB_CACHE": "${HF_HOME}/hub", "HF_HOME": "$SECRET/hf"},
            {"HF_HUB_CACHE": "/s/hf/hub", "HF_HOME": "/s/hf"},
        ),
        ({"XDG_CACHE_HOME": "cache"}, {"XDG_CACHE_HOME": "{cwd}/cache"}),
        ({"HF_HOME": "", "HF_ENDPOINT": "", "XDG_CACHE_HOME": ""}, {}),
        (
            {"TMPDIR": "tmp", "SSL_CERT_FILE": "ca.pem"},
            {"TMPDIR": "{cwd}/tmp", "SSL_CERT_FILE": "{cwd}/ca.pem"},
        ),
        ({"TMPDIR": "$UNSET/x"}, {"TMPDIR": "$UNSET/x"}),
        (
            {"HF_TOKEN": "", "FOO": "$HOME/x", "PATH": "a:b"},
            {"HF_TOKEN": "", "FOO": "$HOME/x", "PATH": "a:b"},
        ),
    ],
)
def test_every_path_is_made_absolute_once_for_all_who_use_it(
    given: dict[str, str], made: dict[str, str]
) -> None:
    result = dict(with_absolute_paths(given.items(), {"SECRET": "/s"}))
    assert result == {name: text.replace("{cwd}", str(Path.cwd())) for name, text in made.items()}


@pytest.mark.parametrize("home", ["", "relative", "$HOME"])
def test_a_home_that_is_no_path_is_that_of_the_user(home: str) -> None:
    assert (
        dict(with_absolute_paths([("HOME", home)], {}))["HOME"]
        == dict(with_absolute_paths([("HOME", "")], {}))["HOME"]
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("$UNSET/x", "HF_HOME names the variable UNSET, which is not set"),
        ("~nobody-of-this-name/x", "no user of that name"),
        ("/models\r", r"HF_HOME begins or ends with white space \('/models\\r'\)"),
        ("  ", "HF_HOME is empty"),
    ],
)
def test_what_says_where_models_are_and_means_no_path_is_named(text: str, told: str) -> None:
    with pytest.raises(RuntimeUnavailable, match=told):
        with_absolute_paths([("HF_HOME", text)], {})
