"""The lists of models, in the forms of OpenAI and of Ollama. A look starts and keeps nothing."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pool_service_client import Model, Server, ServerState

OWNER = "pool-service"


def entries(models: Iterable[Model], *, with_aliases: bool) -> list[tuple[str, Model]]:
    """Return the models that callers can ask for, by the names to use.

    Left out is what is known by name only: its files are not there, and nothing lists it.
    """
    found: list[tuple[str, Model]] = []
    for model in models:
        if model.listed or ((model.on_disk or model.state is not None) and not model.problem):
            names = [model.model, *(model.aliases if with_aliases else ())]
            found += [(name, model) for name in names]
    return found


def openai_list(found: Iterable[tuple[str, Model]], created: int) -> dict[str, Any]:
    """Return OpenAI's list of models. created: the time in seconds that each has."""
    return {"object": "list", "data": [openai_model(*one, created) for one in found]}


def openai_model(name: str, model: Model, created: int) -> dict[str, Any]:
    """Return a model in OpenAI's form, with what the service knows of it as `meta`."""
    meta = {
        "model": model.model,
        "aliases": list(model.aliases),
        "state": model.state.name.lower() if model.state is not None else "stopped",
        "on_disk": model.on_disk,
        "expected_bytes": model.expected_bytes or None,
        "pinned": model.pinned,
        "problem": model.problem or None,
    }
    return {"id": name, "object": "model", "created": created, "owned_by": OWNER, "meta": meta}


def ollama_tags(found: Iterable[tuple[str, Model]]) -> dict[str, Any]:
    """Return the answer of Ollama's /api/tags: the models that can be asked for."""
    return {"models": [_ollama(name, model.disk_bytes) for name, model in found]}


def ollama_running(servers: Iterable[Server]) -> dict[str, Any]:
    """Return the answer of Ollama's /api/ps: the models that are loaded."""
    ready = (one for one in servers if one.state is ServerState.READY)
    return {
        "models": [
            _ollama(one.model, one.footprint_bytes)
            | {"expires_at": _time(one.expire_time), "size_vram": one.footprint_bytes}
            for one in ready
        ]
    }


def _ollama(name: str, size: int) -> dict[str, Any]:
    details = {"format": "", "family": "", "parameter_size": "", "quantization_level": ""}
    return {
        "name": name,
        "model": name,
        "modified_at": _time(None),
        "size": size,
        # Not of its files: programs use it to tell entries apart.
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "details": details,
    }


def _time(moment: datetime | None) -> str:
    return (moment or datetime(1970, 1, 1, tzinfo=UTC)).isoformat()
