"""Runs all checks in their order."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from pool_service.config import ConfigError, load
from pool_service.config.loading import file_to_load
from pool_service.config.service_source import SERVICE
from pool_service.doctor import access, installation, kernel, machine, sandbox
from pool_service.doctor.finding import Finding, Verdict

Check = Callable[[], Iterator[Finding]]

REPORT = "report this line, and your system, as a bug of pool-service"


def examine(config_file: Path | None, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Run all checks, and yield each finding as soon as it is there.

    Args:
        config_file: the configuration that the service would be started with, if any.
        environment: the variables that the service would be started with.
    """
    checks: tuple[tuple[str, Check], ...] = (
        ("platform", machine.platform_findings),
        ("open files", machine.descriptor_findings),
        ("processes", kernel.process_findings),
        ("sockets", kernel.socket_findings),
        ("memory", machine.memory_findings),
    )
    for subject, check in checks:
        yield from guarded(subject, check)
    try:
        config = load(config_file, {}, environment)
    except ConfigError as error:
        yield _of_configuration(error)
        return
    file = file_to_load(config_file, environment, SERVICE)
    yield Finding("configuration", Verdict.OK, str(file or "none; the defaults apply"))
    checks = (
        ("budget", partial(machine.budget_findings, config)),
        ("state directory", partial(installation.state_findings, config)),
        ("runtime", partial(installation.runtime_findings, config)),
        ("default socket", partial(access.socket_findings, config, environment)),
        ("certificates", partial(access.certificate_findings, config, time.time())),
        ("sandbox", partial(sandbox.sandbox_findings, config)),
        ("fleet", partial(installation.fleet_findings, config)),
        ("registration", partial(installation.registration_findings, config)),
        ("service", partial(installation.service_findings, config)),
        ("metrics", partial(installation.http_findings, config)),
        ("models", partial(installation.model_findings, config, environment)),
        ("counts of requests", partial(installation.count_findings, config)),
        ("hub cache", partial(installation.cache_findings, environment)),
    )
    for subject, check in checks:
        yield from guarded(subject, check)


def guarded(subject: str, check: Check) -> Iterator[Finding]:
    """Yield the findings of a check; a failure of the check itself becomes a finding."""
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - the other checks go on
        found = f"the check failed: {type(error).__name__}: {error}"
        yield Finding(subject, Verdict.BROKEN, found, REPORT)


def _of_configuration(error: ConfigError) -> Finding:
    found = "; ".join((error.headline, *error.problems))
    remedy = "correct the file, and run the doctor again"
    return Finding("configuration", Verdict.BROKEN, found, remedy)
