"""Environment of servers: an allow-list of the service's variables.

All other variables are removed, since a variable can change the code that runs:
WEB_CONCURRENCY ends vllm-mlx, VLLM_MLX_MCP_CONFIG starts programs, MLX_LM_TRUST_REMOTE_CODE runs
the model's code, PYTHONPATH and PYTHONSTARTUP run any code.
"""

import re
from collections import ChainMap
from collections.abc import Iterable, Mapping, MutableMapping

from pool_service.core.errors import RuntimeUnavailable
from pool_service.paths import PathFlaw, absolute, home_directory

_NAMES = frozenset(
    {
        # Programs, the home with its caches, and the user that they belong to.
        *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_CACHE_HOME"),
        # Language and time zone of logs; every macOS program reads the __CF_ variable at its start.
        *("LANG", "LANGUAGE", "TZ", "__CF_USER_TEXT_ENCODING"),
        # How a download reaches the network: certificates and proxies.
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        # Whether to download at all, and how many threads to use.
        *("TRANSFORMERS_OFFLINE", "TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS"),
    }
)
_PREFIXES = (
    "LC_",
    # Where models are cached, and, for downloads alone, the token that gated models need.
    *("HF_", "HUGGINGFACE_", "HUGGING_FACE_"),
    # Tuning and debugging of MLX and of Metal.
    *("MLX_", "METAL_", "MTL_"),
)
# Variables under an allowed prefix that let a model bring code of its own.
_NEVER = ("TRUST_REMOTE_CODE", "ALLOW_CODE_EVAL")

# Where the hub's library keeps its files. In this order, since the value of a later variable may
# name an earlier one.
_CACHES = ("XDG_CACHE_HOME", "HF_HOME", "HUGGINGFACE_HUB_CACHE", "HF_HUB_CACHE")
_OTHER_PATHS = (
    *("HUGGINGFACE_ASSETS_CACHE", "HF_ASSETS_CACHE", "HF_TOKEN_PATH", "HF_XET_CACHE"),
    *("HF_MODULES_CACHE", "HF_DATASETS_CACHE", "TMPDIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
# The programs that read these take an empty value literally: as a relative path, or as a URL
# without a host.
_EMPTY_IS_UNSET = (*_CACHES, *_OTHER_PATHS, "HF_ENDPOINT")

_SECRET = re.compile(
    r"(?:TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|(?:API|ACCESS|PRIVATE)_KEY(?:_ID)?)\Z",
    re.IGNORECASE,
)

_ALWAYS = {
    # Lines reach the log at once, the last one before a crash included.
    "PYTHONUNBUFFERED": "1",
}


def scrub(
    inherited: Mapping[str, str],
    *additional: Iterable[tuple[str, str]],
    with_secrets: bool = False,
) -> tuple[tuple[str, str], ...]:
    """Return a server's environment: the allowed part of `inherited`, then each of `additional`.

    Later variables replace earlier ones; `additional`, set by the operator, is not filtered.
    with_secrets: keep inherited secrets such as the hub's token, which only a download needs.
    """
    environment = {name: value for name, value in inherited.items() if _allowed(name)}
    if not with_secrets:
        environment = dict(without_secrets(environment.items()))
    environment.update(_ALWAYS)
    for variables in additional:
        environment.update(variables)
    return tuple(sorted(environment.items()))


def without_secrets(environment: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the environment without variables that are secret by their names, as HF_TOKEN.

    Variables of pip and uv stay, as an installation needs their registry credentials.
    """
    return tuple(
        (name, value)
        for name, value in environment
        if _SECRET.search(name) is None or name.startswith(("PIP_", "UV_"))
    )


def is_offline(environment: Mapping[str, str]) -> bool:
    """Return whether HF_HUB_OFFLINE is set to a value that the hub's library takes for true."""
    return environment.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def with_absolute_paths(
    environment: Iterable[tuple[str, str]], inherited: MutableMapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """Return the environment with all known path variables made absolute, empty ones removed.

    The service, a download and a server run in different directories, in which a relative path
    would mean different files. inherited: further variables for `$NAME`. Raises
    RuntimeUnavailable if a variable that locates models is not a valid path.
    """
    result = {name: text for name, text in environment if text or name not in _EMPTY_IS_UNSET}
    home = home_directory(result)
    # A runtime uses any HOME as it is, even an empty or relative one.
    if "HOME" in result and home is not None:
        result["HOME"] = str(home)
    everything = ChainMap(result, inherited)
    for name in (*_CACHES, *_OTHER_PATHS):
        if name not in result:
            continue
        try:
            result[name] = str(absolute(result[name], everything))
        except PathFlaw as flaw:
            if name in _CACHES:
                raise RuntimeUnavailable(
                    f"Models cannot be located: {name} {flaw}. Correct the variable in the "
                    "configured environment, or where you start the service, and start it again."
                ) from flaw
    return tuple(sorted(result.items()))


def _allowed(name: str) -> bool:
    if any(part in name for part in _NEVER):
        return False
    return name in _NAMES or name.startswith(_PREFIXES)
