"""The tokenizer that a thread loads while the weights are read, with stand-ins for mlx_lm."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pool_service.adapters.children import tokenizer_ahead
from pool_service.adapters.children.tokenizer_ahead import TRUST, load_tokenizers_ahead, patch

LIMIT_S = 60


class Library:
    """The functions of mlx_lm: a load reads the weights, then loads the tokenizer.

    options, eos: what the load passes on, if other than what it was given.
    calls: the threads that have loaded a tokenizer.
    """

    def __init__(self) -> None:
        self.calls = list[threading.Thread]()
        self.loaded = threading.Event()
        self.eos: object = 7
        self.options: object = None
        self.read_weights: Callable[[], object] = lambda: None
        self.error: BaseException | None = None
        self.utils = SimpleNamespace(
            load_config=lambda _path: {"eos_token_id": 7}, load_tokenizer=self._load_tokenizer
        )
        self.mlx_lm: Any = SimpleNamespace(load=self._load)

    def _load_tokenizer(self, path: Path, options: object, eos_token_ids: object) -> object:
        self.calls.append(threading.current_thread())
        self.loaded.set()
        if self.error:
            raise self.error
        return SimpleNamespace(of=(path, options, eos_token_ids))

    def _load(self, model: str, tokenizer_config: object = None, *, lazy: bool = False) -> Any:  # noqa: ANN401
        self.read_weights()
        options = self.options or tokenizer_config
        return self.utils.load_tokenizer(Path(model), options, eos_token_ids=self.eos)

    def awaits_the_tokenizer(self) -> None:
        """Make the weights take until a tokenizer is loaded."""

        def wait() -> None:
            assert self.loaded.wait(LIMIT_S)

        self.read_weights = wait


@pytest.fixture
def library() -> Library:
    one = Library()
    patch(one.mlx_lm, one.utils)
    return one


def test_the_tokenizer_is_loaded_while_the_weights_are_read_and_only_then(
    library: Library, tmp_path: Path
) -> None:
    library.awaits_the_tokenizer()
    options = {"trust_remote_code": False}
    tokenizer = library.mlx_lm.load(str(tmp_path), tokenizer_config=options)
    assert tokenizer.of == (tmp_path, options, 7)
    (thread,) = library.calls
    assert thread is not threading.current_thread()


def test_each_load_has_a_tokenizer_of_its_own(library: Library, tmp_path: Path) -> None:
    first, second = (library.mlx_lm.load(str(tmp_path)) for _ in range(2))
    assert first is not second
    assert len(library.calls) == 2


@pytest.mark.parametrize("differs", ["eos", "options"])
def test_a_call_with_other_arguments_is_made(
    library: Library, tmp_path: Path, differs: str
) -> None:
    setattr(library, differs, "others")
    tokenizer = library.mlx_lm.load(str(tmp_path))
    assert "others" in tokenizer.of
    assert library.calls[-1] is threading.current_thread()


@pytest.mark.parametrize("error", [ValueError("no tokenizer"), SystemExit("it ran")])
def test_an_error_is_that_of_the_call_itself(
    library: Library, tmp_path: Path, error: BaseException
) -> None:
    library.error = error
    with pytest.raises(type(error)) as raised:
        library.mlx_lm.load(str(tmp_path))
    assert raised.value is error
    assert library.calls[-1] is threading.current_thread()


def test_a_config_that_cannot_be_read_is_left_to_the_load(tmp_path: Path) -> None:
    def refuse(_path: Path) -> None:
        raise FileNotFoundError("no config.json")

    patched = Library()
    patched.utils.load_config = refuse
    patch(patched.mlx_lm, patched.utils)
    assert patched.mlx_lm.load(str(tmp_path)).of == (tmp_path, None, 7)
    assert patched.calls == [threading.current_thread()]


def test_a_load_that_fails_leaves_no_thread_behind(library: Library, tmp_path: Path) -> None:
    threads = set(threading.enumerate())

    def fail() -> None:
        raise ValueError("no weights")

    library.read_weights = fail
    with pytest.raises(ValueError, match="no weights"):
        library.mlx_lm.load(str(tmp_path))
    assert set(threading.enumerate()) <= threads


@pytest.mark.parametrize(
    ("model", "named"),
    [("owner/name", {}), ("{}", {"lazy": True})],
    ids=["a model of the Hub", "other options"],
)
def test_another_kind_of_load_is_left_alone(
    library: Library, tmp_path: Path, model: str, named: dict[str, bool]
) -> None:
    library.mlx_lm.load(model.format(tmp_path), **named)
    assert library.calls == [threading.current_thread()]


def test_a_tokenizer_by_itself_is_loaded_as_ever(library: Library, tmp_path: Path) -> None:
    tokenizer = library.utils.load_tokenizer(tmp_path, None, eos_token_ids=3)
    assert tokenizer.of == (tmp_path, None, 3)
    assert library.calls == [threading.current_thread()]


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return what is to be patched, in place of doing so."""
    found = list[object]()
    monkeypatch.setattr(tokenizer_ahead, "patch", lambda *modules: found.append(modules))
    monkeypatch.setitem(sys.modules, "mlx_lm", SimpleNamespace(utils="its utils"))
    return found


def test_a_server_of_trusted_code_loads_one_after_the_other(patched: list[object]) -> None:
    load_tokenizers_ahead(["vllm-mlx", "serve", TRUST, "m"])
    assert patched == []
    load_tokenizers_ahead(["vllm-mlx", "serve", "m"])
    assert len(patched) == 1


def test_a_runtime_without_the_library_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlx_lm", None)
    load_tokenizers_ahead(["vllm-mlx", "serve", "m"])


def test_a_library_with_other_functions_is_not_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    load = object()
    library = SimpleNamespace(load=load, utils=SimpleNamespace(load_config=None))
    monkeypatch.setitem(sys.modules, "mlx_lm", library)
    load_tokenizers_ahead(["vllm-mlx", "serve", "m"])
    assert library.load is load
