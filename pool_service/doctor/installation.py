"""Checks of what the configuration needs: state directory, runtimes, addresses, models."""

import asyncio
import errno
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from pool_service.adapters.models.files import hub_cache, locate
from pool_service.adapters.runtime.advertised import address_flaw, binding_doubt, key_doubt
from pool_service.adapters.runtime.program import CommandRuntime
from pool_service.adapters.system.os_errors import reason
from pool_service.address import Address, AddressError
from pool_service.config import Config
from pool_service.core.errors import PoolError as LocalError
from pool_service.core.units import size
from pool_service.doctor.finding import Finding, Verdict
from pool_service.registration import RegistrationFlaw, registered_address, registrar_of
from pool_service_client import (
    DeadlineExceeded,
    PoolClient,
    PoolError,
    PoolUnavailable,
    TokenMissing,
)

SERVICE_TIMEOUT_S: Final = 3.0
_HEALTH_STATUSES: Final = (b"HTTP/1.1 200 OK", b"HTTP/1.1 503 Service Unavailable")
_STATE_REMEDY: Final = (
    "choose another one with --state-dir or service.state_dir, on a local disk and of your own"
)


def state_findings(config: Config) -> Iterator[Finding]:
    """Check that the state directory belongs to this user, can be written, and supports locks.

    Uses a temporary file, since a guard or a new service may wait for the directory's own lock.
    """
    directory = config.service.state_dir
    place = next(path for path in (directory, *directory.parents) if path.exists())
    shown = str(directory) if place == directory else f"{directory} (to be made in {place})"
    try:
        if place == directory and place.stat().st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to another user")
        with tempfile.TemporaryFile(dir=place) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        found = f"{shown}: {error.strerror or error}"
        yield Finding("state directory", Verdict.BROKEN, found, _STATE_REMEDY)
        return
    yield Finding("state directory", Verdict.OK, shown)


def runtime_findings(config: Config) -> Iterator[Finding]:
    """Check that the program of each runtime is found, in a version that the service can use."""
    for name, options in config.all_runtime_options.items():
        subject = f"runtime {name}" if name else "runtime"
        try:
            found = asyncio.run(CommandRuntime(options).describe())
        except LocalError as error:
            # A named runtime is needed by some models only.
            verdict = Verdict.WARNING if name else Verdict.BROKEN
            yield Finding(subject, verdict, str(error))
            continue
        yield Finding(subject, Verdict.OK, str(found))
        for flaw in found.flaws:
            yield Finding(subject, Verdict.WARNING, flaw)


def count_findings(config: Config) -> Iterator[Finding]:
    """Check that no setting of a model makes vllm-mlx leave requests out of its counts."""
    runtimes = {name: CommandRuntime(one) for name, one in config.all_runtime_options.items()}
    for name, settings in sorted(config.catalogue.models.items()):
        for key, what in asyncio.run(runtimes[settings.runtime].use_costs(settings)):
            # Those of its runtime's command are told of the runtime.
            if key != "command":
                yield Finding(f"model {name}", Verdict.WARNING, f"{key}: {what}")


def fleet_findings(config: Config) -> Iterator[Finding]:
    """Check that the address at which servers are to listen is one of this machine."""
    host = config.fleet.advertise
    if flaw := address_flaw(host):
        yield Finding("fleet", Verdict.BROKEN, f"no server can start: {flaw}")
    elif host:
        yield Finding("fleet", Verdict.OK, f"servers listen at {host}, an address of this machine")
    for name, options in config.all_runtime_options.items():
        section = f"[runtimes.{name}]" if name else "[runtime]"
        for doubt in filter(None, (binding_doubt(options), key_doubt(options))):
            yield Finding("fleet", Verdict.WARNING, f"{section} command: {doubt}")


def registration_findings(config: Config) -> Iterator[Finding]:
    """Check that fronts will find the service where it registers itself, if it does."""
    if config.fleet.registry_keys is None:
        return
    address = config.fleet.registered_address
    try:
        registrar_of(config)
    except RegistrationFlaw as flaw:
        yield Finding("registration", Verdict.BROKEN, str(flaw))
        return
    try:
        found = asyncio.run(registered_address(config))
    except RegistrationFlaw as flaw:
        remedy = "fronts do not find the service meanwhile; see [etcd] of the configuration"
        yield Finding("registration", Verdict.WARNING, str(flaw), remedy)
        return
    if found == address:
        yield Finding("registration", Verdict.OK, f"fronts find the service at {address}")
    elif found is None:
        told = "etcd answers; the service is not registered, as it is not while it does not run"
        yield Finding("registration", Verdict.INFO, told)
    else:
        told = f"another member is registered as {config.fleet.name}, at {found}"
        remedy = "give each member a fleet.name of its own, or wait until that one has ended"
        yield Finding("registration", Verdict.WARNING, told, remedy)


def service_findings(config: Config) -> Iterator[Finding]:
    """Check that the service runs, or that its configured addresses are free."""
    for text in config.service.listen:
        try:
            address = Address.parse(text)
        except AddressError as error:
            yield Finding("service", Verdict.BROKEN, str(error), "correct service.listen")
            continue
        if address.is_local:
            yield from _findings_at(address)
        else:
            found = f"{text} is for other machines, and was not asked whether it runs there"
            yield Finding("service", Verdict.INFO, found)


def _findings_at(address: Address) -> Iterator[Finding]:
    """Check that the service runs at an address of this machine, or that it is free."""
    text = address.text
    try:
        client = PoolClient.connect(text)
    except ValueError as error:
        found = f"it was not asked whether it runs at {text}: {error}"
        yield Finding("service", Verdict.WARNING, found, "correct or unset the variable")
        return
    try:
        with client as pool:
            page = next(pool.pages(timeout=SERVICE_TIMEOUT_S))
    except (PoolUnavailable, DeadlineExceeded):
        yield _of_unanswered_address(address)
        return
    except TokenMissing:
        yield Finding(
            "service", Verdict.OK, f"it runs at {text}, and lets nobody in without a token"
        )
        return
    except PoolError as error:
        found = f"it runs at {text}, but refuses calls: {error}"
        yield Finding("service", Verdict.WARNING, found, "wait, or see the service's log")
        return
    yield Finding("service", Verdict.OK, f"it runs at {text}, servers: {page.totals.servers}")
    for notice in page.notices:
        yield Finding("service", Verdict.WARNING, notice, "see the service's log")


def http_findings(config: Config) -> Iterator[Finding]:
    """Check that metrics are served, or that their address is free, if there is to be one."""
    listen = config.http.listen
    if not listen:
        return
    address = Address.parse(listen)
    try:
        status = _status_of_health(address)
    except OSError:
        finding = _of_unanswered_address(address)
        yield replace(finding, subject="metrics")
        return
    if status in _HEALTH_STATUSES:
        yield Finding("metrics", Verdict.OK, f"they are served at {listen}")
    else:
        remedy = "stop it, or choose another address (http.listen)"
        yield Finding("metrics", Verdict.BROKEN, f"another program answers at {listen}", remedy)


def _status_of_health(address: Address) -> bytes:
    """Return the first line of what /healthz answers at an address. Raises OSError."""
    host, _, port = address.text.rpartition(":")
    family = socket.AF_UNIX if address.path else socket.AF_INET6 if "[" in host else socket.AF_INET
    with socket.socket(family) as connection, connection.makefile("rb") as answer:
        connection.settimeout(SERVICE_TIMEOUT_S)
        connection.connect(str(address.path) if address.path else (host.strip("[]"), int(port)))
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        return answer.readline(100).strip()


def _of_unanswered_address(address: Address) -> Finding:
    """Return whether an address at which no service answers is free."""
    if address.path is not None:
        return Finding("service", Verdict.INFO, f"it does not run at {address.text}")
    host, _, port = address.text.rpartition(":")
    host = host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, int(port)), family=family):
            return Finding("service", Verdict.INFO, f"it does not run; {address.text} is free")
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        remedy = "stop the other program, or choose another port (--listen)"
        found = (
            f"another program listens on {address.text}"
            if taken
            else f"{address.text}: {reason(error)}"
        )
        return Finding("service", Verdict.BROKEN, found, remedy)


def model_findings(config: Config, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Check which of the configured models are on disk; only those that vllm-mlx loads."""
    runtimes = config.all_runtime_options
    for name, settings in sorted(config.catalogue.models.items()):
        if runtimes[settings.runtime].effective_kind != "vllm-mlx":
            continue
        subject, model = f"model {name}", settings.runtime_model
        is_local = model.startswith(os.sep)
        remedy = f"complete {model}" if is_local else f"pool-service pull {name}"
        files = locate(model, {**environment, **dict(settings.environment)})
        if files is None:
            remedy = "correct its runtime_model" if is_local else remedy
            yield Finding(subject, Verdict.INFO, f"{model} is not on this machine", remedy)
        elif not files.complete:
            found = f"{files.path} lacks some of its files"
            yield Finding(subject, Verdict.WARNING, found, remedy)
        else:
            found = f"{size(files.weight_bytes)} of weights in {files.path}"
            yield Finding(subject, Verdict.OK, found)


def cache_findings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Check that the Hugging Face cache can be listed, which macOS may forbid."""
    cache = hub_cache(environment)
    if cache is None or not cache.exists():
        yield Finding(
            "hub cache", Verdict.INFO, f"there is none yet ({cache or 'no home directory'})"
        )
        return
    try:
        count = sum(1 for path in cache.iterdir() if path.name.startswith("models--"))
    except OSError as error:
        remedy = "let the account of the service read it, or set HF_HOME to a directory that it can"
        yield Finding("hub cache", Verdict.WARNING, f"{cache}: {error.strerror}", remedy)
        return
    yield Finding("hub cache", Verdict.OK, f"models in {cache}: {count}")
