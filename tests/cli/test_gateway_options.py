"""Claims about what `gateway` refuses to begin with, each with what to do."""

import sys
from pathlib import Path

import pytest

from tests.certificates import LOCAL, Authority
from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--listen", "0.0.0.0:0"], ["without encryption", "--tls-cert"]),
        (["--listen", "[::]:0"], ["without encryption", "--tls-cert"]),
        (["--listen", "example.com:80"], ["write an address and a port"]),
        (["--listen", "127.0.0.1:99999"], ["write an address and a port"]),
        (["--listen", "127.0.0.1"], ["write an address and a port"]),
        (["--tls-cert", "/dev/null"], ["give both"]),
        (["--tls-cert", "/dev/null", "--tls-key", "/dev/null"], ["cannot be used"]),
    ],
    ids=" ".join,
)
def test_it_says_what_to_write(run: Run, options: list[str], words: list[str]) -> None:
    result = run("gateway", *options)
    assert result.exit_code == 2
    assert all(word in result.stderr for word in words), result.stderr


def test_a_key_of_another_certificate_is_refused(run: Run, tmp_path: Path) -> None:
    one, _ = Authority("one").issue(*LOCAL).write(tmp_path, "one")
    _, key = Authority("two").issue(*LOCAL).write(tmp_path, "two")
    result = run("gateway", "--tls-cert", str(one), "--tls-key", str(key))
    assert (result.exit_code, "cannot be used" in result.stderr) == (2, True)


def test_without_its_packages_it_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = [name for name in sys.modules if name.startswith("pool_service.gateway.")]
    for name in (*loaded, "pool_service.cli.gateway_service"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr("pool_service.cli.gateway_service", raising=False)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    result = run("gateway")
    assert (result.exit_code, "pool-service[gateway]" in result.stderr) == (2, True)
