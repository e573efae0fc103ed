"""Keeps the certificates of the service up to date while it runs."""

import asyncio
import time
from collections.abc import Callable

import structlog

from pool_service.adapters.tls.certificate_files import (
    CertificateFiles,
    CertificateFlaw,
    Certificates,
    Stamps,
    load,
    stamps_of,
)

CHECK_INTERVAL_S = 5.0
"""Time between two looks at the files, each a system call for each file."""

log = structlog.get_logger("pool_service.tls")


class CertificateKeeper:
    """Loads the certificates, and again whenever their files change.

    While the files cannot be used, `current` stays as it was, and `notices` says why. `current` is
    read by threads of gRPC.
    """

    def __init__(self, files: CertificateFiles, wall: Callable[[], float] = time.time) -> None:
        """Load the files. Raises CertificateFlaw. wall: the time in seconds since the epoch."""
        self._files = files
        self._wall = wall
        self._stamps = stamps_of(files)
        self._flaw: CertificateFlaw | None = None
        self.current: Certificates = load(files)
        self._log_validity()

    @property
    def notices(self) -> list[str]:
        """What is wrong with the certificates, or will be soon: a sentence each."""
        now = self._wall()
        told = [each.notice(now) for each in self.current.validities]
        if self._flaw is not None:
            told.insert(0, f"the new certificate is not used, but the one before: {self._flaw}")
        return list(dict.fromkeys(filter(None, told)))

    async def keep(self) -> None:
        """Look at the files again and again, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            await self.refresh()

    async def refresh(self) -> None:
        """Load the files if they have changed."""
        stamps, found = await asyncio.to_thread(self._look)
        if found is None:
            return
        self._stamps = stamps
        if isinstance(found, CertificateFlaw):
            if str(found) != str(self._flaw):
                log.error("the new certificate is not used", why=str(found))
            self._flaw = found
            return
        self.current, self._flaw = found, None
        log.info("the new certificate is used for new connections")
        self._log_validity()

    def _look(self) -> tuple[Stamps, Certificates | CertificateFlaw | None]:
        """Return what the changed files hold, and when that was so; None: nothing to go by.

        Files that change while they are read are left to the next look. Those that cannot be used
        are read each time: what is wrong may be mended elsewhere, as in their directory.
        """
        stamps = stamps_of(self._files)
        if stamps == self._stamps and self._flaw is None:
            return stamps, None
        found: Certificates | CertificateFlaw
        try:
            found = load(self._files)
        except CertificateFlaw as flaw:
            found = flaw
        return stamps, found if stamps_of(self._files) == stamps else None

    def _log_validity(self) -> None:
        for notice in self.notices:
            log.warning("a certificate must be replaced", why=notice)
