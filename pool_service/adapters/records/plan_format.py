"""The part of a record that says how a process was started: its launch plan. Pure.

The environment is not written, since it can contain secrets, nor are the files of the working
directory, which the process has; both are empty when read. Of the sandbox only whether there is one
is written, as it cannot be changed any more.
"""

import re
from ipaddress import ip_address
from typing import Any

from pool_service.access.server_keys import is_key
from pool_service.adapters.records.record_members import (
    BadRecord,
    Members,
    to_boolean,
    to_count,
    to_integer,
    to_text,
)
from pool_service.core.activity import UseSignals
from pool_service.core.types import LaunchPlan, PromptCache, Sandbox

# Strict, as the nonce names a directory that is removed with all its content.
_NONCE = re.compile(r"[0-9A-Za-z_-]{1,64}")
_MAX_PORT = 65_535
_PATH = re.compile("/[!-~]*")


def from_plan(plan: LaunchPlan | None) -> dict[str, Any] | None:
    """Return the members of a plan."""
    if plan is None:
        return None
    return {
        "argv": plan.argv,
        "port": plan.port,
        "health_path": plan.health_path,
        "served_model_name": plan.served_model_name,
        "nonce": plan.nonce,
        "kind": plan.kind,
        "use": _from_use(plan.use),
        "drains": plan.drains,
        "ready_path": plan.ready_path,
        "ready_body": plan.ready_body,
        "prompt_cache": _from_prompt_cache(plan.prompt_cache),
        # The next service hands it out with the endpoint. Only this user can read the file.
        "api_key": plan.api_key,
        "embedding_model_name": plan.embedding_model_name,
        "mapped_bytes": plan.mapped_bytes,
        "confined": plan.sandbox is not None,
        **({"host": plan.host} if plan.host else {}),
    }


def _from_prompt_cache(cache: PromptCache | None) -> dict[str, Any] | None:
    if cache is None:
        return None
    return {
        "directory": cache.directory,
        "max_bytes": cache.max_bytes,
        "disk_bytes": cache.disk_bytes,
        "tokens": cache.tokens,
    }


def _from_use(use: UseSignals) -> dict[str, Any]:
    return {
        "path": use.path,
        "gauges": use.gauges,
        "counters": use.counters,
        "counts_all": use.counts_all,
    }


def to_plan(value: object) -> LaunchPlan:
    """Return the plan with these members. Raises TypeError, BadRecord."""
    of = Members(value)
    kind, drains = of.optional("kind", to_text) or "", of.optional("drains", to_boolean)
    return LaunchPlan(
        argv=of.texts("argv"),
        environment=(),
        port=of.optional("port", _to_port),
        health_path=of.required("health_path", _to_path),
        served_model_name=of.text("served_model_name"),
        nonce=of.required("nonce", _to_nonce),
        kind=kind,
        use=of.optional("use", _to_use) or UseSignals(),
        # Records of earlier versions lack `drains`.
        drains=kind == "vllm-mlx" if drains is None else drains,
        ready_path=of.optional("ready_path", _to_path) or "",
        ready_body=of.optional("ready_body", to_text) or "",
        prompt_cache=of.optional("prompt_cache", _to_prompt_cache),
        # Servers of earlier versions have none.
        api_key=of.optional("api_key", _to_key) or "",
        # Servers of earlier versions may have one; nobody was told its name.
        embedding_model_name=of.optional("embedding_model_name", to_text) or "",
        mapped_bytes=of.optional("mapped_bytes", to_count) or 0,
        sandbox=Sandbox() if of.optional("confined", to_boolean) else None,
        host=of.optional("host", _to_host) or "",
    )


def _to_prompt_cache(value: object) -> PromptCache:
    of = Members(value)
    return PromptCache(
        directory=of.text("directory"),
        max_bytes=of.count("max_bytes"),
        disk_bytes=of.count("disk_bytes"),
        tokens=of.count("tokens"),
    )


def _to_use(value: object) -> UseSignals:
    of = Members(value)
    return UseSignals(
        path=of.required("path", _to_path),
        gauges=of.texts("gauges"),
        counters=of.texts("counters"),
        counts_all=of.required("counts_all", to_boolean),
    )


def _to_nonce(value: object) -> str:
    text = to_text(value)
    if not _NONCE.fullmatch(text):
        raise BadRecord("its 'nonce' is not valid")
    return text


def _to_key(value: object) -> str:
    text = to_text(value)
    if text and not is_key(text):
        raise BadRecord("its 'api_key' is not valid")
    return text


def _to_path(value: object) -> str:
    """Return the path of a URL, "" if empty. Raises TypeError, BadRecord."""
    path = to_text(value)
    if path and not _PATH.fullmatch(path):
        raise BadRecord("it has a path that no URL has")
    return path


def _to_host(value: object) -> str:
    text = to_text(value)
    try:
        return str(ip_address(text))
    except ValueError:
        raise BadRecord("its 'host' is no IP address") from None


def _to_port(value: object) -> int:
    port = to_integer(value)
    if not 0 < port <= _MAX_PORT:
        raise BadRecord(f"its 'port' is not one of 1 to {_MAX_PORT}")
    return port
