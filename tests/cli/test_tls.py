"""The commands call a service on another machine: by TLS, and with a certificate, if any."""

from pathlib import Path

import pytest

from tests.certificates import LOCAL, uri, written
from tests.cli.conftest import Run
from tests.client.test_tls import AUTHORITY, CALLERS
from tests.client.test_tls import service as telling


def test_options_and_variables_of_tls_lead_to_a_service_elsewhere(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "token", b"pst_x")
    engine = CALLERS.issue(uri("spiffe://home/engine"))
    ca = written(tmp_path / "ca.pem", AUTHORITY.certificate)
    cert, key = engine.write(tmp_path, "engine")
    written(tmp_path / "callers.pem", CALLERS.certificate)
    options = ("--ca", str(ca), "--cert", str(cert), "--key", str(key), "--token-file", str(file))
    with telling(AUTHORITY.issue(*LOCAL), CALLERS) as port:
        address = f"localhost:{port}"
        shown = "m: forgot the runtime model Bearer pst_x spiffe://home/engine\n"
        assert run(*options, "forget", "m", address=address).output == shown
        assert run("forget", *options, "m", address=address).output == shown
        result = run("--ca", str(key.with_name("callers.pem")), "forget", "m", address=address)
        assert (result.exit_code, "issued it with --ca" in result.stderr) == (3, True)
        result = run("--ca", str(ca), "forget", "m", address="unix:/s")
        assert (result.exit_code, "no TLS by a unix socket" in result.stderr) == (2, True)
        monkeypatch.setattr("pool_service_client.tls.is_this_machine", lambda _: False)
        for name, path in (("CA", ca), ("CERT", cert), ("KEY", key), ("TOKEN_FILE", file)):
            monkeypatch.setenv(f"POOL_SERVICE_{name}", str(path))
        assert run("forget", "m", address=address).output == shown
