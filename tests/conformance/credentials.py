"""Certificates for the worlds that other machines could reach, and for their callers."""

from pathlib import Path

from tests.certificates import LOCAL, Authority, dns, uri, written

SERVICE_NAME = "pool.test"
ENGINE = "spiffe://home/engine"


def write_certificates(directory: Path) -> None:
    """Write what services and callers show, each as NAME.pem and NAME.key, and authorities.

    service: also for SERVICE_NAME. engine, nobody: of callers, by the authority callers.pem.
    stranger: as engine, by another authority. services.pem: what callers trust; others.pem: not.
    """
    directory.mkdir()
    services, callers, others = (Authority(name) for name in ("services", "callers", "others"))
    for authority in (services, callers, others):
        written(directory / f"{authority.name}.pem", authority.certificate)
    services.issue(*LOCAL, dns(SERVICE_NAME)).write(directory, "service")
    callers.issue(uri(ENGINE)).write(directory, "engine")
    callers.issue(uri("spiffe://home/nobody")).write(directory, "nobody")
    others.issue(uri(ENGINE)).write(directory, "stranger")
    _, exposed = callers.issue(uri(ENGINE)).write(directory, "exposed")
    exposed.chmod(0o644)
