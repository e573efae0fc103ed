"""All models of which something is known, for who wants to see them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pool_service.core.catalogue import Catalogue, Entry
from pool_service.core.names import model_flaw
from pool_service.core.server import Server

UNLISTED = "it is not listed, and only_listed is set, so it is not served"


def found(
    catalogue: Catalogue,
    servers: Iterable[Server],
    named: Mapping[str, str],
    cached: Iterable[str],
) -> list[Entry]:
    """Return the listed models and, besides, all that are known, by their names.

    A model of the cache that another one loads is that one, and not shown again.

    Args:
        catalogue: what is listed.
        servers: all servers of the pool.
        named: the runtime models that callers named, by their models.
        cached: the ids of the models in the cache of the hub.
    """
    entries = {entry.model: entry for entry in catalogue.entries()}
    # What runs beside its model's server has a name that is nobody's to ask for.
    asked = {server.model: server for server in servers if server.is_current}
    for model, server in asked.items():
        entries.setdefault(model, Entry(model, (), server.settings, listed=False))
    for model, runtime_model in named.items():
        settings = catalogue.settings_for(model, runtime_model)
        entries.setdefault(model, Entry(model, (), settings, listed=False))
    loaded = {entry.settings.runtime_model for entry in entries.values()}
    for model in cached:
        if model not in loaded and model_flaw(model) is None:
            settings = catalogue.settings_for(model)
            entries.setdefault(model, Entry(model, (), settings, listed=False))
    return [
        replace(
            entry,
            phase=asked[model].phase if model in asked else None,
            flaw="" if catalogue.serves(model) else UNLISTED,
        )
        for model, entry in sorted(entries.items())
    ]
