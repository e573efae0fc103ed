"""Places that a server may read in its sandbox, by its models and its arguments. Blocking."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from pool_service.core.errors import ModelRejected

WEIGHT_SUFFIXES = frozenset({".safetensors", ".gguf", ".npz"})
"""Of files to which a link of the same suffix may lead, wherever they are: no secret has such a
name."""

MAX_FILES = 10_000
"""Files of one model that are looked at; the check of writers refuses more."""


def model_places(
    model: str, paths: Iterable[Path], stores: Sequence[str], private: Sequence[str]
) -> tuple[str, ...]:
    """Return the places that a server reads to load these models.

    A link in a model's directory counts if it leads into a store or another place of the model, or
    if it is one of weights: somebody else may have made the directory, and its links.

    paths: of the models' directories, or only files. stores: where models are, without links.
    private: what no model's directory may contain. Raises ModelRejected, OSError.
    """
    found: list[str] = []
    for path in paths:
        place = _whole(path)
        if any(_is_in(one, place) for one in private):
            raise ModelRejected(
                f"{model!r} is not loaded: its directory {place} also holds your home or the "
                "service's state, which no server may read. Move the model into a directory of its "
                'own, or set sandbox = "off" for its runtime.',
                model=model,
            )
        found += [place, *_link_targets(model, path, (place, *stores))]
    return tuple(dict.fromkeys(found))


def named_places(arguments: Iterable[str], private: Sequence[str]) -> tuple[str, ...]:
    """Return the existing files and directories that arguments name by their absolute paths."""
    words = (word.partition("=")[2] if word.startswith("-") else word for word in arguments)
    real = (os.path.realpath(word) for word in words if word.startswith(os.sep))
    return narrow_places((path for path in real if os.path.exists(path)), private)  # noqa: PTH110


def narrow_places(places: Iterable[str], private: Sequence[str]) -> tuple[str, ...]:
    """Return the places that contain nothing private, without links, each once."""
    real = dict.fromkeys(os.path.realpath(place) for place in places)
    return tuple(one for one in real if not any(_is_in(each, one) for each in private))


def _whole(path: Path) -> str:
    """Return the place that holds all of a model, without links.

    A snapshot of the Hub's cache has links to the files of its repository.
    """
    real = Path(os.path.realpath(path))
    is_snapshot = real.parent.name == "snapshots" and real.parents[1].name.startswith("models--")
    return str(real.parents[1] if is_snapshot else real)


def _link_targets(model: str, path: Path, allowed: Sequence[str]) -> Iterator[str]:
    """Yield where links in a model's directory lead outside of it.

    allowed: the model's own place, and those that links may lead into. Raises ModelRejected.
    """
    for count, link in enumerate(_links(path)):
        target = os.path.realpath(link)
        if count > MAX_FILES or not os.path.exists(target) or _is_in(target, allowed[0]):  # noqa: PTH110
            continue
        is_weight = link.suffix == Path(target).suffix and link.suffix in WEIGHT_SUFFIXES
        # A link to a whole store would let the server read all models.
        if not any(_is_in(target, place) and target != place for place in allowed) and not (
            is_weight and os.path.isfile(target)  # noqa: PTH113
        ):
            raise ModelRejected(
                f"{model!r} is not loaded: its {link} leads to {target}, outside of the places "
                "where models are. If that is meant to be so, name the directory in "
                "sandbox_readable of the runtime's section.",
                model=model,
            )
        yield target


def _links(path: Path) -> Iterator[Path]:
    for place, directories, files in os.walk(path):
        for name in (*directories, *files):
            one = Path(place, name)
            if one.is_symlink():
                yield one


def _is_in(path: str, place: str) -> bool:
    return PurePath(path).is_relative_to(place)
