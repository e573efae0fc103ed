"""Reading the configuration again, and what a reload cannot apply."""

import os
import threading
from pathlib import Path

import pytest

from pool_service.config import Config, ConfigError, ConfigSource, restart_needed
from pool_service.config.errors import tables
from tests.config.conftest import Read


def test_a_source_reads_the_file_as_it_is_now_below_the_same_variables_and_flags(
    tmp_path: Path,
) -> None:
    file = tmp_path / "pool.toml"
    source = ConfigSource(
        None,
        {"max_starts": 3},
        {"POOL_SERVICE_CONFIG": str(file), "POOL_SERVICE_HISTORY": "77"},
    )
    file.write_text("[models.a]\n[service]\nhistory = 88")
    assert list(source.load().models) == ["a"]
    file.write_text("[models.b]\n[service]\nmax_starts = 9")
    config = source.load()
    assert list(config.models) == ["b"]
    assert (config.service.max_starts, config.service.history) == (3, 77)


def test_a_source_reports_what_became_wrong(tmp_path: Path) -> None:
    file = tmp_path / "pool.toml"
    file.write_text("")
    source = ConfigSource(file, {}, {})
    source.load()
    file.write_text("[service]\nlistn = 3\nhistory = 1")
    with pytest.raises(ConfigError) as error:
        source.load()
    assert len(error.value.problems) == 2


@pytest.mark.parametrize("content", ["", " \n\n"])
def test_a_file_that_was_just_emptied_is_not_taken_for_what_is_meant(
    tmp_path: Path, content: str
) -> None:
    file = tmp_path / "pool.toml"
    file.write_text("[models.a]")
    source = ConfigSource(file, {}, {})
    file.write_text(content)
    with pytest.raises(ConfigError, match="is empty"):
        source.load_again()
    assert source.load().models == {}
    file.write_text("# nothing")
    assert source.load_again().models == {}


@pytest.mark.parametrize("what", ["a pipe", "without end", "a directory", "a link to itself"])
def test_what_took_the_place_of_the_file_holds_up_no_reload(tmp_path: Path, what: str) -> None:
    """A pipe that nobody writes to would never be read; then no later reload had its turn."""
    file = tmp_path / "pool.toml"
    source = ConfigSource(file, {}, {})
    if what == "a pipe":
        os.mkfifo(file)
    elif what == "without end":
        file.touch()
        os.truncate(file, 1 << 40)
    elif what == "a directory":
        file.mkdir()
    else:
        file.symlink_to(file)
    with pytest.raises(ConfigError, match="cannot read"):
        source.load_again()


def test_a_configuration_may_come_from_a_pipe_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "pool.toml"
    os.mkfifo(file)
    writer = threading.Thread(target=file.write_text, args=("[models.a]",))
    writer.start()
    assert list(ConfigSource(file, {}, {}).load().models) == ["a"]
    writer.join()


def test_nothing_changed_needs_no_restart(read: Read) -> None:
    assert restart_needed(read(""), read("[models.x]")) == ()


@pytest.mark.parametrize(
    "change",
    [
        "[service]\nmax_starts = 2\nonly_listed = true\nbackoff_initial = 9\nprobe_limit = 9",
        '[memory]\nbudget = "9 GB"\nqueue_limit = 2',
        '[runtime]\ncommand = ["serve", "{port}"]\nenvironment = { A = "1" }',
        '[runtimes.x]\ncommand = ["serve", "{port}"]',
        (
            '[runtimes.x]\ncommand = ["serve", "{port}"]\nhealth_path = "/h"\nbusy_path = "/b"\n'
            'busy_values = ["/n"]\nuse_values = ["/u"]'
        ),
        "[defaults]\nkeep_alive = 9",
        "[groups.g]",
        "[models.x]\npinned = true",
    ],
)
def test_what_a_reload_applies_needs_no_restart(read: Read, change: str) -> None:
    assert restart_needed(read(""), read(change)) == ()


def test_what_is_read_at_the_start_alone_is_reported(read: Read) -> None:
    changed = read("""
        [service]
        listen = ["127.0.0.1:1"]
        max_starts = 2
        state_dir = "/s"
        data_dir = "/d"
        keep_servers = true
        with_gateway = true
        replace = true
        recovery_timeout = 1
        orphan_grace = 1
        history = 77
        log_format = "json"
        log_level = "debug"
        [logs]
        max_bytes = "1MiB"
        keep = 1
    """)
    told = restart_needed(read(""), changed)
    assert told == restart_needed(changed, read(""))
    applied = {name.removeprefix("service.") for name in told} & set(
        tables(Config)["service"].model_fields
    )
    assert applied == {
        *(
            "listen",
            "state_dir",
            "data_dir",
            "with_gateway",
            "keep_servers",
            "replace",
            "recovery_timeout",
        ),
        *("orphan_grace", "history", "log_format", "log_level"),
    }
    assert told[-2:] == ("logs.max_bytes", "logs.keep")
