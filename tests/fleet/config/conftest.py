from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pool_service.fleet.config import ConfigError, FrontConfig, front_source

Read = Callable[..., FrontConfig]
Refusal = Callable[..., str]

ONE = '[members]\none = "127.0.0.1:50051"\n'
"""The least that a front needs."""

FILES = '[member_tls]\nca = "/f/ca"\ncert = "/f/cert"\nkey = "/f/key"\n'

TLS = '[tls]\ncert = "/f/cert"\nkey = "/f/key"\nclient_ca = "/f/ca"\n'


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Loads a file with this text, below an environment and flags."""

    def read_text(
        text: str,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> FrontConfig:
        file = tmp_path / "fleet.toml"
        file.write_text(text)
        return front_source(file, flags or {}, environ or {}).load()

    return read_text


@pytest.fixture
def refusal(read: Read, tmp_path: Path) -> Refusal:
    """Loads what is wrong, and returns what is told of it."""

    def refused(*arguments: object) -> str:
        with pytest.raises(ConfigError) as error:
            read(*arguments)
        message = str(error.value)
        beginning = f"the configuration in {tmp_path / 'fleet.toml'} is not valid: "
        assert message.startswith(beginning)
        assert message.isprintable()
        return message.removeprefix(beginning)

    return refused
