"""The models in the Hugging Face cache of this machine."""

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from pool_service.adapters.models.files import hub_cache
from pool_service.core.names import model_flaw

MAX_MODELS = 1000
"""Models listed at most, to bound the time of a listing."""

MAX_PARTS = 10_000
"""Directory entries of a model's download that are read at most."""

_PREFIX = "models--"
_PART = ".incomplete"


def cached_models(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ids of the models in the Hub's cache, complete or not. Blocking.

    Empty if the cache cannot be read. environment: locates the cache.
    """
    try:
        cache = hub_cache(environment)
        if cache is None:
            return ()
        with os.scandir(cache) as entries:
            # Other entries of the cache, such as data sets, do not count.
            return tuple(sorted(islice(_ids(entry.name for entry in entries), MAX_MODELS)))
    except (OSError, ValueError):
        return ()


def _ids(names: Iterable[str]) -> Iterator[str]:
    """Yield the ids of the models whose directories have these names."""
    for name in names:
        model = name.removeprefix(_PREFIX).replace("--", "/")
        if name.startswith(_PREFIX) and model_flaw(model) is None:
            yield model


def partial_bytes(model: str, environment: Mapping[str, str]) -> int:
    """Return the bytes of a model's partially downloaded files. Blocking."""
    try:
        cache = hub_cache(environment)
        if cache is None:
            return 0
        blobs = cache / f"{_PREFIX}{model.replace('/', '--')}" / "blobs"
        with os.scandir(blobs) as entries:
            parts = [one for one in islice(entries, MAX_PARTS) if one.name.endswith(_PART)]
        return sum(one.stat(follow_symlinks=False).st_size for one in parts)
    except (OSError, ValueError):
        return 0
