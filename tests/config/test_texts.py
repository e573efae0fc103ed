"""Claims about the encodings of a file, and about variables and white space in paths."""

import codecs
from pathlib import Path

import pytest

from pool_service.config import ConfigError, load
from tests.config.conftest import Refusal


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_a_file_of_an_editor_of_windows_is_read(tmp_path: Path, mark: bytes, ending: bytes) -> None:
    file = tmp_path / "pool.toml"
    file.write_bytes(mark + ending.join((b"[service]", b"history = 77", b"")))
    assert load(file, {}, {}).service.history == 77


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_a_file_in_another_encoding_is_refused_with_the_right_one(
    tmp_path: Path, encoding: str
) -> None:
    file = tmp_path / "pool.toml"
    file.write_bytes("[service]\n".encode(encoding))
    with pytest.raises(ConfigError, match=r"pool\.toml is UTF-16 or UTF-32; save it as UTF-8"):
        load(file, {}, {})


def test_variables_in_paths_are_filled_in_wherever_a_path_may_be(
    socket_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", str(socket_dir))
    file = socket_dir / "pool.toml"
    file.write_text(
        """
        [service]
        state_dir = "$PLACE/state"
        data_dir = "${PLACE}/data"
        listen = ["unix:$PLACE/s"]
        [runtime]
        command = ["$PLACE/serve", "-c", "$PLACE/x ${y}"]
        [models.m]
        runtime_model = "${PLACE}/m"
        arguments = ["--a", "$PLACE/a", "--b=../b", "--c", "$5", "--d={\\"x\\": \\"~/x\\"}"]
        """
    )
    config = load(Path("$PLACE/pool.toml"), {}, {})
    service, model = config.service, config.models["m"]
    assert (service.state_dir, service.data_dir) == (socket_dir / "state", socket_dir / "data")
    assert service.listen == (f"unix:{socket_dir}/s",)
    assert config.runtime.command[1:] == ("-c", "$PLACE/x ${y}")
    assert model.runtime_model == f"{socket_dir}/m"
    arguments = (
        "--a",
        f"{socket_dir}/a",
        f"--b={Path.cwd()}/../b",
        "--c",
        "$5",
        '--d={"x": "~/x"}',
    )
    assert model.arguments == arguments


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("service.state_dir", '"$NO_SUCH_VARIABLE/x"'),
        ("service.listen", '["unix:$NO_SUCH_VARIABLE/x"]'),
        ("runtime.command", '["$NO_SUCH_VARIABLE/x"]'),
        ('models."m".runtime_model', '"${NO_SUCH_VARIABLE}/m"'),
        ('models."m".runtime_model', '"/models/$NO_SUCH_VARIABLE"'),
        ("defaults.arguments", '["--x=$NO_SUCH_VARIABLE/m"]'),
    ],
)
def test_a_variable_that_is_not_set_is_reported_with_the_key(
    refusal: Refusal, key: str, value: str
) -> None:
    told = refusal(f"{key} = {value}")
    assert told.startswith(f"{key}: ")
    assert "names the variable NO_SUCH_VARIABLE, which is not set" in told


@pytest.mark.parametrize("text", ["/x ", "/x\\r", " "])
def test_a_directory_with_white_space_at_an_end_is_a_slip(refusal: Refusal, text: str) -> None:
    assert "service.state_dir: " in refusal(f'service.state_dir = "{text}"')
