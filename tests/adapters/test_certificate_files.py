"""Claims about certificates in files: what can be used, and what is wrong with the others."""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from pool_service.adapters.tls.certificate_files import (
    CertificateFiles,
    CertificateFlaw,
    Validity,
    load,
)
from tests.certificates import LOCAL, Authority, Issued, written

AUTHORITY = Authority("authority")
GOOD = AUTHORITY.issue(*LOCAL)
DAY_S = 86400.0


def files(place: Path, issued: Issued = GOOD, client_ca: bytes | None = None) -> CertificateFiles:
    cert, key = issued.write(place, "service")
    ca = written(place / "ca.pem", client_ca) if client_ca is not None else None
    return CertificateFiles(cert, key, ca)


def flaw(wrong: CertificateFiles) -> CertificateFlaw:
    with pytest.raises(CertificateFlaw) as caught:
        load(wrong)
    return caught.value


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def test_a_certificate_its_key_and_the_authorities_are_what_the_files_hold(tmp_path: Path) -> None:
    both = AUTHORITY.certificate + Authority("other").certificate
    found = load(files(tmp_path, client_ca=both))
    assert (found.chain, found.key, found.client_ca) == (GOOD.chain, GOOD.key, both)
    assert [each.key for each in found.validities] == ["tls.cert", "tls.client_ca", "tls.client_ca"]
    for each in found.validities:
        assert 29 * DAY_S < each.ends_at - time.time() <= 30 * DAY_S
        assert not each.notice(time.time())
    assert load(files(tmp_path)).client_ca is None


def test_one_that_has_expired_is_used_and_told_of(tmp_path: Path) -> None:
    expired = AUTHORITY.issue(*LOCAL, lifetime=timedelta(days=-1))
    (validity,) = load(files(tmp_path, expired)).validities
    assert validity.notice(time.time()) == "the certificate in tls.cert has expired: replace it"


@pytest.mark.parametrize(
    ("life", "left", "told"),
    [
        (90 * DAY_S, 15 * DAY_S, ""),
        (90 * DAY_S, 13.5 * DAY_S, "expires in 13 days"),
        (6 * DAY_S, 3 * DAY_S, ""),
        (6 * DAY_S, 1.9 * DAY_S, "expires in 45 h"),
        (DAY_S, DAY_S / 2, ""),
        (DAY_S, DAY_S / 4, "expires in 6 h"),
        (90 * DAY_S, 0.0, "has expired"),
        (90 * DAY_S, 91 * DAY_S, "is not valid yet"),
    ],
)
def test_an_end_is_told_of_before_it_comes_as_the_life_is_long(
    life: float, left: float, told: str
) -> None:
    notice = Validity("tls.cert", begins_at=0.0, ends_at=life).notice(life - left)
    assert (told in notice) if told else not notice


def test_the_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    other = Issued(GOOD.chain, AUTHORITY.issue().private)
    found = flaw(files(tmp_path, other))
    assert (found.key, "is not the key of" in found.what) == ("key", True)


def test_a_key_with_a_password_is_refused_without_asking_for_it(tmp_path: Path) -> None:
    right = files(tmp_path)
    written(right.key, GOOD.encrypted_key(b"secret"))
    assert "has a password" in flaw(right).what


@pytest.mark.parametrize("mode", [0o604, 0o601, 0o644, 0o660])
def test_a_key_that_others_can_read_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    right = files(tmp_path)
    right.key.chmod(mode)
    found = flaw(right)
    assert found.key == "key"
    assert f"chmod 600 {right.key}" in found.what


def test_a_group_may_read_the_key(tmp_path: Path) -> None:
    right = files(tmp_path)
    right.key.chmod(0o640)
    load(right)


@pytest.mark.parametrize("key", ["cert", "key", "client_ca"])
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: path.unlink(), id="missing"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"\xff\0 no PEM"), id="no-pem"),
        pytest.param(lambda path: path.write_bytes(b"#" * 1024 * 1024 + b"#"), id="too-large"),
        pytest.param(directory, id="directory"),
        pytest.param(pipe, id="pipe"),
    ],
)
def test_a_file_that_cannot_be_one_is_refused_and_named(
    tmp_path: Path, key: str, spoil: Callable[[Path], object]
) -> None:
    right = files(tmp_path, client_ca=AUTHORITY.certificate)
    path = dict(right.named())[key]
    spoil(path)
    found = flaw(right)
    assert str(path) in str(found)


def test_a_certificate_of_no_authority_is_none(tmp_path: Path) -> None:
    found = flaw(files(tmp_path, client_ca=GOOD.chain))
    assert (found.key, "no certificate of an authority" in found.what) == ("client_ca", True)


@pytest.mark.parametrize("key", ["cert", "key", "client_ca"])
def test_files_that_other_users_could_replace_are_refused(tmp_path: Path, key: str) -> None:
    right = files(tmp_path, client_ca=AUTHORITY.certificate)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    path = dict(right.named())[key]
    moved = path.rename(tmp_path / "open" / path.name)
    named = {**dict(right.named()), key: moved}
    found = flaw(CertificateFiles(named["cert"], named["key"], named["client_ca"]))
    assert (found.key, "other users could replace" in found.what) == (key, True)


def test_a_flaw_says_the_key_of_the_section_that_names_the_file(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(CertificateFlaw) as caught:
        load(CertificateFiles(missing, missing, missing, "member_tls", "ca"))
    assert str(caught.value).startswith(f"member_tls.cert: cannot read {missing}")
