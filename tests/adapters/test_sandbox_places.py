"""The places that a server may read for its model, and the models that are refused for them."""

from pathlib import Path

import pytest

from pool_service.adapters.sandbox.places import model_places, named_places, narrow_places
from pool_service.core.errors import ModelRejected


class Files:
    """A home with a key, a cache of models, and a model beside."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.key = self.home / ".ssh" / "id.json"
        self.weights = root / "disk" / "w.safetensors"
        self.model = root / "models" / "m"
        self.store = root / "store"
        self.blob = self.store / "models--o--m" / "blobs" / "abc"
        for file in (self.key, self.weights, self.model / "config.json", self.blob):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()

    def of(self, *paths: Path) -> tuple[str, ...]:
        return model_places("m", paths, [str(self.store)], [str(self.home)])


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path.resolve())


def test_a_model_is_its_directory(files: Files) -> None:
    assert files.of(files.model) == (str(files.model),)


def test_a_model_of_the_hubs_cache_is_its_repository(files: Files) -> None:
    snapshot = files.blob.parents[1] / "snapshots" / "rev"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    assert files.of(snapshot) == (str(files.blob.parents[1]),)


def test_a_directory_behind_a_link_counts_where_it_is(files: Files, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(files.model)
    assert files.of(tmp_path / "link") == (str(files.model),)


def test_a_link_into_a_store_and_one_of_weights_may_be_followed(files: Files) -> None:
    (files.model / "tokenizer.json").symlink_to(files.blob)
    (files.model / "model.safetensors").symlink_to(files.weights)
    assert set(files.of(files.model)) == {
        str(files.model),
        str(files.blob),
        str(files.weights),
    }


def test_a_link_inside_of_a_model_needs_nothing(files: Files) -> None:
    (files.model / "a.json").symlink_to("config.json")
    (files.model / "none.json").symlink_to("/no/such/file")
    assert files.of(files.model) == (str(files.model),)


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors", "sub"])
def test_a_link_to_anything_else_is_refused(files: Files, name: str) -> None:
    target = files.key.parent if name == "sub" else files.key
    (files.model / name).symlink_to(target)
    with pytest.raises(ModelRejected, match=f"{name} leads to {target}.*sandbox_readable"):
        files.of(files.model)


def test_a_link_to_a_whole_store_is_refused(files: Files) -> None:
    (files.model / "all").symlink_to(files.store)
    with pytest.raises(ModelRejected, match="leads to"):
        files.of(files.model)


def test_a_snapshot_is_one_of_the_hub_only_below_the_place_of_its_model(tmp_path: Path) -> None:
    for repository in ("models--o--m", "backups"):
        snapshot = tmp_path / repository / "snapshots" / "1"
        snapshot.mkdir(parents=True)
        (found,) = model_places("m", [snapshot], [], [])
        assert found == str(tmp_path / repository if repository != "backups" else snapshot)


def test_a_directory_of_weights_by_name_is_refused(files: Files) -> None:
    directory = files.home / "all.safetensors"
    directory.mkdir()
    (files.model / "x.safetensors").symlink_to(directory)
    with pytest.raises(ModelRejected, match="leads to"):
        files.of(files.model)


@pytest.mark.parametrize("place", [".", "home"])
def test_a_model_whose_directory_holds_the_home_is_refused(files: Files, place: str) -> None:
    with pytest.raises(ModelRejected, match="also holds your home"):
        files.of(files.home.parent / place)


def test_arguments_name_files_by_absolute_paths(files: Files) -> None:
    config = str(files.model / "config.json")
    words = ("--a", config, f"--b={files.weights}", "--c", "/no/such", "config.json")
    assert named_places(words, []) == (config, str(files.weights))
    assert named_places(("--d", str(files.home.parent)), [str(files.home)]) == ()


def test_places_are_without_links_and_hold_nothing_private(files: Files, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(files.model)
    places = [str(tmp_path / "link"), str(files.model), str(files.home), "/", str(files.key)]
    assert narrow_places(places, [str(files.home)]) == (str(files.model), str(files.key))
