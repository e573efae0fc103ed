"""A configuration that others could change is none."""

from pathlib import Path

import pytest

from pool_service.config import ConfigError, ConfigSource, load


@pytest.fixture
def file(tmp_path: Path) -> Path:
    directory = tmp_path / "etc"
    directory.mkdir(mode=0o755)
    file = directory / "pool.toml"
    file.write_text("[service]\nonly_listed = true\n")
    return file


def test_one_that_only_we_can_change_is_taken(file: Path) -> None:
    assert load(file, {}, {}).service.only_listed
    file.parent.chmod(0o1777)
    assert load(file, {}, {}).service.only_listed


@pytest.mark.parametrize("place", ["pool.toml", ""])
def test_one_that_others_could_change_is_refused_with_what_to_do(file: Path, place: str) -> None:
    (file.parent / place).chmod(0o777)
    with pytest.raises(ConfigError, match="can be written by everybody; chmod o-w '") as refused:
        load(file, {}, {})
    assert str(refused.value).isprintable()
    with pytest.raises(ConfigError, match="can be written by everybody"):
        load(None, {}, {"POOL_SERVICE_CONFIG": str(file)})
    with pytest.raises(ConfigError, match="can be written by everybody"):
        ConfigSource(file, {}, {}).load_again()


def test_where_a_link_leads_counts(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    assert load(link, {}, {}).service.only_listed
    file.chmod(0o666)
    with pytest.raises(ConfigError, match="toml can be written by everybody"):
        load(link, {}, {})
