"""The config hash, by which a reload finds the servers that it has to replace.

Two settings with the same hash and the same runtime model start the same process. Records keep
hashes for the next service, so the hash of given settings must stay the same in every version.
"""

import hashlib
import json

from pool_service.adapters.runtime.launch_plan import LOOPBACK
from pool_service.adapters.runtime.runtime_options import DEFAULT_HEALTH_PATH, RuntimeOptions
from pool_service.core.types import Settings

HASH_DIGITS = 16
"""Hexadecimal digits: 64 bits, so that a collision between two settings of a model is unlikely."""

UNHASHED_PROMPT_CACHE_BYTES = 2 * 1024**3
"""The prompt_cache that is left out: that of running servers whose hashes are without it. It must
stay the same when the default changes."""


def config_hash_of(options: RuntimeOptions, settings: Settings) -> str:
    """Return a digest of all settings that affect the process, except the runtime model.

    What the description of a program adds is left out: it may differ in another version, and is no
    reason to replace a server. Independent of the run and of the order of tables. Does not reveal
    the values of environment variables, which can be secrets.
    """
    values: dict[str, object] = {
        "kind": options.effective_kind,
        "command": options.command,
        "health_path": options.health_path or DEFAULT_HEALTH_PATH,
        "served_model_name": options.served_model_name,
        "runtime_environment": dict(options.environment),
        "arguments": settings.arguments,
        "environment": dict(settings.environment),
        "trust_remote_code": settings.trust_remote_code,
    }
    # Newer settings count only if they are set: running servers have hashes without them.
    newer: dict[str, object] = {
        "ready": [options.ready_path, options.ready_body],
        "busy": [options.busy_path, *options.busy_values],
        "use_values": options.use_values,
        "drains": options.drains,
        "allowed_hosts": options.allowed_hosts,
        "warm_prompts": settings.warm_prompts,
        "server_keys": None if options.server_keys else False,
        "sandbox": options.sandbox,
        "sandbox_readable": tuple(map(str, options.sandbox_readable)),
        # The default is where servers listen without it.
        "host": None if options.bound_host == LOOPBACK else options.host,
    }
    # Of `drains`, `server_keys`, `host`; of `allowed_hosts` and other lists; of `ready`, `busy`,
    # `sandbox`.
    unset = (None, (), ["", ""], [""], "auto")
    values |= {name: value for name, value in newer.items() if value not in unset}
    if options.is_vllm_mlx_itself and settings.prompt_cache != UNHASHED_PROMPT_CACHE_BYTES:
        values["prompt_cache"] = settings.prompt_cache
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:HASH_DIGITS]
