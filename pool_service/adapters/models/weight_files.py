"""Selection of the weight files that loading a directory reads, and their completeness. Pure.

The rules follow the loaders:
- mlx-lm loads every `model*.safetensors` and reads no index;
- mlx-vlm loads the files that the index names and that exist; if none exists or the index cannot be
  read, every `*.safetensors` except the consolidated one.

So the index of another build, which converted repositories have, does not make a model incomplete
that both can load. If some of the named files exist, the others are missing: a download of them is
not complete.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

_SUFFIX = ".safetensors"
_WHOLE = "model.safetensors"
_STEM = "model"
_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{1,9})-of-(?P<count>\d{1,9})\.safetensors")
_NO_MODELS = ("consolidated", "adapter")
"""Prefixes of files that are not loaded as a model: mlx-vlm leaves out the first, and the second
are changes to the weights of another model."""


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The weight files to load that exist, and whether they are all (`complete`)."""

    names: frozenset[str]
    complete: bool


def weight_files(sizes: Mapping[str, int], named: Collection[str]) -> WeightFiles:
    """Return the files of a directory that are loaded as weights.

    1. The files that the index names, if any of them exists;
    2. else the largest complete set: model.safetensors, or all shards of one numbering;
    3. else every *.safetensors that can be a model, incomplete if an index or a shard shows that
       some are missing;
    4. else the files of all other formats, always incomplete.

    sizes: bytes by name of all files of weights, in any format.
    named: the files that the index names; empty without a readable index.
    """
    tensors = {name for name in sizes if name.endswith(_SUFFIX)}
    present = frozenset(tensors.intersection(named))
    if present:
        return WeightFiles(present, complete=len(present) == len(set(named)))
    whole = max(_whole_sets(tensors), key=lambda names: _bytes(names, sizes), default=None)
    if whole:
        return WeightFiles(whole, complete=True)
    others = frozenset(name for name in tensors if not name.startswith(_NO_MODELS))
    # If all files of the index are missing, other files may be the first ones of a download.
    complete = bool(others) and not named and not any(map(_SHARD.fullmatch, others))
    return WeightFiles(others or frozenset(sizes), complete)


def _whole_sets(names: Iterable[str]) -> list[frozenset[str]]:
    """Return the sets of files that by their names are complete models."""
    shards: dict[tuple[str, int], dict[int, str]] = {}
    whole = []
    for name in names:
        match = _SHARD.fullmatch(name)
        if match and match["stem"].startswith(_STEM):
            numbered = shards.setdefault((match["stem"], int(match["count"])), {})
            numbered[int(match["number"])] = name
        elif name == _WHOLE:
            whole.append(frozenset({name}))
    for (_, count), numbered in shards.items():
        if len(numbered) == count and set(numbered) in ({*range(1, count + 1)}, {*range(count)}):
            whole.append(frozenset(numbered.values()))
    return whole


def _bytes(names: Iterable[str], sizes: Mapping[str, int]) -> int:
    return sum(sizes[name] for name in names)
