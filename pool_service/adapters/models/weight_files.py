"""Which of a directory's files hold the weights that are loaded, and whether all are there.

The loaders decide what is right. mlx-lm loads every `model*.safetensors` and reads no index.
mlx-vlm loads what the index names and is there; where nothing of that is there, or the index
cannot be read, every `*.safetensors` but the consolidated one. So an index of another build,
which converted repositories have, must not make a model incomplete that both can load; and
where some of the named files are there, the others are still to come.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

_SUFFIX = ".safetensors"
_WHOLE = "model.safetensors"
_STEM = "model"
_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{1,9})-of-(?P<count>\d{1,9})\.safetensors")
_NO_MODELS = ("consolidated", "adapter")
"""How files begin that are not loaded as a model: mlx-vlm leaves out the first, and the second
are changes to the weights of another one."""


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The files that are loaded, as far as they are there, and whether all of them are."""

    names: frozenset[str]
    complete: bool


def weight_files(sizes: Mapping[str, int], named: Collection[str]) -> WeightFiles:
    """Choose among the files of a directory.

    sizes: bytes, by the names of all files of weights, in whatever format; named: what the
    index names, empty where there is none that can be read.
    """
    tensors = {name for name in sizes if name.endswith(_SUFFIX)}
    present = frozenset(tensors.intersection(named))
    if present:
        return WeightFiles(present, complete=len(present) == len(set(named)))
    whole = max(_whole_sets(tensors), key=lambda names: _bytes(names, sizes), default=None)
    if whole:
        return WeightFiles(whole, complete=True)
    others = frozenset(name for name in tensors if not name.startswith(_NO_MODELS))
    # Beside an index whose files are missing, others are what arrived first of a download.
    complete = bool(others) and not named and not any(map(_SHARD.fullmatch, others))
    return WeightFiles(others or frozenset(sizes), complete)


def _whole_sets(names: Iterable[str]) -> list[frozenset[str]]:
    """Return the sets of files of which each is a whole model, by their names."""
    shards: dict[tuple[str, int], dict[int, str]] = {}
    whole = []
    for name in names:
        match = _SHARD.fullmatch(name)
        if match and match["stem"].startswith(_STEM):
            shard = shards.setdefault((match["stem"], int(match["count"])), {})
            shard[int(match["number"])] = name
        elif name == _WHOLE:
            whole.append(frozenset({name}))
    for (_, count), numbered in shards.items():
        if len(numbered) == count and set(numbered) in ({*range(1, count + 1)}, {*range(count)}):
            whole.append(frozenset(numbered.values()))
    return whole


def _bytes(names: Iterable[str], sizes: Mapping[str, int]) -> int:
    return sum(sizes[name] for name in names)
