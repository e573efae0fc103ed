import pytest

from pool_service.adapters.environment import scrubbed


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
    assert name not in dict(scrubbed({name: "1", "PATH": "/bin"}))


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "HF_HOME", "HF_TOKEN"),
        *("HUGGINGFACE_HUB_CACHE", "HUGGING_FACE_HUB_TOKEN", "XDG_CACHE_HOME"),
        *("SSL_CERT_FILE", "https_proxy", "NO_PROXY", "MLX_METAL_FAST_SYNCH", "MTL_DEBUG_LAYER"),
    ],
)
def test_what_a_runtime_needs_passes(name: str) -> None:
    assert dict(scrubbed({name: "1"}))[name] == "1"


def test_what_the_operator_sets_is_not_filtered_and_wins() -> None:
    environment = dict(scrubbed({"HOME": "/a"}, [("HOME", "/b")], [("PYTHONPATH", "/c")]))
    assert (environment["HOME"], environment["PYTHONPATH"]) == ("/b", "/c")


def test_output_is_not_buffered() -> None:
    assert dict(scrubbed({}))["PYTHONUNBUFFERED"] == "1"
