"""Kept prompts that are lent to a server, in its working directory."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from pool_service.adapters.children import kept_prompts
from pool_service.adapters.process.launch import furnish
from pool_service.adapters.prompts import lending
from pool_service.adapters.prompts.lending import lend
from pool_service.adapters.prompts.prompt_store import PromptStore
from pool_service.core.types import PromptCache
from tests.adapters.prompt_servers import KEY, KIB, end, keep, plan_of

ENTRY = Path("version", "entry_0.safetensors")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PromptStore]:
    the_store = PromptStore(tmp_path, 100 * KIB)
    yield the_store
    the_store.close()


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "work" / "nonce"
    directory.mkdir(parents=True)
    return directory


def test_all_files_of_the_manifest_are_links_to_those_that_are_kept(
    store: PromptStore, work_dir: Path, tmp_path: Path
) -> None:
    cache = keep(store, tmp_path)
    lent = lend(cache, work_dir)
    names = {path.relative_to(lent) for path in lent.rglob("*") if path.is_file()}
    assert names == {ENTRY, Path("version", "index.json")}
    assert all((lent / name).samefile(Path(cache.directory) / name) for name in names)
    assert lent.is_relative_to(work_dir)


def test_the_server_is_told_where_they_are(
    store: PromptStore, work_dir: Path, tmp_path: Path
) -> None:
    plan = plan_of(keep(store, tmp_path))
    variables = furnish(plan, work_dir)
    told = json.loads(variables[kept_prompts.VARIABLE])
    assert (Path(told["directory"]) / ENTRY).is_file()
    assert Path(told["directory"]).parent == work_dir


def test_where_nothing_is_kept_nothing_is_lent(work_dir: Path, tmp_path: Path) -> None:
    cache = PromptCache(str(tmp_path / "none"), 1)
    assert lend(cache, work_dir) == tmp_path / "none"
    assert list(work_dir.iterdir()) == []


def test_what_is_removed_takes_no_room_in_the_directories_of_servers(
    store: PromptStore, work_dir: Path, tmp_path: Path
) -> None:
    cache = keep(store, tmp_path)
    lent = lend(cache, work_dir)
    with (Path(cache.directory) / ENTRY).open("rb") as file:
        store.forget("m")
        store.flush()
        assert os.fstat(file.fileno()).st_nlink == 0
    assert not lent.exists()


def test_what_another_server_replaces_takes_no_room_either(
    store: PromptStore, work_dir: Path, tmp_path: Path
) -> None:
    cache = keep(store, tmp_path)
    lent = lend(cache, work_dir)
    end(store, plan_of(cache), tmp_path / "work" / "other", 10 * KIB)
    assert store.find("m", KEY, 20 * KIB).tokens == 7
    assert not lent.exists()


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_removed_while_it_is_lent_is_not(
    store: PromptStore, work_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    cache = keep(store, tmp_path)
    link = lending._link

    def removed_meanwhile(names: Iterable[str], opened: int, lent: Path) -> None:
        if when == "before":
            store.forget("m")
        link(names, opened, lent)
        if when == "after":
            store.forget("m")

    monkeypatch.setattr(lending, "_link", removed_meanwhile)
    assert lend(cache, work_dir) == Path(cache.directory)
    assert list(work_dir.iterdir()) == []


def test_on_a_disk_without_hard_links_the_server_reads_what_is_kept(
    store: PromptStore, work_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError

    cache = keep(store, tmp_path)
    monkeypatch.setattr(os, "link", refused)
    assert lend(cache, work_dir) == Path(cache.directory)
    assert list(work_dir.iterdir()) == []
