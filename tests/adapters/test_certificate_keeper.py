"""Claims about certificates that are replaced while the service runs."""

import time
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.tls import certificate_keeper
from pool_service.adapters.tls.certificate_files import CertificateFiles, CertificateFlaw, load
from pool_service.adapters.tls.certificate_keeper import CertificateKeeper
from tests.certificates import LOCAL, Authority, written

AUTHORITY = Authority("authority")
FIRST, SECOND = (AUTHORITY.issue(*LOCAL) for _ in range(2))


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return CertificateFiles(*FIRST.write(tmp_path, "service"))


def test_without_good_files_there_is_none(files: CertificateFiles) -> None:
    files.key.unlink()
    with pytest.raises(CertificateFlaw):
        CertificateKeeper(files)


async def test_a_pair_that_is_replaced_is_the_present_one(files: CertificateFiles) -> None:
    keeper = CertificateKeeper(files)
    before = keeper.current
    await keeper.refresh()
    assert keeper.current is before
    SECOND.write(files.cert.parent, "service")
    await keeper.refresh()
    assert keeper.current.chain == SECOND.chain
    assert keeper.notices == []


async def test_a_bad_pair_keeps_the_last_good_one_and_is_told_of_once(
    files: CertificateFiles,
) -> None:
    keeper = CertificateKeeper(files)
    written(files.cert, SECOND.chain)
    with capture_logs() as lines:
        for _ in range(3):
            await keeper.refresh()
    assert keeper.current.chain == FIRST.chain
    (notice,) = keeper.notices
    assert "the new certificate is not used" in notice
    assert "is not the key of" in notice
    assert [line["log_level"] for line in lines] == ["error"]
    written(files.key, SECOND.key)
    await keeper.refresh()
    assert keeper.current.chain == SECOND.chain
    assert keeper.notices == []


async def test_a_key_that_becomes_readable_by_others_is_told_of(files: CertificateFiles) -> None:
    keeper = CertificateKeeper(files)
    set_mode(files.key, 0o644)
    await keeper.refresh()
    assert "chmod 600" in keeper.notices[0]
    set_mode(files.key, 0o600)
    await keeper.refresh()
    assert keeper.notices == []


async def test_what_is_put_right_around_the_files_is_enough(files: CertificateFiles) -> None:
    keeper = CertificateKeeper(files)
    set_mode(files.cert.parent, 0o777)
    SECOND.write(files.cert.parent, "service")
    await keeper.refresh()
    assert "other users could replace" in keeper.notices[0]
    set_mode(files.cert.parent, 0o700)
    await keeper.refresh()
    assert keeper.current.chain == SECOND.chain
    assert keeper.notices == []


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


async def test_files_that_change_while_they_are_read_are_read_again(
    files: CertificateFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = CertificateKeeper(files)
    written(files.cert, SECOND.chain)

    def slow(read: CertificateFiles) -> object:
        try:
            return load(read)
        finally:
            written(files.key, SECOND.key)

    with monkeypatch.context() as patched:
        patched.setattr(certificate_keeper, "load", slow)
        await keeper.refresh()
    assert keeper.current.chain == FIRST.chain
    assert keeper.notices == []
    await keeper.refresh()
    assert keeper.current.chain == SECOND.chain


async def test_an_end_that_is_near_is_told_of_at_the_start_and_whenever_asked(
    tmp_path: Path,
) -> None:
    short = AUTHORITY.issue(*LOCAL, lifetime=timedelta(days=10))
    now = time.time()
    with capture_logs() as lines:
        keeper = CertificateKeeper(
            CertificateFiles(*short.write(tmp_path, "short")), wall=lambda: now
        )
    assert keeper.notices == ["the certificate in tls.cert expires in 9 days: replace it"]
    assert [line["log_level"] for line in lines] == ["warning"]
    now += 11 * 86400
    assert keeper.notices == ["the certificate in tls.cert has expired: replace it"]
