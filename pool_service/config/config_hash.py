"""Tells whether two configurations of a model make the same process."""

import hashlib
import json

from pool_service.adapters.runtime.program import RuntimeOptions
from pool_service.core.types import Settings

RECIPE_DIGITS = 16
"""Hexadecimal; two recipes of one model that differ are equal once in 2^64."""


def config_hash_of(options: RuntimeOptions, settings: Settings) -> str:
    """A digest of what decides a process besides its runtime model.

    The same over runs and whatever the order of tables. Values of variables, which can be
    secrets, are only in it as part of the digest.
    """
    ingredients: dict[str, object] = {
        "kind": options.effective_kind,
        "command": options.command,
        "health_path": options.health_path,
        "served_model_name": options.served_model_name,
        "runtime_environment": dict(options.environment),
        "arguments": settings.arguments,
        "environment": dict(settings.environment),
        "trust_remote_code": settings.trust_remote_code,
    }
    # What is newer than the recipes of servers that may run counts where it says something.
    since: dict[str, object] = {
        "ready": [options.ready_path, options.ready_body],
        "busy": [options.busy_path, *options.busy_values],
        "drains": options.drains,
        "allowed_hosts": options.allowed_hosts,
    }
    unset = (None, (), ["", ""], [""])
    ingredients |= {name: value for name, value in since.items() if value not in unset}
    text = json.dumps(ingredients, sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:RECIPE_DIGITS]
