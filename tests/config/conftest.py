from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pool_service.config import Config, ConfigError, load

GIB = 1024**3
Read = Callable[..., Config]
Refusal = Callable[..., str]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Loads a file with this text, below an environment and flags."""

    def read_text(
        text: str,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> Config:
        file = tmp_path / "pool.toml"
        file.write_text(text)
        return load(file, flags or {}, environ or {})

    return read_text


@pytest.fixture
def refusal(read: Read, tmp_path: Path) -> Refusal:
    """Loads what is wrong, and returns what is told of it."""

    def refused(*arguments: object) -> str:
        with pytest.raises(ConfigError) as error:
            read(*arguments)
        message = str(error.value)
        beginning = f"the configuration in {tmp_path / 'pool.toml'} is not valid: "
        assert message.startswith(beginning)
        assert message.isprintable()
        return message.removeprefix(beginning)

    return refused
